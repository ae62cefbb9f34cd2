//! What each action does to the processes, the issuer and time.

use crate::fleet::{Action, Fleet, Reply, Why};
use crate::state::{Flaw, Held, Late, Phase, Redis, State, issue};
use crate::variants::Rules;
use crate::verbs::{invalidate, owner};
use token_manager::internals::decide;
use token_manager::store::{Claimed, Committed};

impl Fleet {
    pub fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Start(at, why) => self.start(state, at, why)?,
            Action::Claim(at, reply) => self.claim(state, at, reply),
            Action::Wake(at) => {
                let Phase::Waiting { newer_than, told } = state.processes[at].phase else { return None };
                if !self.rules.wakes(state, told) {
                    return None;
                }
                state.processes[at].phase = Phase::Asking { newer_than, again: false };
            }
            Action::Miss(at) => {
                let Phase::Waiting { newer_than, told } = state.processes[at].phase else { return None };
                self.miss(state, told)?;
                state.processes[at].phase = Phase::Asking { newer_than, again: false };
            }
            Action::Issue(at) => {
                let Phase::Granted { generation } = state.processes[at].phase else { return None };
                state.issued += 1;
                state.ghost.fetches += 1;
                state.processes[at].phase = Phase::Issued { generation, issue: state.issued, again: false };
            }
            Action::Refuse(at) | Action::LoseAnswer(at) => {
                let (Phase::Granted { generation } | Phase::Issued { generation, .. }) = state.processes[at].phase
                else {
                    return None;
                };
                state.ghost.fetches += u8::from(matches!(state.processes[at].phase, Phase::Granted { .. }));
                let unknown = action == Action::LoseAnswer(at);
                state.processes[at].phase = Phase::Failing { generation, unknown, again: false };
            }
            Action::Abandon(at) => {
                let (generation, issue) = match state.processes[at].phase {
                    Phase::Granted { generation } => (generation, 0),
                    Phase::Issued { generation, issue, .. } => (generation, issue),
                    _ => return None,
                };
                state.left.abandons -= 1;
                state.processes[at].abandoned = Some((generation, issue));
                state.processes[at].phase = Phase::Failing { generation, unknown: true, again: false };
            }
            Action::Commit(at, reply) => {
                let Phase::Issued { generation, issue, again } = state.processes[at].phase else { return None };
                let committed = self.commit(state, at, generation, issue);
                match reply {
                    Reply::Comes => {
                        take(state, at, committed, Held { generation, issue, doubted: false });
                        end(state, at);
                    }
                    Reply::IsLost if again => {
                        // The process goes on with its token alone.
                        adopt(state, at, Held { generation, issue, doubted: false });
                        end(state, at);
                    }
                    Reply::IsLost => state.processes[at].phase = Phase::Issued { generation, issue, again: true },
                }
            }
            Action::Fail(at, reply) => {
                let Phase::Failing { generation, unknown, again } = state.processes[at].phase else { return None };
                self.fail(state, at, generation, unknown);
                match reply {
                    Reply::IsLost if !again => {
                        state.processes[at].phase = Phase::Failing { generation, unknown, again: true };
                    }
                    _ => end(state, at),
                }
            }
            Action::GiveUp(at) => self.give_up(state, at),
            Action::Delay(at) => delay(state, at)?,
            Action::LateArrives => match state.late.take()? {
                Late::Claim { owner, newer_than } => drop(self.ask(state, owner, newer_than)),
                Late::Commit { owner, generation, issue } => drop(self.commit(state, owner, generation, issue)),
                Late::Fail { owner, generation, unknown } => self.fail(state, owner, generation, unknown),
                Late::Invalidate { generation } => invalidate(state, generation),
            },
            Action::AbandonedIssue(at) => {
                state.issued += 1;
                state.ghost.fetches += 1;
                state.processes[at].abandoned = Some((state.processes[at].abandoned?.0, state.issued));
            }
            Action::AbandonedCommit(at) => {
                let (generation, issue) = state.processes[at].abandoned.take()?;
                let committed = self.commit(state, at, generation, issue);
                take(state, at, committed, Held { generation, issue, doubted: false });
            }
            Action::AbandonedFail(at) => {
                let (generation, issue) = state.processes[at].abandoned.take()?;
                if self.rules != Rules::SilentAbandoned && issue > 0 {
                    self.fail(state, at, generation, true);
                }
            }
            Action::Look(at) => self.hear(state, at),
            Action::Offer(at) => self.offer(state, state.processes[at].held),
            Action::LeaseEnds => drop(state.redis.ledger.updater.take()?),
            Action::TokenDue => {
                state.due = state.stored()?.0;
                state.ghost.lives += 1;
            }
            Action::TokenEnds => drop(state.redis.ledger.token.take()?),
            Action::CoolingEnds => {
                state.redis.ledger.meta.pause.take()?;
            }
            Action::Crash(at) => {
                state.left.crashes -= 1;
                untold(state, at);
                let process = &mut state.processes[at];
                *process = Default::default();
                process.phase = Phase::Dead;
            }
            Action::LoseData => {
                state.left.losses -= 1;
                state.ghost.lost_charges += state.redis.charged;
                state.redis = Redis::default();
                state.ghost.invalidated = 0;
            }
            Action::ReplicaStops => state.replica = Some(state.redis.clone()),
            Action::Failover => {
                let replica = state.replica.take()?;
                state.ghost.untold |= replica != state.redis;
                state.left.failovers -= 1;
                state.ghost.lost_charges += state.redis.charged.saturating_sub(replica.charged);
                state.redis = replica;
                state.ghost.invalidated = state.redis.ledger.meta.invalidated;
            }
            Action::Close => state.left.requests = 0,
        }
        Some(())
    }

    fn start(&self, state: &mut State, at: usize, why: Why) -> Option<()> {
        state.left.requests -= 1;
        let process = &mut state.processes[at];
        let generation = process.held.generation;
        let mut usable = None;
        match why {
            Why::HasNone => {}
            Why::Due => usable = Some(generation),
            Why::OutOfTime => process.held = Held::default(),
            Why::Rejected { .. } => {
                process.invalidated = process.invalidated.max(generation);
                process.held = Held::default();
            }
        }
        let newer_than = decide::newer_than(usable, process.seen, process.invalidated);
        process.phase = Phase::Asking { newer_than, again: false };
        match why {
            Why::Rejected { told: true } => invalidate(state, generation),
            Why::Rejected { told: false } if state.left.late > 0 && state.late.is_none() => {
                state.left.late -= 1;
                state.late = Some(Late::Invalidate { generation });
            }
            _ => {}
        }
        Some(())
    }

    fn claim(&self, state: &mut State, at: usize, reply: Reply) {
        let Phase::Asking { newer_than, again } = state.processes[at].phase else { return };
        let claimed = self.ask(state, at, newer_than);
        match (reply, claimed) {
            (Reply::IsLost, _) if !again => state.processes[at].phase = Phase::Asking { newer_than, again: true },
            (Reply::IsLost, _) | (_, Claimed::Paused(_) | Claimed::Limited { .. }) => end(state, at),
            (_, Claimed::Token(stored)) => {
                let held = Held {
                    generation: stored.generation,
                    issue: issue(stored.value.reveal()),
                    doubted: stored.doubted,
                };
                adopt(state, at, held);
                end(state, at);
            }
            (_, Claimed::Granted { generation, .. }) => state.processes[at].phase = Phase::Granted { generation },
            (_, Claimed::Busy { .. }) => {
                let told = state.redis.ledger.updater.as_ref().map_or(0, |updater| updater.lease.generation);
                state.processes[at].phase = Phase::Waiting { newer_than, told };
            }
        }
    }

    fn hear(&self, state: &mut State, at: usize) {
        let process = &mut state.processes[at];
        let held = process.held.generation;
        let newer_than = decide::newer_than((held > 0).then_some(held), process.seen, process.invalidated);
        if self.rules == Rules::TrustedEvents {
            process.phase = Phase::Asking { newer_than, again: false };
            return;
        }
        let (invalidated, doubt) = (state.redis.ledger.meta.invalidated, state.redis.ledger.meta.doubted);
        process.invalidated = process.invalidated.max(invalidated);
        if held <= invalidated {
            process.held = Held::default();
        }
        process.held.doubted |= held > 0 && held <= doubt;
        if let Some(stored) = self.look(state, newer_than) {
            let issue = issue(stored.value.reveal());
            adopt(state, at, Held { generation: stored.generation, issue, doubted: stored.doubted });
        }
        let held = state.processes[at].held;
        let confirmed = state.stored() == Some((held.generation, held.issue));
        state.processes[at].follows = confirmed && !held.doubted;
    }

    fn give_up(&self, state: &mut State, at: usize) {
        untold(state, at);
        if let Phase::Issued { generation, issue, .. } = state.processes[at].phase {
            adopt(state, at, Held { generation, issue, doubted: false });
        }
        end(state, at);
    }
}

