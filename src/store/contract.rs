//! What a store must do, as checks that any implementation can be put to: `token_manager` with the feature `contract`.
//!
//! ```
//! use token_manager::{MemoryStore, store::contract};
//!
//! contract::check(&MemoryStore::new());
//! contract::check_events(&MemoryStore::new());
//! ```

use super::{
    Change, Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Presence, Secret, Store, Stored,
    TokenName,
};
use crate::clock;
use crate::error::FailureClass;
use crate::policy::Budget;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(30);
/// How long a condition is waited for: generous, because it only ends a check that has failed.
const LONG: Duration = Duration::from_secs(60);

/// Puts a store to every check but those of events. Takes some hundredths of a second, and leaves tokens of made-up groups
/// in the store.
///
/// # Panics
/// When the store breaks the contract; the message says what was found, standard error names the check.
pub fn check(store: &dyn Store) {
    run(store, CHECKS);
}

/// Puts a store that has subscriptions to the checks of events. One without them is right too: flights poll.
///
/// # Panics
/// As [`check`].
pub fn check_events(store: &dyn Store) {
    run(store, EVENT_CHECKS);
}

type Checks = &'static [(&'static str, fn(&Bench<'_>))];

macro_rules! checks {
    ($($name:ident)*) => { &[$((stringify!($name), $name)),*] };
}

const CHECKS: Checks = checks! {
    the_first_claim_is_granted_and_the_second_is_told_to_wait
    a_repeated_claim_gets_the_same_answer_and_costs_nothing
    a_committed_token_is_found_until_something_newer_is_asked_for
    what_is_read_is_what_claims_are_told
    a_repeated_commit_casts_no_doubt
    a_late_commit_cannot_overwrite_a_newer_token_and_casts_doubt_on_it
    a_late_commit_of_the_last_grant_is_beyond_doubt
    a_late_commit_while_another_one_fetches_is_written_and_doubted_and_so_is_what_the_other_one_brings
    a_second_grant_of_one_generation_is_not_told_that_its_token_is_stored
    a_commit_that_is_carried_out_late_begins_no_life_anew
    a_lease_is_renewed_only_by_its_holder
    a_failure_pauses_the_fleet_and_a_success_ends_the_pause
    a_late_commit_leaves_the_pause_of_a_later_failure
    what_the_issuer_says_of_being_asked_too_often_counts_without_the_lease_and_for_its_egress_alone
    no_retry_after_takes_the_pause_away
    the_first_pause_is_a_second_and_a_minute_for_rejected_credentials
    rejected_credentials_pause_the_fleet_only_while_it_has_no_token
    an_operator_lifts_the_pauses_of_the_fleet_and_of_the_egress
    an_unknown_outcome_casts_doubt_even_without_the_lease
    an_invalidated_token_is_not_served_and_an_older_invalidation_changes_nothing
    the_budget_allows_its_burst_and_then_says_how_long_to_wait
    a_claim_without_a_budget_may_look_but_is_never_granted
    a_carried_secret_reaches_the_next_grant
    a_carry_whose_presenter_was_never_heard_of_is_presented
    an_outcome_that_did_not_consume_the_carry_takes_its_presentation_back
    the_last_carry_counts_whatever_becomes_of_its_token
    tokens_of_one_grant_share_its_updater_its_carry_and_its_pause
    the_last_carry_of_a_grant_counts_whichever_token_it_came_with
    an_updater_is_there_while_it_holds_its_lease
    an_updater_is_missed_only_if_it_was_shown_and_then_its_lease_ends_at_the_second_look
    the_late_commit_of_an_updater_that_was_missed_casts_doubt
    a_lease_that_ended_is_taken_over
};

const EVENT_CHECKS: Checks = checks! {
    a_subscription_tells_every_change_after_it_was_made
    who_waits_for_the_updater_of_a_grant_hears_what_it_did_for_another_token
    a_token_that_was_lost_is_taken_back_unless_anything_speaks_against_it
};

fn run(store: &dyn Store, checks: Checks) {
    for (name, check) in checks {
        eprintln!("contract: {name}");
        check(&Bench::new(store));
    }
}

/// A store, the name of a token that nobody has used, and the verbs in short.
#[derive(Clone)]
struct Bench<'a> {
    store: &'a dyn Store,
    name: TokenName,
    budget: Budget,
}

