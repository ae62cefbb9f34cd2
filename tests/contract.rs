//! One list of what a store must do, passed by the embedded store and by Redis.

mod support;

use std::sync::Arc;
use std::time::Duration;
use support::Backing;
use token_manager::store::{
    Change, Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Secret, StoreErrorKind, Stored,
    TokenName,
};
use token_manager::{Budget, FailureClass, MemoryStore, RedisStore, Store};

const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(30);

/// A store, a token's name and the verbs in short.
struct Bench {
    store: Box<dyn Store>,
    name: TokenName,
    budget: Budget,
    _backing: Backing,
}

impl Bench {
    fn both() -> Vec<Bench> {
        let bench = |backing: Backing| {
            let store: Box<dyn Store> = match &backing {
                Backing::Memory(store) => Box::new(store.clone()),
                Backing::Redis(server) => Box::new(RedisStore::open(&server.url()).unwrap()),
            };
            let name = TokenName { namespace: "tm".into(), group: "g".into(), name: "t".into() };
            Bench { store, name, budget: Budget::per_minute(600).burst(100), _backing: backing }
        };
        Backing::both().into_iter().map(bench).collect()
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

    fn fail(&self, lease: &Lease, class: FailureClass, retry_after: Option<Duration>) -> Option<Pause> {
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

    fn lose_the_lease(&self, lease: &Lease) {
        assert!(self.store.renew(&self.name, lease, Duration::from_millis(1)).unwrap());
        support::wait_until("the lease has ended", || {
            self.store.inspect(&self.name, "default").unwrap().updater.is_none()
        });
    }
}

#[test]
fn the_first_claim_is_granted_and_the_second_is_told_to_wait() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        let Claimed::Busy { lease_left } = bench.claim("b", 1, 0) else { panic!() };
        assert!(lease_left <= LEASE && lease_left > LEASE / 2);
        let seen = bench.store.inspect(&bench.name, "default").unwrap();
        assert_eq!(seen.updater.unwrap().0, format!("{}:a:1", lease.generation));
        assert_eq!(seen.granted, lease.generation);
    }
}

#[test]
fn a_repeated_claim_gets_the_same_answer_and_costs_nothing() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        let spent = bench.store.inspect(&bench.name, "default").unwrap().budget_spent;
        assert_eq!(bench.granted("a", 1, 0), lease);
        assert!(bench.store.inspect(&bench.name, "default").unwrap().budget_spent <= spent);
        assert!(matches!(bench.claim("a", 2, 0), Claimed::Busy { .. }), "another attempt is another updater");
    }
}

#[test]
fn a_committed_token_is_found_until_something_newer_is_asked_for() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        assert_eq!(bench.commit(&lease, "secret"), Committed::Written { doubted: false });
        let stored = bench.token(lease.generation - 1);
        assert_eq!((stored.generation, stored.value.reveal(), stored.doubted), (lease.generation, "secret", false));
        assert!(stored.left <= HOUR && stored.left > HOUR / 2 && stored.life == HOUR);
        let newer = bench.granted("b", 1, lease.generation);
        assert!(newer.generation > lease.generation);
    }
}

#[test]
fn a_repeated_commit_casts_no_doubt() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        bench.commit(&lease, "secret");
        assert_eq!(bench.commit(&lease, "secret"), Committed::Written { doubted: false });
        assert!(!bench.token(0).doubted);
    }
}