/// Notes that a process without a lease goes silent after the issuer may have issued to it.
fn untold(state: &mut State, at: usize) {
    let process = &state.processes[at];
    let issued = match process.phase {
        Phase::Issued { generation, .. } | Phase::Failing { generation, unknown: true, .. } => Some(generation),
        _ => None,
    };
    let abandoned = process.abandoned.filter(|(_, issue)| *issue > 0).map(|(generation, _)| generation);
    let dies = state.processes[at].phase;
    let silent = issued.into_iter().chain(abandoned.filter(|_| dies != Phase::Dead));
    let lost = silent.into_iter().any(|generation| !state.leads(at, generation));
    state.ghost.untold |= lost;
}

fn delay(state: &mut State, at: usize) -> Option<()> {
    let process = &mut state.processes[at];
    let owner = at;
    let late = match &mut process.phase {
        Phase::Asking { newer_than, again } if !*again => {
            *again = true;
            Late::Claim { owner, newer_than: *newer_than }
        }
        Phase::Issued { generation, issue, again } if !*again => {
            *again = true;
            Late::Commit { owner, generation: *generation, issue: *issue }
        }
        Phase::Failing { generation, unknown, again } if !*again => {
            *again = true;
            Late::Fail { owner, generation: *generation, unknown: *unknown }
        }
        _ => return None,
    };
    state.left.late -= 1;
    state.late = Some(late);
    Some(())
}

