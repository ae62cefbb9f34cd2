//! The fleet as a model: its bounds, and every step that a process, Redis, the issuer, time or a fault can take from a state.

use crate::properties;
use crate::state::{Left, Phase, State};
use crate::variants::Rules;
use stateright::{Model, Property};

/// The bounds of a model, and what it is a model of.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub rules: Rules,
    pub processes: usize,
    /// Whether each new token kills the one before it.
    pub revokes: bool,
    /// How many grants the budget allows while nothing is lost.
    pub burst: u32,
    pub left: Left,
    /// Whether leases may end, replies be lost, the issuer fail.
    pub faults: bool,
    /// Whether processes look at the store at any time, for an event, true or forged, or to keep fresh, and offer back what it lost.
    pub keeps: bool,
    /// Whether the fleet may be closed at any step, after which nobody asks any more.
    pub closes: bool,
}

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Comes,
    IsLost,
}

/// Why a process asks for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    HasNone,
    Due,
    OutOfTime,
    Rejected { told: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start(usize, Why),
    Claim(usize, Reply),
    Wake(usize),
    /// Who waits has missed the updater twice, and its lease ends.
    Miss(usize),
    Issue(usize),
    Refuse(usize),
    LoseAnswer(usize),
    Abandon(usize),
    Commit(usize, Reply),
    Fail(usize, Reply),
    /// Redis cannot be reached: the verb was not executed, and the flight ends.
    GiveUp(usize),
    /// Redis will execute the verb later; its sender goes on as if it had been lost.
    Delay(usize),
    LateArrives,
    AbandonedIssue(usize),
    AbandonedCommit(usize),
    AbandonedFail(usize),
    Look(usize),
    Offer(usize),
    LeaseEnds,
    TokenDue,
    TokenEnds,
    CoolingEnds,
    Crash(usize),
    LoseData,
    ReplicaStops,
    Failover,
    Close,
}

impl Model for Fleet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let replies: &[Reply] = if self.faults { &[Reply::Comes, Reply::IsLost] } else { &[Reply::Comes] };
        for (at, process) in state.processes.iter().enumerate() {
            if process.phase == Phase::Dead {
                continue;
            }
            match process.phase {
                Phase::Idle if state.left.requests > 0 => {
                    let held = process.held;
                    if held.generation == 0 {
                        actions.push(Action::Start(at, Why::HasNone));
                        continue;
                    }
                    if held.generation <= state.due {
                        actions.push(Action::Start(at, Why::OutOfTime));
                    }
                    if held.generation <= state.due || held.doubted {
                        actions.push(Action::Start(at, Why::Due));
                    }
                    if !state.is_valid(self, held.issue) {
                        actions.push(Action::Start(at, Why::Rejected { told: true }));
                        if self.faults {
                            actions.push(Action::Start(at, Why::Rejected { told: false }));
                        }
                    }
                }
                Phase::Asking { .. } => actions.extend(replies.iter().map(|reply| Action::Claim(at, *reply))),
                Phase::Waiting { .. } => actions.extend([Action::Wake(at), Action::Miss(at)]),
                Phase::Granted { .. } => {
                    actions.push(Action::Issue(at));
                    if self.faults {
                        actions.extend([Action::Refuse(at), Action::LoseAnswer(at)]);
                    }
                }
                Phase::Issued { .. } => {
                    actions.extend(replies.iter().map(|reply| Action::Commit(at, *reply)));
                    if self.faults {
                        actions.push(Action::LoseAnswer(at));
                    }
                }
                Phase::Failing { .. } => actions.extend(replies.iter().map(|reply| Action::Fail(at, *reply))),
                _ => {}
            }
            let exchanging =
                matches!(process.phase, Phase::Asking { .. } | Phase::Issued { .. } | Phase::Failing { .. });
            if exchanging && self.faults {
                actions.push(Action::GiveUp(at));
                if state.left.late > 0 && state.late.is_none() {
                    actions.push(Action::Delay(at));
                }
            }
            let fetching = matches!(process.phase, Phase::Granted { .. } | Phase::Issued { .. });
            if fetching && state.left.abandons > 0 && process.abandoned.is_none() {
                actions.push(Action::Abandon(at));
            }
            match process.abandoned {
                Some((_, 0)) => actions.extend([Action::AbandonedIssue(at), Action::AbandonedFail(at)]),
                Some(_) => actions.extend([Action::AbandonedCommit(at), Action::AbandonedFail(at)]),
                None => {}
            }
            if self.keeps && process.phase == Phase::Idle {
                actions.push(Action::Look(at));
                let lost = state.stored().is_none_or(|(generation, _)| generation < process.held.generation);
                let follows = process.follows || (self.rules == Rules::BlindOffers && process.held.generation > 0);
                if lost && follows && process.held.generation > state.due && !process.held.doubted {
                    actions.push(Action::Offer(at));
                }
            }
            if state.left.crashes > 0 {
                actions.push(Action::Crash(at));
            }
        }
        let ledger = &state.redis.ledger;
        if self.faults && ledger.updater.is_some() {
            actions.push(Action::LeaseEnds);
        }
        if let Some(token) = &ledger.token {
            actions.push(if token.generation > state.due { Action::TokenDue } else { Action::TokenEnds });
        }
        if ledger.meta.pause.is_some() {
            actions.push(Action::CoolingEnds);
        }
        if state.late.is_some() {
            actions.push(Action::LateArrives);
        }
        if state.left.losses > 0 {
            actions.push(Action::LoseData);
        }
        if state.left.failovers > 0 {
            actions.push(if state.replica.is_none() { Action::ReplicaStops } else { Action::Failover });
        }
        if self.closes && state.left.requests > 0 {
            actions.push(Action::Close);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        self.step(&mut state, action)?;
        state.settle();
        (state != *last).then_some(state) // a step that changes nothing is none
    }

    fn properties(&self) -> Vec<Property<Fleet>> {
        properties::of(self)
    }
}