#[test]
fn a_late_commit_cannot_overwrite_a_newer_token_and_casts_doubt_on_it() {
    for bench in Bench::both() {
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
}

#[test]
fn a_late_commit_of_the_last_grant_is_beyond_doubt() {
    for bench in Bench::both() {
        let late = bench.granted("a", 1, 0);
        bench.lose_the_lease(&late);
        assert_eq!(bench.commit(&late, "late"), Committed::Written { doubted: false });
        assert!(!bench.token(0).doubted);
    }
}

#[test]
fn a_late_commit_while_another_one_fetches_is_written_and_doubted_and_so_is_what_the_other_one_brings() {
    for bench in Bench::both() {
        let late = bench.granted("a", 1, 0);
        bench.lose_the_lease(&late);
        let newer = bench.granted("b", 1, 0);
        assert_eq!(bench.commit(&late, "late"), Committed::Written { doubted: true });
        assert_eq!(bench.commit(&newer, "newer"), Committed::Written { doubted: true });
        assert!(bench.token(0).doubted);
    }
}

/// A failover that loses the claim, to a primary whose clock is behind.
#[test]
fn a_second_grant_of_one_generation_is_not_told_that_its_token_is_stored() {
    for bench in Bench::both() {
        let lost = bench.granted("a", 1, 0);
        let twin = Lease { owner: "b".into(), ..lost.clone() };
        assert_eq!(bench.commit(&lost, "stored"), Committed::Written { doubted: false });
        let Committed::Superseded(kept) = bench.commit(&twin, "other") else { panic!() };
        assert_eq!((kept.generation, kept.value.reveal(), kept.doubted), (lost.generation, "stored", true));
        assert!(bench.token(0).doubted, "nobody knows which of the two was issued last");
    }
}

#[test]
fn a_commit_that_is_carried_out_late_begins_no_life_anew() {
    for bench in Bench::both() {
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
}

#[test]
fn a_lease_is_renewed_only_by_its_holder() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        let other = Lease { owner: Arc::from("b"), ..lease.clone() };
        assert!(!bench.store.renew(&bench.name, &other, LEASE).unwrap());
        assert!(bench.store.renew(&bench.name, &lease, 2 * LEASE).unwrap());
        let (_, left) = bench.store.inspect(&bench.name, "default").unwrap().updater.unwrap();
        assert!(left > LEASE);
        bench.commit(&lease, "secret");
        assert!(!bench.store.renew(&bench.name, &lease, LEASE).unwrap());
    }
}

#[test]
fn a_failure_cools_the_fleet_down_and_a_success_ends_the_pause() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        let cooling = bench.fail(&lease, FailureClass::Unavailable, Some(Duration::from_secs(9))).unwrap();
        assert_eq!((cooling.class, cooling.retry_after.as_millis().div_ceil(1000)), (FailureClass::Unavailable, 9));
        let again = bench.fail(&lease, FailureClass::Unavailable, Some(Duration::from_secs(99))).unwrap();
        assert!(again.retry_after <= cooling.retry_after, "a repetition does not count");
        assert!(matches!(bench.claim("b", 1, 0), Claimed::Paused(c) if c.class == FailureClass::Unavailable));
        assert_eq!(bench.inspect().fails, 1);
        bench.commit(&lease, "late, but a success");
        assert_eq!((bench.inspect().pause, bench.inspect().fails), (None, 0));
    }
}

#[test]
fn a_late_commit_leaves_the_pause_of_a_later_failure() {
    for bench in Bench::both() {
        let late = bench.granted("a", 1, 0);
        bench.lose_the_lease(&late);
        let newer = bench.granted("b", 1, 0);
        bench.fail(&newer, FailureClass::Unavailable, Some(HOUR / 2));
        bench.commit(&late, "late");
        let cooling = bench.inspect().pause.expect("the pause stands");
        assert_eq!(cooling.class, FailureClass::Unavailable);
        assert!(cooling.retry_after > HOUR / 4, "{cooling:?}");
    }
}

#[test]
fn what_the_issuer_says_of_being_asked_too_often_counts_without_the_lease_and_for_its_egress_alone() {
    for bench in Bench::both() {
        let late = bench.granted("a", 1, 0);
        bench.lose_the_lease(&late);
        let told = bench.fail(&late, FailureClass::Throttled, Some(HOUR / 2)).unwrap();
        assert_eq!(told.class, FailureClass::Throttled);
        let shorter = bench.fail(&late, FailureClass::Throttled, Some(HOUR / 4)).unwrap();
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
        let sibling = TokenName { name: "sibling".into(), ..bench.name.clone() };
        let same = Claim { egress: "default", ..elsewhere };
        assert!(
            matches!(bench.store.claim(&sibling, &same).unwrap(), Claimed::Paused(_)),
            "the issuer counts by egress"
        );
    }
}

#[test]
fn no_retry_after_takes_the_pause_away() {
    for bench in Bench::both() {
        for (class, span) in [
            (FailureClass::Unavailable, Duration::ZERO),
            (FailureClass::UnknownOutcome, Duration::from_millis(1)),
            (FailureClass::Throttled, Duration::from_millis(1)),
        ] {
            let name = TokenName { group: class.as_str().into(), ..bench.name.clone() };
            let lease = bench.granted_of(&name);
            let failure = Failure { class, retry_after: Some(span), egress: "default" };
            let pause = bench.store.record_failure(&name, &lease, &failure).unwrap().unwrap().retry_after;
            assert!(pause > Duration::from_millis(900) && pause <= Duration::from_secs(1), "{class}: {pause:?}");
        }
    }
}