/// Takes into use what a commit's reply says is in the store.
fn take(state: &mut State, at: usize, committed: Committed, own: Held) {
    match committed {
        Committed::Written { doubted } => adopt(state, at, Held { doubted, ..own }),
        Committed::Superseded(stored) => {
            let issue = issue(stored.value.reveal());
            adopt(state, at, Held { generation: stored.generation, issue, doubted: stored.doubted });
        }
        Committed::Invalid => {}
    }
}

/// As the library's slot does: never one that is invalid, nor one older than this process has had.
fn adopt(state: &mut State, at: usize, held: Held) {
    let process = &mut state.processes[at];
    if held.generation > process.invalidated && held.generation >= process.seen {
        if held.generation < process.held.generation {
            state.ghost.flaw = Some(Flaw::ProcessWentBack);
        }
        process.held = held;
        process.seen = held.generation;
    }
}

/// Ends a flight: what Redis still holds of it is of an attempt that will not be repeated.
fn end(state: &mut State, at: usize) {
    state.processes[at].phase = Phase::Idle;
    let owner = owner(at);
    for redis in [Some(&mut state.redis), state.replica.as_mut()].into_iter().flatten() {
        if let Some(updater) = &mut redis.ledger.updater
            && updater.lease.owner == owner
        {
            updater.lease.attempt = 0;
        }
    }
}
