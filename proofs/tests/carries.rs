//! Refresh tokens that are replaced each time, under a model checker over the real rules: processes that crash, are slow or hear
//! nothing, an issuer that revokes the grant when a token is presented again outside its window, and a journal.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Duration;
use token_manager::store::rules::{EgressState, GrantState};
use token_manager::store::{Claim, Claimed, Failure, Grant, Lease, Secret, TokenName};
use token_manager::{Budget, FailureClass};

const SECOND: u64 = 1_000_000;
const START: u64 = 1000 * SECOND;
const LEASE: u64 = 1;
/// How long after its claim a source may still send its request.
const FETCH_LIMIT: u64 = 2;
/// How long after it was consumed the issuer takes a refresh token again.
const WINDOW: u64 = 3;
const LIFE: Duration = Duration::from_secs(3600);
const OWNERS: [&str; 2] = ["a", "b"];
const GRANT: &str = "grant";
const ONE_TOKEN: [&str; 2] = [GRANT; 2];
const TWO_TOKENS: [&str; 2] = ["read", "write"];

const TWICE: &str = "no refresh token is presented again outside the issuer's window";
const LOST: &str = "nobody has to log in unless a fetch ended or was overtaken between its claim and its commit";
const REPLACED: &str = "the refresh token of the last grant that was committed is the one that is kept";
const REPLAYED: &str = "a refresh token is presented again within the window";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Real,
    /// A claim marks nothing.
    Unmarked,
    /// A commit keeps its refresh token, however late it comes.
    LastWriter,
    /// Nothing survives a crash.
    WithoutJournal,
}

