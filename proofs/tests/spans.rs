//! The rules under a model checker with time that passes, and a store's clock that is set back or lost by a failover: no span
//! is drawn out beyond its length, what the issuer said of being asked too often holds, and nobody is told that its token is
//! stored when another one is.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::Duration;
use token_manager::store::rules::{EgressState, Span, TokenState};
use token_manager::store::{Claim, Claimed, Committed, Failure, Grant, Lease, Secret};
use token_manager::{Budget, FailureClass};

const SECOND: u64 = 1_000_000;
const LEASE: u64 = 3;
const LIFE: u64 = 4;
const RETRY_AFTER: u64 = 3;
const BURST: u32 = 2;
const BACK: u64 = 1000;
const OWNERS: [&str; 2] = ["a", "b"];

const CUT: &str = "no span is told that is longer than it can be";
const ENDS: &str = "what was written ends after its length, counted anew from the first look after a step of the clock";
const LEFT_ALONE: &str = "the issuer is left alone for as long as it asked";
const STORED: &str = "who is told that its token is stored finds it stored";
const BUDGET: &str = "grants stay within the budget";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Real,
    /// A commit ends every pause.
    Forgetful,
    /// What is left of a span is the way from the clock to its end.
    Uncut,
    /// A commit of a generation that is stored is taken for a repetition.
    Blind,
}