#[test]
fn the_first_pause_is_a_second_and_a_minute_for_rejected_credentials() {
    for bench in Bench::both() {
        for (class, second) in
            [(FailureClass::Unavailable, 1), (FailureClass::CredentialsRejected, 60), (FailureClass::Throttled, 1)]
        {
            let name = TokenName { name: class.as_str().into(), ..bench.name.clone() };
            let failure = Failure { class, retry_after: None, egress: "default" };
            let pause =
                bench.store.record_failure(&name, &bench.granted_of(&name), &failure).unwrap().unwrap().retry_after;
            let first = Duration::from_secs(second);
            assert!(pause >= first * 9 / 10 && pause <= first * 5 / 4, "{pause:?}");
        }
    }
}

#[test]
fn rejected_credentials_pause_the_fleet_only_while_it_has_no_token() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        let pause = bench.fail(&lease, FailureClass::CredentialsRejected, None).unwrap();
        assert_eq!(pause.class, FailureClass::CredentialsRejected);
        assert!(matches!(bench.claim("b", 1, 0), Claimed::Paused(c) if c.class == FailureClass::CredentialsRejected));
        bench.store.lift_pause(&bench.name, "default").unwrap();
        bench.commit(&bench.granted("b", 1, 0), "good credentials");

        let due = bench.granted("a", 2, bench.token(0).generation);
        let own = bench.fail(&due, FailureClass::CredentialsRejected, None).unwrap();
        assert!(
            own.class == FailureClass::CredentialsRejected && own.retry_after >= Duration::from_secs(60),
            "{own:?}"
        );
        assert_eq!((bench.inspect().pause, bench.inspect().fails), (None, 0));
        bench.granted("b", 2, bench.token(0).generation);
    }
}

#[test]
fn an_operator_lifts_the_pauses_of_the_fleet_and_of_the_egress() {
    for bench in Bench::both() {
        bench.fail(&bench.granted("a", 1, 0), FailureClass::Unavailable, Some(HOUR / 2));
        bench.store.lift_pause(&bench.name, "default").unwrap();
        assert_eq!((bench.inspect().pause, bench.inspect().fails), (None, 0));
        bench.fail(&bench.granted("a", 2, 0), FailureClass::Throttled, Some(HOUR / 2));
        bench.store.lift_pause(&bench.name, "elsewhere").unwrap();
        assert!(bench.inspect().pause.is_some(), "that egress has a pause of its own");
        bench.store.lift_pause(&bench.name, "default").unwrap();
        bench.granted("a", 3, 0);
    }
}

#[test]
fn a_token_that_was_lost_is_taken_back_unless_anything_speaks_against_it() {
    for bench in Bench::both() {
        let offer = |generation: u64, value: &str| {
            let value = Secret::new(value);
            let stored = Stored { generation, value, left: HOUR / 2, life: HOUR, doubted: false };
            bench.store.offer(&bench.name, &stored).unwrap()
        };
        let mut listener = bench.store.subscribe(&bench.name).unwrap();
        assert!(offer(700, "lost"));
        assert_eq!(listener.wait(support::LONG).unwrap(), Some(Change::Committed(700)));
        let stored = bench.token(0);
        assert_eq!((stored.generation, stored.value.reveal(), stored.doubted), (700, "lost", false));
        assert!(stored.left <= HOUR / 2 && stored.left > HOUR / 4 && stored.life == HOUR);
        assert!(offer(700, "lost"), "a repetition");
        assert!(!offer(700, "another") && !offer(699, "older"));
        assert!(offer(701, "newer"), "somebody else held a newer one");

        let updater = bench.granted("a", 1, 701);
        assert!(!offer(updater.generation + 1, "while another one fetches"));
        bench.fail(&updater, FailureClass::UnknownOutcome, None);
        let doubt = bench.inspect().doubted;
        assert!(!offer(doubt, "doubted"), "whatever was granted until now is, also by a store that lost its data");
        bench.store.invalidate(&bench.name, doubt + 5).unwrap();
        assert!(!offer(doubt + 5, "void"));
        assert!(offer(doubt + 6, "beyond doubt"));
    }
}