#[derive(Clone, Debug)]
struct Fleet {
    rules: Rules,
    /// The token that each process is after, all of one grant.
    tokens: [&'static str; 2],
    seconds: u64,
    crashes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Process {
    Idle,
    /// It may ask the issuer, with this refresh token, presented by others at that time.
    Granted {
        generation: u64,
        refresh: u64,
        presented_at: Option<u64>,
        since: u64,
    },
    /// The issuer has answered with this refresh token.
    Answered {
        generation: u64,
        refresh: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    store: GrantState,
    egress: EgressState,
    passed: u64,
    processes: [Process; 2],
    crashes: u8,
    attempts: [u64; 2],
    /// What dead processes have left.
    journal: Vec<(usize, u64, u64, u64)>,
    /// The refresh token that the issuer gave last, and when each was consumed.
    newest: u64,
    consumed: Vec<Option<u64>>,
    /// A fetch ended, or was overtaken, and nobody knew whether the issuer answered.
    unheard_of: bool,
    replayed: bool,
    /// The highest generation that was committed, and its refresh token.
    committed: (u64, u64),
    flaw: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Pass,
    Claim(usize),
    Present(usize),
    /// The request is sent, and its answer never comes.
    PresentInVain(usize),
    Refused(usize),
    Commit(usize),
    Crash(usize),
}

impl Model for Fleet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut store = GrantState::default();
        let mut egress = EgressState::default();
        // A login left the first refresh token.
        let granted = store.token(&name(GRANT), |token| token.claim(START, &claim("login", 1, 0), &mut egress));
        let Claimed::Granted { generation, .. } = granted else { unreachable!() };
        let lease = Lease { owner: "login".into(), attempt: 1, generation };
        store.token(&name(GRANT), |token| token.commit(START, &lease, &grant(0), &mut Vec::new()));
        vec![State {
            store,
            egress,
            passed: 1,
            processes: [Process::Idle; 2],
            crashes: self.crashes,
            attempts: [0; 2],
            journal: Vec::new(),
            newest: 0,
            consumed: vec![None],
            unheard_of: false,
            replayed: false,
            committed: (0, 0),
            flaw: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.passed < self.seconds {
            actions.push(Action::Pass);
        }
        for (at, process) in state.processes.iter().enumerate() {
            match process {
                Process::Idle => actions.push(Action::Claim(at)),
                Process::Granted { .. } => {
                    actions.extend([Action::Present(at), Action::PresentInVain(at), Action::Refused(at)]);
                }
                Process::Answered { .. } => actions.push(Action::Commit(at)),
            }
            if state.crashes > 0 && *process != Process::Idle {
                actions.push(Action::Crash(at));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Pass => state.passed += 1,
            Action::Claim(at) => self.claim(&mut state, at)?,
            Action::Present(at) => {
                let (generation, refresh) = present(&mut state, at)?;
                state.processes[at] = Process::Answered { generation, refresh };
            }
            Action::PresentInVain(at) => {
                let (generation, _) = present(&mut state, at)?;
                state.unheard_of = true;
                self.fail(&mut state, at, generation, FailureClass::UnknownOutcome);
            }
            Action::Refused(at) => {
                let Process::Granted { generation, .. } = state.processes[at] else { return None };
                self.fail(&mut state, at, generation, FailureClass::Unavailable);
            }
            Action::Commit(at) => {
                let Process::Answered { generation, refresh } = state.processes[at] else { return None };
                let attempt = state.attempts[at];
                self.commit(&mut state, at, attempt, generation, refresh);
                state.processes[at] = Process::Idle;
            }
            Action::Crash(at) => {
                state.crashes -= 1;
                match state.processes[at] {
                    Process::Answered { generation, refresh } if self.rules != Rules::WithoutJournal => {
                        state.journal.push((at, state.attempts[at], generation, refresh));
                    }
                    Process::Granted { .. } => state.unheard_of = true,
                    _ => {}
                }
                state.processes[at] = Process::Idle;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Fleet>> {
        vec![
            Property::always(TWICE, |_: &Fleet, state: &State| state.flaw != Some(TWICE)),
            Property::always(LOST, |_: &Fleet, state: &State| state.flaw != Some(LOST)),
            Property::always(REPLACED, |_: &Fleet, state: &State| state.flaw != Some(REPLACED)),
            Property::sometimes(REPLAYED, |_: &Fleet, state: &State| state.replayed),
        ]
    }
}

impl Fleet {
    fn claim(&self, state: &mut State, at: usize) -> Option<()> {
        for (by, attempt, generation, refresh) in std::mem::take(&mut state.journal) {
            self.commit(state, by, attempt, generation, refresh);
        }
        state.attempts[at] += 1;
        let now = now(state);
        let claimed = state.store.token(&name(self.tokens[at]), |token| {
            let newer_than = token.token.as_ref().map_or(0, |token| token.generation);
            token.claim(now, &claim(OWNERS[at], state.attempts[at], newer_than), &mut state.egress)
        });
        let Claimed::Granted { generation, carry } = claimed else { return None };
        let carry = carry?;
        if self.rules == Rules::Unmarked {
            state.store.grant.carry.as_mut()?.presented = None;
        }
        state.unheard_of |= state.processes.iter().any(|process| *process != Process::Idle);
        let presented_at = carry.presented.map(|age| state.passed - age.as_secs());
        let (refresh, since) = (carry.secret.reveal().parse().ok()?, state.passed);
        state.processes[at] = Process::Granted { generation, refresh, presented_at, since };
        Some(())
    }

    fn commit(&self, state: &mut State, at: usize, attempt: u64, generation: u64, refresh: u64) {
        let lease = Lease { owner: OWNERS[at].into(), attempt, generation };
        let now = now(state);
        state.store.token(&name(self.tokens[at]), |token| token.commit(now, &lease, &grant(refresh), &mut Vec::new()));
        if let (Rules::LastWriter, Some(carry)) = (self.rules, &mut state.store.grant.carry) {
            carry.secret = Secret::new(refresh.to_string());
        }
        state.committed = state.committed.max((generation, refresh));
        let kept = state.store.grant.carry.as_ref().map(|carry| carry.secret.reveal().to_owned());
        if kept != Some(state.committed.1.to_string()) {
            state.flaw = Some(REPLACED);
        }
    }

    fn fail(&self, state: &mut State, at: usize, generation: u64, class: FailureClass) {
        let lease = Lease { owner: OWNERS[at].into(), attempt: state.attempts[at], generation };
        let failure = Failure { class, retry_after: None, egress: "" };
        let now = now(state);
        state.store.token(&name(self.tokens[at]), |token| {
            token.record_failure(now, &lease, &failure, &mut state.egress, &mut Vec::new());
            token.lift_pause(&mut state.egress); // pauses only make it slower
        });
        state.processes[at] = Process::Idle;
    }
}

/// What a source does: it asks in time, or logs in where the window has passed.
fn present(state: &mut State, at: usize) -> Option<(u64, u64)> {
    let Process::Granted { generation, refresh, presented_at, since } = state.processes[at] else { return None };
    if state.passed - since >= FETCH_LIMIT {
        return None;
    }
    if presented_at.is_some_and(|at| state.passed - at > WINDOW) {
        if !state.unheard_of {
            state.flaw = Some(LOST);
        }
        state.newest += 1;
        state.consumed.push(None);
        return Some((generation, state.newest));
    }
    let consumed = state.consumed[refresh as usize];
    match consumed {
        Some(consumed) if state.passed - consumed > WINDOW => state.flaw = Some(TWICE),
        Some(_) => state.replayed = true,
        None => state.consumed[refresh as usize] = Some(state.passed),
    }
    state.newest += 1;
    state.consumed.push(None);
    Some((generation, state.newest))
}

fn name(name: &str) -> TokenName {
    TokenName { namespace: "n".into(), group: "g".into(), name: name.into(), grant: GRANT.into() }
}

fn now(state: &State) -> u64 {
    START + state.passed * SECOND
}

fn claim(owner: &str, attempt: u64, newer_than: u64) -> Claim<'_> {
    let (lease, budget) = (Duration::from_secs(LEASE), Some(Budget::per_minute(60_000).burst(1_000)));
    Claim { owner, attempt, newer_than, lease, budget, egress: "" }
}

fn grant(refresh: u64) -> Grant {
    let carry = Some(Secret::new(refresh.to_string()));
    let value = Secret::new(format!("token {refresh}"));
    Grant { value, left: LIFE, life: LIFE, age: None, carry, carry_lifetime: None }
}

fn check(rules: Rules) -> impl Checker<Fleet> {
    check_of(rules, ONE_TOKEN)
}

fn check_of(rules: Rules, tokens: [&'static str; 2]) -> impl Checker<Fleet> {
    let fleet = Fleet { rules, tokens, seconds: 7, crashes: 2 };
    let finish = HasDiscoveries::AnyFailures;
    fleet.checker().threads(2).finish_when(finish).target_max_depth(11).spawn_bfs().join()
}

#[test]
fn no_refresh_token_is_presented_again_outside_its_window_and_none_is_lost() {
    holds(check(Rules::Real));
}

#[test]
fn two_tokens_of_one_grant_present_and_keep_its_refresh_token_like_one() {
    holds(check_of(Rules::Real, TWO_TOKENS));
}

fn holds(checker: impl Checker<Fleet>) {
    println!("{} states", checker.unique_state_count());
    for broken in [TWICE, LOST, REPLACED] {
        if let Some(path) = checker.discovery(broken) {
            panic!("{broken}: {path}");
        }
    }
    assert!(checker.discovery(REPLAYED).is_some(), "the window is used");
}

#[test]
fn it_is_found_when_presentations_are_not_marked() {
    assert!(check(Rules::Unmarked).discovery(TWICE).is_some());
}

#[test]
fn it_is_found_when_an_older_refresh_token_replaces_a_newer_one() {
    assert!(check(Rules::LastWriter).discovery(REPLACED).is_some());
}

#[test]
fn it_is_found_when_nothing_survives_a_crash() {
    assert!(check(Rules::WithoutJournal).discovery(LOST).is_some());
}