#[derive(Clone, Debug)]
struct Clocks {
    rules: Rules,
    backs: u8,
    failovers: u8,
    /// For how many seconds it is watched.
    seconds: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Store {
    ledger: TokenState,
    egress: EgressState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    store: Store,
    replica: Option<Store>,
    /// The store's clock.
    now: u64,
    /// The seconds that have really passed.
    passed: u64,
    /// The grants that have not ended, by process.
    grants: [Option<u64>; 2],
    backs: u8,
    failovers: u8,
    /// When the lease, the token and the issuer's pause were written, in seconds that have really passed.
    leased_at: u64,
    stored_at: u64,
    left_alone_until: u64,
    granted: u32,
    /// The clock was set back, and nobody has looked since.
    stepped: bool,
    /// Writes were lost.
    lost: bool,
    flaw: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Pass,
    SetBack,
    ReplicaStops,
    Failover,
    Claim(usize),
    /// A claim for something newer than the stored token.
    Refresh(usize),
    Commit(usize),
    Throttled(usize),
    Unavailable(usize),
}

impl Model for Clocks {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            store: Store::default(),
            replica: None,
            now: 10 * BACK * SECOND,
            passed: 0,
            grants: [None; 2],
            backs: self.backs,
            failovers: self.failovers,
            leased_at: 0,
            stored_at: 0,
            left_alone_until: 0,
            granted: 0,
            stepped: false,
            lost: false,
            flaw: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.passed < self.seconds {
            actions.push(Action::Pass);
        }
        if state.backs > 0 {
            actions.push(Action::SetBack);
        }
        match state.replica {
            None if state.failovers > 0 => actions.push(Action::ReplicaStops),
            Some(_) => actions.push(Action::Failover),
            None => {}
        }
        for (at, grant) in state.grants.iter().enumerate() {
            actions.extend([Action::Claim(at), Action::Refresh(at)]);
            if grant.is_some() {
                actions.extend([Action::Commit(at), Action::Throttled(at), Action::Unavailable(at)]);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Pass => (state.now, state.passed) = (state.now + SECOND, state.passed + 1),
            Action::SetBack => {
                (state.now, state.backs, state.stepped) = (state.now - BACK * SECOND, state.backs - 1, true);
            }
            Action::ReplicaStops => (state.replica, state.failovers) = (Some(state.store.clone()), state.failovers - 1),
            Action::Failover => {
                let replica = state.replica.take()?;
                state.lost |= replica != state.store;
                state.store = replica;
            }
            Action::Claim(at) => self.claim(&mut state, at, 0),
            Action::Refresh(at) => {
                let generation = state.store.ledger.token.as_ref()?.generation;
                self.claim(&mut state, at, generation);
            }
            Action::Commit(at) => self.commit(&mut state, at)?,
            Action::Throttled(at) => self.fail(&mut state, at, FailureClass::Throttled)?,
            Action::Unavailable(at) => self.fail(&mut state, at, FailureClass::Unavailable)?,
        }
        if self.rules == Rules::Uncut {
            uncut(&mut state.store);
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Clocks>> {
        let mut properties = vec![
            Property::always(CUT, |_: &Clocks, state: &State| state.flaw != Some(CUT)),
            Property::always(ENDS, |_: &Clocks, state: &State| state.flaw != Some(ENDS)),
            Property::always(LEFT_ALONE, |_: &Clocks, state: &State| state.flaw != Some(LEFT_ALONE)),
            Property::always(STORED, |_: &Clocks, state: &State| state.flaw != Some(STORED)),
            Property::always(BUDGET, |_: &Clocks, state: &State| {
                state.lost || u64::from(state.granted) <= u64::from(BURST) + state.passed
            }),
        ];
        if self.failovers > 0 {
            properties.push(Property::sometimes("two grants bear one generation", |_: &Clocks, state: &State| {
                state.grants[0].is_some() && state.grants[0] == state.grants[1]
            }));
        }
        properties
    }
}

impl Clocks {
    fn claim(&self, state: &mut State, at: usize, newer_than: u64) {
        let claim = Claim {
            owner: OWNERS[at],
            attempt: 1,
            newer_than,
            lease: Duration::from_secs(LEASE),
            budget: Some(Budget::per_minute(60).burst(BURST)),
            egress: "",
        };
        let before = state.grants[at];
        let claimed = state.store.ledger.claim(state.now, &claim, &mut state.store.egress);
        if state.stepped {
            // What the step has drawn out is cut now, and ends a length from here.
            (state.leased_at, state.stored_at, state.stepped) = (state.passed, state.passed, false);
        }
        let (told, longest, since, length) = match claimed {
            Claimed::Token(stored) => (stored.left, LIFE, state.stored_at, LIFE),
            Claimed::Busy { lease_left } => (lease_left, LEASE, state.leased_at, LEASE),
            Claimed::Paused(cooling) => (cooling.retry_after, RETRY_AFTER, state.passed, 1),
            Claimed::Limited { retry_after } => (retry_after, 1, state.passed, 1),
            Claimed::Granted { generation, .. } => {
                if Some(generation) != before {
                    (state.leased_at, state.granted) = (state.passed, state.granted + 1);
                    if state.passed < state.left_alone_until && !state.lost {
                        state.flaw = Some(LEFT_ALONE);
                    }
                }
                state.grants[at] = Some(generation);
                return;
            }
        };
        if told > Duration::from_secs(longest) {
            state.flaw = Some(CUT);
        }
        if state.passed - since >= length && !state.lost {
            state.flaw = Some(ENDS);
        }
    }

    fn commit(&self, state: &mut State, at: usize) -> Option<()> {
        let (lease, life) = (lease(at, state.grants[at].take()?), Duration::from_secs(LIFE));
        let grant =
            Grant { value: Secret::new(OWNERS[at]), left: life, life, age: None, carry: None, carry_lifetime: None };
        let ledger = &mut state.store.ledger;
        let stored = |ledger: &TokenState| ledger.token.as_ref().map(|token| (token.generation, token.value.clone()));
        let before = stored(ledger);
        let committed = match &before {
            Some((generation, _)) if self.rules == Rules::Blind && *generation == lease.generation => {
                Committed::Written { doubted: false }
            }
            _ => ledger.commit(state.now, &lease, &grant, &mut Vec::new()),
        };
        if stored(ledger) != before {
            state.stored_at = state.passed;
        }
        if matches!(committed, Committed::Written { .. })
            && stored(ledger) != Some((lease.generation, Secret::new(OWNERS[at])))
        {
            state.flaw = Some(STORED);
        }
        if self.rules == Rules::Forgetful {
            state.store.egress.pause = None;
        }
        Some(())
    }

    fn fail(&self, state: &mut State, at: usize, class: FailureClass) -> Option<()> {
        let lease = lease(at, state.grants[at].take()?);
        let failure = Failure { class, retry_after: Some(Duration::from_secs(RETRY_AFTER)), egress: "" };
        let Store { ledger, egress } = &mut state.store;
        ledger.record_failure(state.now, &lease, &failure, egress, &mut Vec::new());
        if class == FailureClass::Throttled {
            state.left_alone_until = state.passed + RETRY_AFTER;
        }
        Some(())
    }
}

fn lease(at: usize, generation: u64) -> Lease {
    Lease { owner: OWNERS[at].into(), attempt: 1, generation }
}

fn uncut(store: &mut Store) {
    let far = |span: &mut Span| span.length = Duration::from_secs(100 * BACK);
    store.ledger.token.iter_mut().for_each(|token| token.life = Duration::from_secs(100 * BACK));
    store.ledger.updater.iter_mut().for_each(|updater| far(&mut updater.span));
    store.ledger.meta.pause.iter_mut().for_each(|cooling| far(&mut cooling.span));
    store.egress.pause.iter_mut().for_each(far);
}

fn holds(title: &str, model: Clocks) {
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    println!("{title}: {} states explored", checker.unique_state_count());
    checker.assert_properties();
}

fn breaks(rules: Rules, backs: u8, failovers: u8, promise: &'static str) {
    let model = Clocks { rules, backs, failovers, seconds: 5 };
    let checker = model.checker().threads(2).finish_when(HasDiscoveries::AnyOf([promise].into())).spawn_bfs().join();
    println!("{rules:?}: broken in {} steps", checker.assert_any_discovery(promise).into_actions().len());
}

#[test]
fn no_span_is_drawn_out_by_a_clock_that_is_set_back_and_no_retry_after_is_forgotten() {
    holds("a clock set back", Clocks { rules: Rules::Real, backs: 1, failovers: 0, seconds: 7 });
}

#[test]
fn two_grants_of_one_generation_are_told_apart() {
    holds("a failover to a clock behind", Clocks { rules: Rules::Real, backs: 1, failovers: 1, seconds: 3 });
}

#[test]
fn a_commit_that_ends_every_pause_forgets_what_the_issuer_said() {
    breaks(Rules::Forgetful, 0, 0, LEFT_ALONE);
}

#[test]
fn spans_without_a_length_are_drawn_out() {
    breaks(Rules::Uncut, 1, 0, CUT);
}

#[test]
fn who_takes_a_generation_for_a_grant_is_told_that_another_ones_token_is_its_own() {
    breaks(Rules::Blind, 1, 1, STORED);
}
