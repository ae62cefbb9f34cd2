//! Whatever a place of states gives back - cut, changed, of another store - it is a state or an error, and no verb panics on it.
//!
//! `PROOFS_SEED` repeats a run; `PROOFS_CASES` is how many states are tried.

use proofs::{Chance, number};
use std::time::Duration;
use token_manager::store::rules::{
    Carry, EgressState, FleetPause, GrantState, Meta, Presented, Span, StoredToken, TokenState, Updater,
};
use token_manager::store::{Claim, Failure, Grant, Lease, Secret, Stored, TokenName};
use token_manager::{Budget, FailureClass};

const NOW: u64 = 1_800_000_000_000_000;

fn time(chance: &mut Chance) -> u64 {
    let near = NOW + chance.below(4_000_000) - 2_000_000;
    chance.of(&[0, 1, near, NOW, u64::MAX - 1, u64::MAX])
}

fn length(chance: &mut Chance) -> Duration {
    let some = Duration::from_micros(chance.below(5_000_000));
    chance.of(&[Duration::ZERO, some, Duration::from_micros(u64::MAX)])
}

fn lease(chance: &mut Chance) -> Lease {
    let owner = chance.of(&["a", "b", ""]).into();
    Lease { owner, attempt: chance.below(3), generation: time(chance) }
}

fn span(chance: &mut Chance) -> Span {
    Span { ends_at: time(chance), length: length(chance) }
}

fn some<T>(chance: &mut Chance, make: impl FnOnce(&mut Chance) -> T) -> Option<T> {
    (!chance.one_in(3)).then(|| make(chance))
}

fn grant_state(chance: &mut Chance) -> GrantState {
    let others =
        ["a", "b"].into_iter().filter_map(|name| some(chance, |chance| (name.into(), state(chance)))).collect();
    GrantState { grant: state(chance), others }
}

fn state(chance: &mut Chance) -> TokenState {
    TokenState {
        token: some(chance, |chance| StoredToken {
            generation: time(chance),
            value: Secret::new("v"),
            life: length(chance),
            expires_at: time(chance),
        }),
        updater: some(chance, |chance| Updater { lease: lease(chance), span: span(chance) }),
        meta: Meta {
            granted: time(chance),
            invalidated: time(chance),
            doubted: time(chance),
            latest: time(chance),
            pause: some(chance, |chance| FleetPause {
                span: span(chance),
                class: chance.of(&FailureClass::ALL),
                generation: time(chance),
            }),
            fails: time(chance),
        },
        carry: some(chance, |chance| Carry {
            secret: Secret::new("c"),
            expires_at: some(chance, time),
            generation: time(chance),
            presented: some(chance, |chance| Presented { by: some(chance, lease), at: time(chance) }),
        }),
    }
}

/// Runs one verb on copies, for its panics.
fn try_a_verb(chance: &mut Chance, state: &GrantState, egress: &EgressState) {
    let (mut state, mut egress) = (state.clone(), egress.clone());
    let name = chance.of(&["g", "a", "c"]).into();
    let name = TokenName { namespace: "n".into(), group: "g".into(), name, grant: "g".into() };
    let now = chance.of(&[0, NOW, NOW + 1]);
    state.token(&name, |token| try_a_verb_on(chance, now, token, &mut egress));
    let _ = state.is_forgettable(now);
}

fn try_a_verb_on(chance: &mut Chance, now: u64, state: &mut TokenState, egress: &mut EgressState) {
    let (lease, mut changes) = (lease(chance), Vec::new());
    let (value, left, life) = (Secret::new("w"), length(chance), length(chance));
    let class = chance.of(&FailureClass::ALL);
    match chance.below(9) {
        0 | 1 => {
            let budget =
                some(chance, |chance| Budget::per_minute(chance.of(&[1, 60_000])).burst(chance.of(&[1, 60_000])));
            let (owner, newer_than) = (&*lease.owner, time(chance));
            let claim = Claim { owner, attempt: lease.attempt, newer_than, lease: left, budget, egress: "e" };
            let _ = state.claim(now, &claim, egress);
        }
        2 => {
            let _ = (state.renew(now, &lease, left), state.end_missed(now, &lease));
        }
        3 | 4 => {
            let (carry, carry_lifetime) = (some(chance, |_| Secret::new("d")), some(chance, length));
            let grant = Grant { value, left, life, age: some(chance, length), carry, carry_lifetime };
            let _ = state.commit(now, &lease, &grant, &mut changes);
        }
        5 => {
            let failure = Failure { class, retry_after: some(chance, length), egress: "e" };
            let _ = state.record_failure(now, &lease, &failure, egress, &mut changes);
        }
        6 => state.invalidate(now, lease.generation, &mut changes),
        7 => {
            let stored = Stored { generation: lease.generation, value, left, life, doubted: false };
            let _ = state.offer(now, &stored, &mut changes);
        }
        _ => {
            let _ = (state.inspect(now, egress), state.has_updater(now));
        }
    }
}

#[test]
fn whatever_is_kept_is_a_state_or_an_error_and_no_verb_panics_on_it() {
    let (seed, cases) = (number("PROOFS_SEED", 1), number("PROOFS_CASES", 200_000));
    println!("PROOFS_SEED={seed} PROOFS_CASES={cases}");
    let mut chance = Chance::new(seed);
    let mut refused = 0;
    for _ in 0..cases {
        let state = grant_state(&mut chance);
        let egress = EgressState { spent: some(&mut chance, span), pause: some(&mut chance, span) };
        let mut bytes = state.encode();
        assert_eq!(GrantState::decode(&bytes).as_ref().ok(), Some(&state));
        try_a_verb(&mut chance, &state, &egress);
        let at = chance.below(bytes.len() as u64) as usize;
        if chance.one_in(2) {
            bytes[at] = chance.below(256) as u8;
        } else {
            bytes.truncate(at);
        }
        match GrantState::decode(&bytes) {
            Ok(changed) => try_a_verb(&mut chance, &changed, &egress),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > cases / 4, "only {refused} were refused");
}