impl Bench<'_> {
    fn new(store: &dyn Store) -> Bench<'_> {
        static BENCHES: AtomicU64 = AtomicU64::new(0);
        let number = BENCHES.fetch_add(1, Ordering::Relaxed);
        let group = format!("{}-{}-{number}", clock::steady_micros(), std::process::id());
        let name = TokenName { namespace: "contract".into(), group: group.into(), name: "t".into(), grant: "t".into() };
        Bench { store, name, budget: Budget::per_minute(600).burst(100) }
    }

    /// The same store, for another token of the same grant.
    fn sibling(&self, name: &str) -> Bench<'_> {
        Bench { name: TokenName { name: name.into(), ..self.name.clone() }, ..*self }
    }

    fn claim(&self, owner: &str, attempt: u64, newer_than: u64) -> Claimed {
        self.claim_for(owner, attempt, newer_than, LEASE)
    }

    fn claim_for(&self, owner: &str, attempt: u64, newer_than: u64, lease: Duration) -> Claimed {
        let claim = Claim { owner, attempt, newer_than, lease, budget: Some(self.budget), egress: "default" };
        self.store.claim(&self.name, &claim).unwrap()
    }

    /// A grant of a token of this name.
    fn granted_of(&self, name: &TokenName) -> Lease {
        let budget = Some(self.budget);
        let claim = Claim { owner: "a", attempt: 1, newer_than: 0, lease: LEASE, budget, egress: "default" };
        match self.store.claim(name, &claim).unwrap() {
            Claimed::Granted { generation, .. } => Lease { owner: "a".into(), attempt: 1, generation },
            other => panic!("{other:?}"),
        }
    }

    fn granted(&self, owner: &str, attempt: u64, newer_than: u64) -> Lease {
        match self.claim(owner, attempt, newer_than) {
            Claimed::Granted { generation, .. } => Lease { owner: owner.into(), attempt, generation },
            other => panic!("{other:?}"),
        }
    }

    fn commit(&self, lease: &Lease, value: &str) -> Committed {
        self.commit_of_age(lease, value, None)
    }

    fn commit_of_age(&self, lease: &Lease, value: &str, age: Option<Duration>) -> Committed {
        let grant = Grant { value: Secret::new(value), left: HOUR, life: HOUR, age, carry: None, carry_lifetime: None };
        self.store.commit(&self.name, lease, &grant).unwrap()
    }

    fn commit_with_carry(&self, lease: &Lease, value: &str, carry: &str) -> Committed {
        let (value, carry) = (Secret::new(value), Some(Secret::new(carry)));
        let grant = Grant { value, left: HOUR, life: HOUR, age: None, carry, carry_lifetime: Some(HOUR) };
        self.store.commit(&self.name, lease, &grant).unwrap()
    }

    /// The secret that a new grant is given, and whether it is told that it has been presented.
    fn carried(&self, owner: &str, attempt: u64) -> (String, bool) {
        let stored = self.inspect().token.map_or(0, |(generation, _)| generation);
        self.carried_by(owner, attempt, stored)
    }

    fn carried_by(&self, owner: &str, attempt: u64, newer_than: u64) -> (String, bool) {
        let Claimed::Granted { carry, .. } = self.claim(owner, attempt, newer_than) else { panic!("no grant") };
        let carry = carry.expect("a carried secret");
        (carry.secret.reveal().to_owned(), carry.presented.is_some_and(|age| age < LONG))
    }

    fn record_failure(&self, lease: &Lease, class: FailureClass, retry_after: Option<Duration>) -> Option<Pause> {
        self.store.record_failure(&self.name, lease, &Failure { class, retry_after, egress: "default" }).unwrap()
    }

    fn inspect(&self) -> Inspection {
        self.store.inspect(&self.name, "default").unwrap()
    }

    fn token(&self, newer_than: u64) -> Stored {
        match self.claim("reader", 1, newer_than) {
            Claimed::Token(stored) => stored,
            other => panic!("{other:?}"),
        }
    }

    fn look(&self, missed: Option<&Lease>) -> Presence {
        self.store.presence(&self.name, missed).unwrap()
    }

    /// Shows the updater and has it vanish; false where the store cannot tell, so that nobody misses it.
    fn is_missed_when_gone(&self, lease: &Lease) -> bool {
        let Some(shown) = self.store.show_presence(&self.name, lease, LEASE, None).ok().flatten() else { return false };
        assert!(matches!(self.look(Some(lease)), Presence::Assumed { .. } | Presence::Unknown));
        assert!(self.store.renew(&self.name, lease, LEASE).unwrap(), "a look at who is there takes nothing from it");
        assert_eq!(self.inspect().updater.unwrap().0, lease.to_string());
        drop(shown);
        let missing = Presence::Missing(lease.clone());
        wait_until("the updater is missed", || [missing.clone(), Presence::Unknown].contains(&self.look(None)));
        self.look(None) == missing
    }

    fn lose_the_lease(&self, lease: &Lease) {
        assert!(self.store.renew(&self.name, lease, Duration::from_millis(1)).unwrap());
        wait_until("the lease has ended", || self.store.inspect(&self.name, "default").unwrap().updater.is_none());
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = clock::deadline(LONG);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn the_first_claim_is_granted_and_the_second_is_told_to_wait(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    let Claimed::Busy { lease_left } = bench.claim("b", 1, 0) else { panic!() };
    assert!(lease_left <= LEASE && lease_left > LEASE / 2);
    let seen = bench.store.inspect(&bench.name, "default").unwrap();
    assert_eq!(seen.updater.unwrap().0, format!("{}:a:1", lease.generation));
    assert_eq!(seen.granted, lease.generation);
}

fn a_repeated_claim_gets_the_same_answer_and_costs_nothing(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    let spent = bench.store.inspect(&bench.name, "default").unwrap().budget_spent;
    assert_eq!(bench.granted("a", 1, 0), lease);
    assert!(bench.store.inspect(&bench.name, "default").unwrap().budget_spent <= spent);
    assert!(matches!(bench.claim("a", 2, 0), Claimed::Busy { .. }), "another attempt is another updater");
}

fn a_committed_token_is_found_until_something_newer_is_asked_for(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    assert_eq!(bench.commit(&lease, "secret"), Committed::Written { doubted: false });
    let stored = bench.token(lease.generation - 1);
    assert_eq!((stored.generation, stored.value.reveal(), stored.doubted), (lease.generation, "secret", false));
    assert!(stored.left <= HOUR && stored.left > HOUR / 2 && stored.life == HOUR);
    let newer = bench.granted("b", 1, lease.generation);
    assert!(newer.generation > lease.generation);
}

fn what_is_read_is_what_claims_are_told(bench: &Bench<'_>) {
    let of = |name: &str| TokenName { name: name.into(), grant: name.into(), ..bench.name.clone() };
    let [none, valid, invalid, doubted] = ["none", "valid", "invalid", "doubted"].map(of);
    for name in [&valid, &invalid, &doubted] {
        let lease = bench.granted_of(name);
        let generation = lease.generation;
        let grant = Grant {
            value: Secret::new(&*name.name),
            left: HOUR,
            life: HOUR,
            age: None,
            carry: None,
            carry_lifetime: None,
        };
        bench.store.commit(name, &lease, &grant).unwrap();
        if *name == invalid {
            bench.store.invalidate(name, generation).unwrap();
        }
        if *name == doubted {
            let failure = Failure { class: FailureClass::UnknownOutcome, retry_after: None, egress: "default" };
            bench.store.record_failure(name, &lease, &failure).unwrap();
        }
    }
    let names = [none, valid, invalid, doubted];
    let read = bench.store.read(&names).unwrap();
    let told = |(name, read): (&TokenName, &Option<Stored>)| {
        let claim = Claim { owner: "b", attempt: 1, newer_than: 0, lease: LEASE, budget: None, egress: "default" };
        let claimed = match bench.store.claim(name, &claim).unwrap() {
            Claimed::Token(stored) => Some(stored),
            _ => None,
        };
        let alike = |stored: &Stored| (stored.generation, stored.value.clone(), stored.life, stored.doubted);
        assert_eq!(read.as_ref().map(alike), claimed.as_ref().map(alike), "{name}");
        assert!(read.as_ref().is_none_or(|stored| stored.left <= HOUR && stored.left > HOUR / 2));
        read.is_some()
    };
    let is_there: Vec<bool> = names.iter().zip(&read).map(told).collect();
    assert_eq!(is_there, [false, true, false, true]);
}

fn a_repeated_commit_casts_no_doubt(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    bench.commit(&lease, "secret");
    assert_eq!(bench.commit(&lease, "secret"), Committed::Written { doubted: false });
    assert!(!bench.token(0).doubted);
}

fn a_late_commit_cannot_overwrite_a_newer_token_and_casts_doubt_on_it(bench: &Bench<'_>) {
    let late = bench.granted("a", 1, 0);
    bench.lose_the_lease(&late);
    let newer = bench.granted("b", 1, 0);
    assert_eq!(bench.commit(&newer, "newer"), Committed::Written { doubted: false });
    let Committed::Superseded(kept) = bench.commit(&late, "late") else { panic!() };
    assert_eq!((kept.generation, kept.value.reveal(), kept.doubted), (newer.generation, "newer", true));
    assert!(bench.token(0).doubted);
    let healed = bench.granted("c", 1, newer.generation);
    assert_eq!(bench.commit(&healed, "healed"), Committed::Written { doubted: false });
    assert!(!bench.token(0).doubted);
}

fn a_late_commit_of_the_last_grant_is_beyond_doubt(bench: &Bench<'_>) {
    let late = bench.granted("a", 1, 0);
    bench.lose_the_lease(&late);
    assert_eq!(bench.commit(&late, "late"), Committed::Written { doubted: false });
    assert!(!bench.token(0).doubted);
}

fn a_late_commit_while_another_one_fetches_is_written_and_doubted_and_so_is_what_the_other_one_brings(
    bench: &Bench<'_>,
) {
    let late = bench.granted("a", 1, 0);
    bench.lose_the_lease(&late);
    let newer = bench.granted("b", 1, 0);
    assert_eq!(bench.commit(&late, "late"), Committed::Written { doubted: true });
    assert_eq!(bench.commit(&newer, "newer"), Committed::Written { doubted: true });
    assert!(bench.token(0).doubted);
}

/// A failover that loses the claim, to a primary whose clock is behind.
fn a_second_grant_of_one_generation_is_not_told_that_its_token_is_stored(bench: &Bench<'_>) {
    let lost = bench.granted("a", 1, 0);
    let twin = Lease { owner: "b".into(), ..lost.clone() };
    assert_eq!(bench.commit(&lost, "stored"), Committed::Written { doubted: false });
    let Committed::Superseded(kept) = bench.commit(&twin, "other") else { panic!() };
    assert_eq!((kept.generation, kept.value.reveal(), kept.doubted), (lost.generation, "stored", true));
    assert!(bench.token(0).doubted, "nobody knows which of the two was issued last");
}

fn a_commit_that_is_carried_out_late_begins_no_life_anew(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    // A generation is the time of its grant in microseconds: these were granted some minutes ago.
    let granted_ago = |minutes: u64| Lease { generation: lease.generation - minutes * 60_000_000, ..lease.clone() };
    let at_once = Some(Duration::ZERO);
    assert_eq!(bench.commit_of_age(&granted_ago(61), "out of time", at_once), Committed::Invalid);
    assert_eq!(bench.store.inspect(&bench.name, "default").unwrap().token, None);
    assert_eq!(bench.commit_of_age(&granted_ago(40), "late", at_once), Committed::Written { doubted: true });
    let left = bench.token(0).left;
    assert!(left <= HOUR / 3 && left > HOUR / 4, "{left:?}");
    let slow_fetch = Some(Duration::from_secs(30 * 60));
    assert_eq!(bench.commit_of_age(&granted_ago(30), "slow", slow_fetch), Committed::Written { doubted: true });
    assert!(bench.token(0).left > HOUR / 2);
}

fn a_lease_is_renewed_only_by_its_holder(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    let other = Lease { owner: Arc::from("b"), ..lease.clone() };
    assert!(!bench.store.renew(&bench.name, &other, LEASE).unwrap());
    assert!(bench.store.renew(&bench.name, &lease, 2 * LEASE).unwrap());
    let (_, left) = bench.store.inspect(&bench.name, "default").unwrap().updater.unwrap();
    assert!(left > LEASE);
    bench.commit(&lease, "secret");
    assert!(!bench.store.renew(&bench.name, &lease, LEASE).unwrap());
}

fn a_failure_pauses_the_fleet_and_a_success_ends_the_pause(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    let pause = bench.record_failure(&lease, FailureClass::Unavailable, Some(Duration::from_secs(9))).unwrap();
    assert_eq!((pause.class, pause.retry_after.as_millis().div_ceil(1000)), (FailureClass::Unavailable, 9));
    let again = bench.record_failure(&lease, FailureClass::Unavailable, Some(Duration::from_secs(99))).unwrap();
    assert!(again.retry_after <= pause.retry_after, "a repetition does not count");
    assert!(matches!(bench.claim("b", 1, 0), Claimed::Paused(c) if c.class == FailureClass::Unavailable));
    assert_eq!(bench.inspect().fails, 1);
    bench.commit(&lease, "late, but a success");
    assert_eq!((bench.inspect().pause, bench.inspect().fails), (None, 0));
}

fn a_late_commit_leaves_the_pause_of_a_later_failure(bench: &Bench<'_>) {
    let late = bench.granted("a", 1, 0);
    bench.lose_the_lease(&late);
    let newer = bench.granted("b", 1, 0);
    bench.record_failure(&newer, FailureClass::Unavailable, Some(HOUR / 2));
    bench.commit(&late, "late");
    let pause = bench.inspect().pause.expect("the pause stands");
    assert_eq!(pause.class, FailureClass::Unavailable);
    assert!(pause.retry_after > HOUR / 4, "{pause:?}");
}

fn what_the_issuer_says_of_being_asked_too_often_counts_without_the_lease_and_for_its_egress_alone(bench: &Bench<'_>) {
    let late = bench.granted("a", 1, 0);
    bench.lose_the_lease(&late);
    let told = bench.record_failure(&late, FailureClass::Throttled, Some(HOUR / 2)).unwrap();
    assert_eq!(told.class, FailureClass::Throttled);
    let shorter = bench.record_failure(&late, FailureClass::Throttled, Some(HOUR / 4)).unwrap();
    assert!(shorter.retry_after > HOUR / 4, "the longer pause stands: {shorter:?}");
    bench.commit(&late, "late");
    let generation = late.generation;
    assert!(matches!(bench.claim("b", 1, generation), Claimed::Paused(c) if c.retry_after > HOUR / 4));
    let elsewhere = Claim {
        owner: "c",
        attempt: 1,
        newer_than: generation,
        lease: LEASE,
        budget: Some(bench.budget),
        egress: "elsewhere",
    };
    assert!(matches!(bench.store.claim(&bench.name, &elsewhere).unwrap(), Claimed::Granted { .. }));
    let other = TokenName { name: "other".into(), grant: "other".into(), ..bench.name.clone() };
    let same = Claim { egress: "default", ..elsewhere };
    assert!(matches!(bench.store.claim(&other, &same).unwrap(), Claimed::Paused(_)), "the issuer counts by egress");
}

fn no_retry_after_takes_the_pause_away(bench: &Bench<'_>) {
    for (class, span) in [
        (FailureClass::Unavailable, Duration::ZERO),
        (FailureClass::UnknownOutcome, Duration::from_millis(1)),
        (FailureClass::Throttled, Duration::from_millis(1)),
    ] {
        let name = TokenName { group: format!("{}:{class}", bench.name.group).into(), ..bench.name.clone() };
        let lease = bench.granted_of(&name);
        let failure = Failure { class, retry_after: Some(span), egress: "default" };
        let pause = bench.store.record_failure(&name, &lease, &failure).unwrap().unwrap().retry_after;
        assert!(pause > Duration::from_millis(900) && pause <= Duration::from_secs(1), "{class}: {pause:?}");
    }
}

fn the_first_pause_is_a_second_and_a_minute_for_rejected_credentials(bench: &Bench<'_>) {
    for (class, second) in
        [(FailureClass::Unavailable, 1), (FailureClass::CredentialsRejected, 60), (FailureClass::Throttled, 1)]
    {
        let name = TokenName { name: class.as_str().into(), grant: class.as_str().into(), ..bench.name.clone() };
        let failure = Failure { class, retry_after: None, egress: "default" };
        let pause = bench.store.record_failure(&name, &bench.granted_of(&name), &failure).unwrap().unwrap().retry_after;
        let first = Duration::from_secs(second);
        assert!(pause >= first * 9 / 10 && pause <= first * 5 / 4, "{pause:?}");
    }
}

fn rejected_credentials_pause_the_fleet_only_while_it_has_no_token(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    let pause = bench.record_failure(&lease, FailureClass::CredentialsRejected, None).unwrap();
    assert_eq!(pause.class, FailureClass::CredentialsRejected);
    assert!(matches!(bench.claim("b", 1, 0), Claimed::Paused(c) if c.class == FailureClass::CredentialsRejected));
    bench.store.lift_pause(&bench.name, "default").unwrap();
    bench.commit(&bench.granted("b", 1, 0), "good credentials");

    let due = bench.granted("a", 2, bench.token(0).generation);
    let own = bench.record_failure(&due, FailureClass::CredentialsRejected, None).unwrap();
    assert!(own.class == FailureClass::CredentialsRejected && own.retry_after >= Duration::from_secs(60), "{own:?}");
    assert_eq!((bench.inspect().pause, bench.inspect().fails), (None, 0));
    bench.granted("b", 2, bench.token(0).generation);
}

fn an_operator_lifts_the_pauses_of_the_fleet_and_of_the_egress(bench: &Bench<'_>) {
    bench.record_failure(&bench.granted("a", 1, 0), FailureClass::Unavailable, Some(HOUR / 2));
    bench.store.lift_pause(&bench.name, "default").unwrap();
    assert_eq!((bench.inspect().pause, bench.inspect().fails), (None, 0));
    bench.record_failure(&bench.granted("a", 2, 0), FailureClass::Throttled, Some(HOUR / 2));
    bench.store.lift_pause(&bench.name, "elsewhere").unwrap();
    assert!(bench.inspect().pause.is_some(), "that egress has a pause of its own");
    bench.store.lift_pause(&bench.name, "default").unwrap();
    bench.granted("a", 3, 0);
}

fn a_token_that_was_lost_is_taken_back_unless_anything_speaks_against_it(bench: &Bench<'_>) {
    let offer = |generation: u64, value: &str| {
        let value = Secret::new(value);
        let stored = Stored { generation, value, left: HOUR / 2, life: HOUR, doubted: false };
        bench.store.offer(&bench.name, &stored).unwrap()
    };
    let mut subscription = bench.store.subscribe(&bench.name).unwrap();
    assert!(offer(700, "lost"));
    assert_eq!(subscription.wait(LONG).unwrap(), Some(Change::Committed(700)));
    let stored = bench.token(0);
    assert_eq!((stored.generation, stored.value.reveal(), stored.doubted), (700, "lost", false));
    assert!(stored.left <= HOUR / 2 && stored.left > HOUR / 4 && stored.life == HOUR);
    assert!(offer(700, "lost"), "a repetition");
    assert!(!offer(700, "another") && !offer(699, "older"));
    assert!(offer(701, "newer"), "somebody else held a newer one");

    let updater = bench.granted("a", 1, 701);
    assert!(!offer(updater.generation + 1, "while another one fetches"));
    bench.record_failure(&updater, FailureClass::UnknownOutcome, None);
    let doubt = bench.inspect().doubted;
    assert!(!offer(doubt, "doubted"), "whatever was granted until now is, also by a store that lost its data");
    bench.store.invalidate(&bench.name, doubt + 5).unwrap();
    assert!(!offer(doubt + 5, "invalidated"));
    assert!(offer(doubt + 6, "beyond doubt"));
}

fn an_unknown_outcome_casts_doubt_even_without_the_lease(bench: &Bench<'_>) {
    let lost = bench.granted("a", 1, 0);
    bench.lose_the_lease(&lost);
    let newer = bench.granted("b", 1, 0);
    bench.commit(&newer, "newer");
    bench.record_failure(&lost, FailureClass::UnknownOutcome, None);
    let stored = bench.token(0);
    assert_eq!((stored.generation, stored.doubted), (newer.generation, true));
}

fn an_invalidated_token_is_not_served_and_an_older_invalidation_changes_nothing(bench: &Bench<'_>) {
    let first = bench.granted("a", 1, 0);
    bench.commit(&first, "first");
    bench.store.invalidate(&bench.name, first.generation).unwrap();
    let second = bench.granted("a", 2, 0);
    assert_eq!(bench.commit(&first, "invalidated"), Committed::Invalid);
    bench.commit(&second, "second");
    bench.store.invalidate(&bench.name, first.generation).unwrap();
    assert_eq!(bench.token(0).generation, second.generation);
}

fn the_budget_allows_its_burst_and_then_says_how_long_to_wait(bench: &Bench<'_>) {
    let bench = &Bench { budget: Budget::per_minute(6).burst(2), ..bench.clone() };
    for attempt in 1..=2 {
        let lease = bench.granted("a", attempt, 0);
        bench.store.invalidate(&bench.name, lease.generation).unwrap();
        bench.commit(&lease, "invalidated at once");
    }
    let Claimed::Limited { retry_after } = bench.claim("a", 3, 0) else { panic!() };
    assert!(retry_after <= Duration::from_secs(10) && retry_after > Duration::from_secs(8), "{retry_after:?}");
}

fn a_claim_without_a_budget_may_look_but_is_never_granted(bench: &Bench<'_>) {
    let look = Claim { owner: "a", attempt: 1, newer_than: 0, lease: LEASE, budget: None, egress: "default" };
    assert!(matches!(bench.store.claim(&bench.name, &look).unwrap(), Claimed::Limited { .. }));
    bench.commit(&bench.granted("b", 1, 0), "secret");
    assert!(matches!(bench.store.claim(&bench.name, &look).unwrap(), Claimed::Token(_)));
}

fn a_carried_secret_reaches_the_next_grant(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    bench.commit_with_carry(&lease, "v", "refresh");
    assert_eq!(bench.carried("a", 2), ("refresh".into(), false));
    assert_eq!(bench.carried("a", 2), ("refresh".into(), false), "a repetition is no second presentation");
}

fn a_carry_whose_presenter_was_never_heard_of_is_presented(bench: &Bench<'_>) {
    let lease = bench.granted("a", 1, 0);
    bench.commit_with_carry(&lease, "v", "refresh");
    let silent = bench.granted("a", 2, lease.generation);
    bench.lose_the_lease(&silent);
    assert_eq!(bench.carried("b", 1), ("refresh".into(), true));
    let second = bench.granted("b", 1, lease.generation);
    bench.record_failure(&second, FailureClass::Unavailable, None);
    bench.store.lift_pause(&bench.name, "default").unwrap();
    assert_eq!(bench.carried("c", 1), ("refresh".into(), true), "the first presenter may have consumed it still");
    let third = bench.granted("c", 1, lease.generation);
    bench.commit(&third, "a success that left no other secret");
    assert_eq!(bench.carried("d", 1), ("refresh".into(), false), "the issuer takes it still");
    bench.lose_the_lease(&bench.granted("d", 1, third.generation));
    assert_eq!(bench.carried("c", 2), ("refresh".into(), true));
    bench.commit_with_carry(&bench.granted("c", 2, third.generation), "w", "next");
    assert_eq!(bench.carried("d", 2), ("next".into(), false));
}

fn an_outcome_that_did_not_consume_the_carry_takes_its_presentation_back(bench: &Bench<'_>) {
    let mut last = bench.granted("a", 1, 0);
    bench.commit_with_carry(&last, "v", "refresh");
    let outcomes = [
        (FailureClass::Unavailable, false),
        (FailureClass::Throttled, false),
        (FailureClass::CredentialsRejected, false),
        (FailureClass::UnknownOutcome, true),
    ];
    for (attempt, (class, presented)) in (2..).step_by(2).zip(outcomes) {
        let lease = bench.granted("a", attempt, last.generation);
        bench.record_failure(&lease, class, None);
        bench.store.lift_pause(&bench.name, "default").unwrap();
        assert_eq!(bench.carried("a", attempt + 1), ("refresh".into(), presented), "{class}");
        last = bench.granted("a", attempt + 1, last.generation);
        assert!(matches!(bench.commit(&last, "w"), Committed::Written { .. }), "a success that left no other secret");
    }
}

fn the_last_carry_counts_whatever_becomes_of_its_token(bench: &Bench<'_>) {
    let late = bench.granted("a", 1, 0);
    bench.lose_the_lease(&late);
    let newer = bench.granted("b", 1, 0);
    bench.commit(&newer, "newer");
    assert!(matches!(bench.commit_with_carry(&late, "late", "late refresh"), Committed::Superseded(_)));
    let next = bench.granted("c", 1, newer.generation);
    assert_eq!(bench.carried_by("c", 1, newer.generation).0, "late refresh", "there was none before");
    bench.store.invalidate(&bench.name, next.generation).unwrap();
    assert_eq!(bench.commit_with_carry(&next, "w", "invalidated refresh"), Committed::Invalid);
    assert_eq!(bench.carried("d", 1).0, "invalidated refresh");
    bench.commit_with_carry(&late, "late", "older refresh");
    assert_eq!(bench.carried("d", 1).0, "invalidated refresh", "an older one replaces no newer one");
}

fn a_subscription_tells_every_change_after_it_was_made(bench: &Bench<'_>) {
    let mut subscription = bench.store.subscribe(&bench.name).unwrap();
    let mut told = || subscription.wait(LONG).unwrap();
    let first = bench.granted("a", 1, 0);
    bench.commit(&first, "v");
    assert_eq!(told(), Some(Change::Committed(first.generation)));
    bench.store.invalidate(&bench.name, first.generation).unwrap();
    assert_eq!(told(), Some(Change::Invalidated(first.generation)));
    let second = bench.granted("a", 2, 0);
    bench.record_failure(&second, FailureClass::UnknownOutcome, None);
    assert!(matches!(told(), Some(Change::Doubted(generation)) if generation >= second.generation));
    assert_eq!(told(), Some(Change::Failed(FailureClass::UnknownOutcome)));
    assert_eq!(subscription.wait(Duration::from_millis(1)).unwrap(), None);
}

fn tokens_of_one_grant_share_its_updater_its_carry_and_its_pause(bench: &Bench<'_>) {
    let (read, write) = (bench.sibling("read"), bench.sibling("write"));
    let first = read.granted("a", 1, 0);
    assert!(matches!(write.claim("b", 1, 0), Claimed::Busy { .. }), "they never fetch in parallel");
    assert!(bench.store.has_updater(&write.name).unwrap());
    assert_eq!(read.commit_with_carry(&first, "for reading", "refresh-1"), Committed::Written { doubted: false });
    assert_eq!(write.carried_by("b", 2, 0), ("refresh-1".into(), false));
    assert!(matches!(read.claim("c", 1, first.generation), Claimed::Busy { .. }));
    let Some((updater, _)) = read.inspect().updater else { panic!("the grant has an updater") };
    let generation = updater.split_once(':').unwrap().0.parse().unwrap();
    assert!(generation > first.generation);
    let second = Lease { owner: "b".into(), attempt: 2, generation };
    assert_eq!(write.commit_with_carry(&second, "for writing", "refresh-2"), Committed::Written { doubted: false });
    assert_eq!((read.token(0).value.reveal(), write.token(0).value.reveal()), ("for reading", "for writing"));
    assert!(!read.token(0).doubted, "a grant of another token says nothing of this one");
    let third = read.granted("a", 3, first.generation);
    read.record_failure(&third, FailureClass::Unavailable, Some(HOUR / 2));
    assert!(matches!(write.claim("b", 4, second.generation), Claimed::Paused(_)), "they share the pause");
    bench.store.lift_pause(&write.name, "default").unwrap();
    assert_eq!((read.inspect().pause, read.inspect().fails), (None, 0));
    assert_eq!(read.carried_by("c", 5, first.generation), ("refresh-2".into(), false));
    write.store.invalidate(&write.name, second.generation).unwrap();
    assert_eq!(read.token(0).value.reveal(), "for reading", "each is invalidated by itself");
}

fn the_last_carry_of_a_grant_counts_whichever_token_it_came_with(bench: &Bench<'_>) {
    let (read, write) = (bench.sibling("read"), bench.sibling("write"));
    let late = read.granted("a", 1, 0);
    read.lose_the_lease(&late);
    let newer = write.granted("b", 1, 0);
    assert!(newer.generation > late.generation);
    write.commit_with_carry(&newer, "for writing", "refresh-2");
    read.commit_with_carry(&late, "for reading", "refresh-1");
    assert_eq!(write.carried_by("b", 2, newer.generation).0, "refresh-2");
}

fn an_updater_is_there_while_it_holds_its_lease(bench: &Bench<'_>) {
    let has_updater = || bench.store.has_updater(&bench.name).unwrap();
    assert!(!has_updater());
    let lease = bench.granted("a", 1, 0);
    assert!(has_updater());
    bench.commit(&lease, "v");
    assert!(!has_updater());
    let next = bench.granted("a", 2, lease.generation);
    bench.record_failure(&next, FailureClass::Unavailable, None);
    assert!(!has_updater());
}

fn an_updater_is_missed_only_if_it_was_shown_and_then_its_lease_ends_at_the_second_look(bench: &Bench<'_>) {
    assert!(matches!(bench.look(None), Presence::Ended | Presence::Unknown));
    let lease = bench.granted("a", 1, 0);
    assert!(matches!(bench.look(Some(&lease)), Presence::Assumed { .. } | Presence::Unknown), "it was not shown");
    if !bench.is_missed_when_gone(&lease) {
        assert!(matches!(bench.look(Some(&lease)), Presence::Assumed { .. } | Presence::Unknown));
        assert!(bench.inspect().updater.is_some(), "who cannot be seen has its whole lease");
        return;
    }
    let other = Lease { attempt: 2, ..lease.clone() };
    assert_eq!(bench.look(Some(&other)), Presence::Missing(lease.clone()), "another one was missed");
    assert!(bench.inspect().updater.is_some());
    assert_eq!(bench.look(Some(&lease)), Presence::Ended);
    assert_eq!((bench.inspect().updater, bench.look(Some(&lease))), (None, Presence::Ended));
    assert!(!bench.store.renew(&bench.name, &lease, LEASE).unwrap());
    assert!(bench.store.show_presence(&bench.name, &lease, LEASE, None).unwrap().is_none(), "it has no lease any more");
    assert_eq!(bench.commit(&lease, "late"), Committed::Written { doubted: false }, "it was the last grant");
}

fn the_late_commit_of_an_updater_that_was_missed_casts_doubt(bench: &Bench<'_>) {
    let late = bench.granted("a", 1, 0);
    if bench.is_missed_when_gone(&late) {
        assert_eq!(bench.look(Some(&late)), Presence::Ended);
        let newer = bench.granted("b", 1, 0);
        assert!(!matches!(bench.look(Some(&late)), Presence::Ended), "the lease is another one's");
        assert_eq!(bench.commit(&late, "late"), Committed::Written { doubted: true });
        assert_eq!(bench.commit(&newer, "newer"), Committed::Written { doubted: true });
    }
}

fn a_lease_that_ended_is_taken_over(bench: &Bench<'_>) {
    let Claimed::Granted { generation, .. } = bench.claim_for("a", 1, 0, Duration::from_millis(5)) else { panic!() };
    wait_until("the lease has ended", || match bench.claim("b", 1, 0) {
        Claimed::Granted { generation: next, .. } => next > generation,
        _ => false,
    });
}

fn who_waits_for_the_updater_of_a_grant_hears_what_it_did_for_another_token(bench: &Bench<'_>) {
    let (read, write) = (bench.sibling("read"), bench.sibling("write"));
    let lease = read.granted("a", 1, 0);
    let mut waiter = write.store.subscribe(&write.name).unwrap();
    read.commit(&lease, "secret");
    assert_eq!(waiter.wait(LONG).unwrap(), Some(Change::Committed(lease.generation)));
}