#[test]
fn an_unknown_outcome_casts_doubt_even_without_the_lease() {
    for bench in Bench::both() {
        let lost = bench.granted("a", 1, 0);
        bench.lose_the_lease(&lost);
        let newer = bench.granted("b", 1, 0);
        bench.commit(&newer, "newer");
        bench.fail(&lost, FailureClass::UnknownOutcome, None);
        let stored = bench.token(0);
        assert_eq!((stored.generation, stored.doubted), (newer.generation, true));
    }
}

#[test]
fn a_void_token_is_not_served_and_an_old_rejection_changes_nothing() {
    for bench in Bench::both() {
        let first = bench.granted("a", 1, 0);
        bench.commit(&first, "first");
        bench.store.invalidate(&bench.name, first.generation).unwrap();
        let second = bench.granted("a", 2, 0);
        assert_eq!(bench.commit(&first, "void"), Committed::Invalid);
        bench.commit(&second, "second");
        bench.store.invalidate(&bench.name, first.generation).unwrap();
        assert_eq!(bench.token(0).generation, second.generation);
    }
}

#[test]
fn the_budget_allows_its_burst_and_then_says_how_long_to_wait() {
    for mut bench in Bench::both() {
        bench.budget = Budget::per_minute(6).burst(2);
        for attempt in 1..=2 {
            let lease = bench.granted("a", attempt, 0);
            bench.store.invalidate(&bench.name, lease.generation).unwrap();
            bench.commit(&lease, "rejected at once");
        }
        let Claimed::Limited { retry_after } = bench.claim("a", 3, 0) else { panic!() };
        assert!(retry_after <= Duration::from_secs(10) && retry_after > Duration::from_secs(8), "{retry_after:?}");
    }
}

#[test]
fn a_claim_without_a_budget_may_look_but_is_never_granted() {
    for bench in Bench::both() {
        let look = Claim { owner: "a", attempt: 1, newer_than: 0, lease: LEASE, budget: None, egress: "default" };
        assert!(matches!(bench.store.claim(&bench.name, &look).unwrap(), Claimed::Limited { .. }));
        bench.commit(&bench.granted("b", 1, 0), "secret");
        assert!(matches!(bench.store.claim(&bench.name, &look).unwrap(), Claimed::Token(_)));
    }
}

#[test]
fn a_carried_secret_reaches_the_next_grant() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        let carry = Some(Secret::new("refresh"));
        let grant =
            Grant { value: Secret::new("v"), left: HOUR, life: HOUR, age: None, carry, carry_lifetime: Some(HOUR) };
        bench.store.commit(&bench.name, &lease, &grant).unwrap();
        let Claimed::Granted { carry, .. } = bench.claim("a", 2, lease.generation) else { panic!() };
        assert_eq!(carry.unwrap().reveal(), "refresh");
    }
}

#[test]
fn a_listener_hears_every_change_after_it_was_made() {
    for bench in Bench::both() {
        let mut listener = bench.store.subscribe(&bench.name).unwrap();
        let mut heard = || listener.wait(support::LONG).unwrap();
        let first = bench.granted("a", 1, 0);
        bench.commit(&first, "v");
        assert_eq!(heard(), Some(Change::Committed(first.generation)));
        bench.store.invalidate(&bench.name, first.generation).unwrap();
        assert_eq!(heard(), Some(Change::Invalidated(first.generation)));
        let second = bench.granted("a", 2, 0);
        bench.fail(&second, FailureClass::UnknownOutcome, None);
        assert!(matches!(heard(), Some(Change::Doubted(generation)) if generation >= second.generation));
        assert_eq!(heard(), Some(Change::Failed(FailureClass::UnknownOutcome)));
        assert_eq!(listener.wait(Duration::from_millis(1)).unwrap(), None);
    }
}

#[test]
fn a_store_is_busy_while_an_updater_holds_its_lease() {
    for bench in Bench::both() {
        let busy = || bench.store.has_updater(&bench.name).unwrap();
        assert!(!busy());
        let lease = bench.granted("a", 1, 0);
        assert!(busy());
        bench.commit(&lease, "v");
        assert!(!busy());
        let next = bench.granted("a", 2, lease.generation);
        bench.fail(&next, FailureClass::Unavailable, None);
        assert!(!busy());
    }
}

