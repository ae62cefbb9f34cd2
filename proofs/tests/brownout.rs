//! Two hosts whose fleet's store goes away and comes back at any step, under a model checker over the real rules: what each host fetches
//! alone is within its own budget, and whatever was fetched where, the fleet ends at the token that was issued last, or in doubt of
//! the one that it has.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Duration;
use token_manager::Budget;
use token_manager::store::rules::{EgressState, TokenState};
use token_manager::store::{Claim, Claimed, Grant, Lease, Secret, Stored};

const SECOND: u64 = 1_000_000;
const START: u64 = 1000 * SECOND;
const LIFE: Duration = Duration::from_secs(3600);
/// The host of each process.
const PROCESSES: [usize; 3] = [0, 0, 1];
/// How many fetches each host may make alone, and the fleet, in less than a minute.
const HOST_BUDGET: u32 = 2;
const FLEET_BUDGET: u32 = 4;

const BOUND: &str = "what the hosts fetch alone is within hosts times their budget";
const LAST: &str = "once all is told, the fleet's token is the one issued last or in doubt";
const OLDER: &str = "no older token replaces a newer one in a store";
const ALONE: &str = "both hosts fetch alone, and the fleet is one again";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Real,
    /// What was fetched alone is offered to the fleet's store as if it had been lost there.
    WithoutDoubt,
    /// A host fetches on the fleet's budget.
    WithoutBudget,
    /// Whatever newer token the host's store has, somebody is taken to tell of it.
    AnyNewer,
}