#[test]
fn a_lease_that_ended_is_taken_over() {
    for bench in Bench::both() {
        let Claimed::Granted { generation, .. } = bench.claim_for("a", 1, 0, Duration::from_millis(5)) else {
            panic!()
        };
        support::wait_until("the lease has ended", || match bench.claim("b", 1, 0) {
            Claimed::Granted { generation: next, .. } => next > generation,
            _ => false,
        });
    }
}

/// What Redis finds after its clock was set back by an hour, or a new primary whose clock is behind: each end lies an hour
/// further ahead than it did.
#[test]
fn a_clock_that_went_back_draws_no_span_out_beyond_its_length() {
    let Backing::Redis(server) = Backing::redis() else { unreachable!() };
    let url = server.url();
    let store = RedisStore::open(&url).unwrap();
    let name = TokenName { namespace: "tm".into(), group: "g".into(), name: "t".into() };
    let budget = Budget::per_minute(60).burst(3);
    let bench = Bench { store: Box::new(store), name, budget, _backing: Backing::Redis(server) };
    let Backing::Redis(server) = &bench._backing else { unreachable!() };
    let back = |key: &str| drop(server.command(&["PEXPIRE", key, &HOUR.as_millis().to_string()]));
    let at_most = |what: &str, span: Duration, most: u64| {
        assert!(span <= Duration::from_secs(most), "{what}: {span:?}");
        assert!(span > Duration::from_secs(most) / 2, "{what}: {span:?}");
    };
    let hours_ahead = |hours: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
        (now + hours * 3_600_000_000).to_string()
    };

    // A lease of 3 seconds.
    let Claimed::Granted { generation, .. } = bench.claim_for("a", 1, 0, Duration::from_secs(3)) else { panic!() };
    back("tm:{g}:t:updater");
    at_most("inspected lease", bench.inspect().updater.unwrap().1, 3);
    let Claimed::Busy { lease_left } = bench.claim("b", 1, 0) else { panic!() };
    at_most("lease", lease_left, 3);
    at_most("lease in Redis", ms(server, "tm:{g}:t:updater"), 3);

    // A pause of 2 seconds of the fleet, and one of the egress.
    let lease = Lease { owner: "a".into(), attempt: 1, generation };
    bench.fail(&lease, FailureClass::Unavailable, Some(Duration::from_secs(2)));
    server.command(&["HSET", "tm:{g}:t:meta", "pause_until", &hours_ahead(1)]);
    at_most("inspected pause", bench.inspect().pause.unwrap().retry_after, 2);
    let Claimed::Paused(cooling) = bench.claim("b", 1, 0) else { panic!() };
    at_most("pause", cooling.retry_after, 2);
    let until: u64 = server.command(&["HGET", "tm:{g}:t:meta", "pause_until"]).parse().unwrap();
    assert!(until < hours_ahead(1).parse::<u64>().unwrap() - 3_000_000_000, "the pause now ends in time");
    bench.fail(&lease, FailureClass::Throttled, Some(Duration::from_secs(3)));
    back("tm:{g}:pause:default");
    at_most("inspected pause of the egress", bench.inspect().pause.unwrap().retry_after, 3);
    let Claimed::Paused(cooling) = bench.claim("b", 1, 0) else { panic!() };
    at_most("pause of the egress", cooling.retry_after, 3);
    at_most("pause of the egress in Redis", ms(server, "tm:{g}:pause:default"), 3);
    bench.store.lift_pause(&bench.name, "default").unwrap();

    // A budget of which a third is spent.
    server.command(&["SET", "tm:{g}:budget:default", &format!("{}:3000000", hours_ahead(1))]);
    at_most("inspected budget", bench.inspect().budget_spent, 3);
    let Claimed::Limited { retry_after } = bench.claim("b", 1, 0) else { panic!("the budget is spent") };
    at_most("one fetch's time", retry_after, 1);
    support::wait_until("the budget allows a fetch", || matches!(bench.claim("b", 1, 0), Claimed::Granted { .. }));

    // A token of 5 seconds, above whatever was granted before.
    let lease = bench.granted("b", 1, 0);
    let (value, life) = (Secret::new("v"), Duration::from_secs(5));
    let grant = Grant { value, left: life, life, age: None, carry: None, carry_lifetime: None };
    server.command(&["HSET", "tm:{g}:t:meta", "invalidated", &hours_ahead(1)]);
    bench.store.commit(&bench.name, &lease, &grant).unwrap();
    assert_eq!(bench.inspect().token, None, "it was void");
    bench.store.lift_pause(&bench.name, "default").unwrap();
    support::wait_until("the budget allows a fetch", || matches!(bench.claim("c", 1, 0), Claimed::Granted { .. }));
    let lease = bench.granted("c", 1, 0);
    assert!(lease.generation > hours_ahead(0).parse::<u64>().unwrap() + 3_000_000_000, "above what is void");
    assert_eq!(bench.store.commit(&bench.name, &lease, &grant).unwrap(), Committed::Written { doubted: false });
    back("tm:{g}:t:token");
    at_most("inspected token", bench.inspect().token.unwrap().1, 5);
    at_most("token", bench.token(0).left, 5);
    at_most("token in Redis", ms(server, "tm:{g}:t:token"), 5);
}

fn ms(server: &support::RedisServer, key: &str) -> Duration {
    Duration::from_millis(server.command(&["PTTL", key]).parse().unwrap())
}

/// A user who may claim and not commit would ask the issuer again and again, and so would each further process.
#[test]
fn who_may_not_commit_is_granted_nothing() {
    let Backing::Redis(server) = Backing::redis() else { unreachable!() };
    let store = RedisStore::open(&server.url()).unwrap();
    let name = TokenName { namespace: "tm".into(), group: "g".into(), name: "t".into() };
    let budget = Some(Budget::default());
    let claim = |attempt| {
        let claim = Claim { owner: "a", attempt, newer_than: 0, lease: LEASE, budget, egress: "default" };
        store.claim(&name, &claim)
    };
    let rules = ["-hset", "-hdel", "-del", "-set", "-pexpire", "-hmget", "-get", "-pttl", "-time"];
    for (attempt, rule) in rules.into_iter().enumerate() {
        server.command(&["ACL", "SETUSER", "default", "+@all", rule]);
        let error = claim(attempt as u64).expect_err(rule);
        assert_eq!(error.kind(), StoreErrorKind::Denied, "{rule}: {error}");
        server.command(&["ACL", "SETUSER", "default", "+@all"]);
        assert_eq!(store.inspect(&name, "default").unwrap().updater, None, "{rule}");
    }
    assert!(matches!(claim(99).unwrap(), Claimed::Granted { .. }));
}

#[test]
fn the_store_in_memory_forgets_what_has_ended() {
    let store = MemoryStore::new();
    let token = |at: u64| TokenName { namespace: "tm".into(), group: at.to_string().into(), name: "t".into() };
    let brief = Duration::from_millis(1);
    for at in 0..10_000 {
        let budget = Some(Budget::per_minute(60_000));
        let claim = Claim { owner: "a", attempt: 1, newer_than: 0, lease: LEASE, budget, egress: "default" };
        let Claimed::Granted { generation, .. } = store.claim(&token(at), &claim).unwrap() else { panic!() };
        let lease = Lease { owner: "a".into(), attempt: 1, generation };
        let grant =
            Grant { value: Secret::new("v"), left: brief, life: brief, age: None, carry: None, carry_lifetime: None };
        store.commit(&token(at), &lease, &grant).unwrap();
        drop(store.subscribe(&token(at)).unwrap());
        if at % 1000 == 0 {
            support::wait_until("it has ended", || store.inspect(&token(at), "default").unwrap().token.is_none());
        }
    }
    let kept = format!("{store:?}");
    let numbers = || kept.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<usize>().ok());
    assert!(numbers().count() == 3 && numbers().all(|kept| kept < 4000), "{kept}");
}

#[test]
fn what_a_source_says_in_absurd_lengths_is_cut_to_what_a_store_can_keep() {
    use token_manager::{Attempt, FetchError, Fetched};
    for backing in Backing::both() {
        let forever = |_: &Attempt| Ok(Fetched::new("secret", HOUR).carry("carried").carry_lifetime(Duration::MAX));
        let manager = backing.builder("t").source(forever).build().unwrap();
        manager.get().unwrap();
        let seen = manager.inspect().unwrap();
        assert!(seen.carries && seen.token.is_some(), "{seen:?}");
        let throttled = |_: &Attempt| Err::<Fetched, _>(FetchError::throttled(Some(Duration::MAX)));
        let error = backing.builder("u").source(throttled).build().unwrap().get().unwrap_err();
        assert!(error.retry_after().is_some_and(|pause| pause <= HOUR && pause > HOUR / 2), "{error}");
    }
}