#[derive(Clone, Debug)]
struct Fleet {
    rules: Rules,
    seconds: u64,
    /// How often the store goes away.
    outages: u8,
    /// How far the first host's clock is behind.
    behind: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Flight {
    None,
    /// It may ask the issuer, by the grant of the host's store or of the fleet's.
    Granted {
        of_host: bool,
        generation: u64,
    },
    Answered {
        of_host: bool,
        generation: u64,
        issue: u64,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Kept {
    token: TokenState,
    egress: EgressState,
    /// The highest generation that was ever stored here, and that a process fetched alone by a grant from here.
    newest: u64,
    alone: u64,
}

/// What a process has to tell the fleet's store: its lease, and which issue it brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Untold {
    of_host: bool,
    attempt: u64,
    generation: u64,
    issue: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    passed: u64,
    is_away: bool,
    outages: u8,
    fleet: Kept,
    hosts: [Kept; 2],
    flights: [Flight; 3],
    attempts: [u64; 3],
    /// The generation that each process has had last, and the last token that it has from the fleet's store.
    seen: [u64; 3],
    last: [Option<(u64, u64)>; 3],
    untold: [Option<Untold>; 3],
    issued: u64,
    /// Fetches of each host alone.
    alone: [u32; 2],
    flaw: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Pass,
    Leave,
    Return,
    Claim(usize),
    Issue(usize),
    Commit(usize),
    Tell(usize),
}

impl Model for Fleet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            passed: 1,
            is_away: false,
            outages: self.outages,
            fleet: Kept::default(),
            hosts: Default::default(),
            flights: [Flight::None; 3],
            attempts: [0; 3],
            seen: [0; 3],
            last: [None; 3],
            untold: [None; 3],
            issued: 0,
            alone: [0; 2],
            flaw: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.passed < self.seconds {
            actions.push(Action::Pass);
        }
        match state.is_away {
            true => actions.push(Action::Return),
            false if state.outages > 0 => actions.push(Action::Leave),
            false => {}
        }
        for at in 0..PROCESSES.len() {
            actions.push(match state.flights[at] {
                Flight::None => Action::Claim(at),
                Flight::Granted { .. } => Action::Issue(at),
                Flight::Answered { .. } => Action::Commit(at),
            });
            if state.untold[at].is_some() {
                actions.push(Action::Tell(at));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Pass => state.passed += 1,
            Action::Leave => (state.is_away, state.outages) = (true, state.outages - 1),
            Action::Return => state.is_away = false,
            Action::Claim(at) => self.claim(&mut state, at)?,
            Action::Issue(at) => {
                let Flight::Granted { of_host, generation } = state.flights[at] else { return None };
                state.issued += 1;
                state.flights[at] = Flight::Answered { of_host, generation, issue: state.issued };
            }
            Action::Commit(at) => self.commit(&mut state, at),
            Action::Tell(at) => self.tell(&mut state, at),
        }
        self.judge(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Fleet>> {
        vec![
            Property::always(BOUND, |_: &Fleet, state: &State| state.flaw != Some(BOUND)),
            Property::always(LAST, |_: &Fleet, state: &State| state.flaw != Some(LAST)),
            Property::always(OLDER, |_: &Fleet, state: &State| state.flaw != Some(OLDER)),
            Property::sometimes(ALONE, |_: &Fleet, state: &State| {
                let stored = state.fleet.token.token.as_ref().map(|token| issue(&token.value));
                state.alone.iter().all(|alone| *alone > 0) && stored == Some(3)
            }),
        ]
    }
}

impl Fleet {
    fn now(&self, state: &State, host: Option<usize>) -> u64 {
        START + state.passed * SECOND - if host == Some(0) { self.behind * SECOND } else { 0 }
    }

    fn claim(&self, state: &mut State, at: usize) -> Option<()> {
        let host = PROCESSES[at];
        if !state.is_away && state.untold[at].is_some() {
            self.tell(state, at);
        }
        state.attempts[at] += 1;
        let here = state.is_away.then_some(host);
        let now = self.now(state, here);
        let burst = if here.is_some() && self.rules != Rules::WithoutBudget { HOST_BUDGET } else { FLEET_BUDGET };
        if let (Some(host), Some((generation, issue))) = (here, state.last[at].take()) {
            state.hosts[host].token.offer(now, &stored(generation, issue), &mut Vec::new());
        }
        let kept = here.map_or(&mut state.fleet, |host| &mut state.hosts[host]);
        let owner = at.to_string();
        let budget = Some(Budget::per_minute(1).burst(burst));
        let (attempt, newer_than, lease) = (state.attempts[at], state.seen[at], Duration::from_secs(1));
        let claim = Claim { owner: &owner, attempt, newer_than, lease, budget, egress: "" };
        match kept.token.claim(now, &claim, &mut kept.egress) {
            Claimed::Token(stored) => {
                state.seen[at] = stored.generation;
                if here.is_none() && !stored.doubted {
                    state.last[at] = Some((stored.generation, issue(&stored.value)));
                }
            }
            Claimed::Granted { generation, .. } => {
                if let Some(host) = here {
                    state.alone[host] += 1;
                }
                state.flights[at] = Flight::Granted { of_host: here.is_some(), generation };
            }
            _ => return None,
        }
        Some(())
    }

    fn commit(&self, state: &mut State, at: usize) {
        let Flight::Answered { of_host, generation, issue } = state.flights[at] else { return };
        let told = Untold { of_host, attempt: state.attempts[at], generation, issue };
        let (now, own) = (self.now(state, Some(PROCESSES[at])), &mut state.hosts[PROCESSES[at]]);
        if of_host {
            own.token.commit(now, &lease(at, told), &grant(issue), &mut Vec::new());
            own.alone = own.alone.max(generation);
        }
        state.seen[at] = state.seen[at].max(generation);
        state.untold[at] = Some(told);
        state.flights[at] = Flight::None;
        self.tell(state, at);
    }

    /// Tells the fleet's store what this process fetched. What it fetched alone it leaves to another one of its host that has done so
    /// since; what it fetched for the fleet it offers to its host meanwhile.
    fn tell(&self, state: &mut State, at: usize) {
        let Some(told) = state.untold[at] else { return };
        let (here, own) = (self.now(state, Some(PROCESSES[at])), &mut state.hosts[PROCESSES[at]]);
        if state.is_away {
            if !told.of_host {
                own.token.offer(here, &stored(told.generation, told.issue), &mut Vec::new());
            }
            return;
        }
        state.untold[at] = None;
        let newest = own.token.token.as_ref().map_or(0, |token| token.generation);
        let alone = if self.rules == Rules::AnyNewer { newest } else { own.alone };
        if told.of_host && alone > told.generation {
            return;
        }
        let now = self.now(state, None);
        if told.of_host && self.rules == Rules::WithoutDoubt {
            state.fleet.token.offer(now, &stored(told.generation, told.issue), &mut Vec::new());
        } else {
            state.fleet.token.commit(now, &lease(at, told), &grant(told.issue), &mut Vec::new());
        }
    }

    fn judge(&self, state: &mut State) {
        if state.alone.iter().any(|alone| *alone > HOST_BUDGET) {
            state.flaw = Some(BOUND);
        }
        let State { fleet, hosts, .. } = state;
        for kept in [fleet].into_iter().chain(hosts) {
            let stored = kept.token.token.as_ref().map_or(kept.newest, |token| token.generation);
            if stored < kept.newest {
                state.flaw = Some(OLDER);
            }
            kept.newest = stored;
        }
        let is_quiet = state.flights == [Flight::None; 3] && state.untold == [None; 3];
        if let Some(token) = state.fleet.token.token.as_ref().filter(|_| is_quiet && !state.is_away)
            && issue(&token.value) != state.issued
            && token.generation > state.fleet.token.meta.doubted
        {
            state.flaw = Some(LAST);
        }
    }
}

fn lease(at: usize, Untold { attempt, generation, .. }: Untold) -> Lease {
    Lease { owner: at.to_string().into(), attempt, generation }
}

fn stored(generation: u64, issue: u64) -> Stored {
    Stored { generation, value: Secret::new(issue.to_string()), left: LIFE, life: LIFE, doubted: false }
}

fn grant(issue: u64) -> Grant {
    let value = Secret::new(issue.to_string());
    Grant { value, left: LIFE, life: LIFE, age: None, carry: None, carry_lifetime: None }
}

fn issue(secret: &Secret) -> u64 {
    secret.reveal().parse().expect("the number of an issue")
}

fn check(rules: Rules, behind: u64) -> impl Checker<Fleet> {
    let fleet = Fleet { rules, seconds: 3, outages: 2, behind };
    let finish = HasDiscoveries::AnyFailures;
    fleet.checker().threads(2).finish_when(finish).target_max_depth(12).spawn_bfs().join()
}

#[test]
fn hosts_that_are_alone_keep_their_budgets_and_the_fleet_ends_at_the_last_token_or_in_doubt() {
    for behind in [0, 2] {
        let checker = check(Rules::Real, behind);
        println!("{} states", checker.unique_state_count());
        for broken in [BOUND, LAST, OLDER] {
            if let Some(path) = checker.discovery(broken) {
                panic!("{broken}: {path}");
            }
        }
        assert!(checker.discovery(ALONE).is_some(), "they are alone, and one again");
    }
}

#[test]
fn it_is_found_when_what_was_fetched_alone_casts_no_doubt() {
    assert!(check(Rules::WithoutDoubt, 2).discovery(LAST).is_some());
}

#[test]
fn it_is_found_when_a_host_has_no_budget_of_its_own() {
    assert!(check(Rules::WithoutBudget, 0).discovery(BOUND).is_some());
}

#[test]
fn it_is_found_when_a_token_of_the_fleet_is_taken_for_one_that_the_host_tells_of() {
    assert!(check(Rules::AnyNewer, 2).discovery(LAST).is_some());
}
