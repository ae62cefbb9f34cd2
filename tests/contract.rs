//! One list of what a store must do, passed by the embedded store and by Redis.

mod support;

use std::sync::Arc;
use std::time::Duration;
use support::Backing;
use token_manager::{
    Budget, Change, Claim, Claimed, Committed, FailureClass, Grant, Lease, RedisStore, Secret, Store, Stored, TokenName,
};

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
fn a_late_commit_into_an_empty_place_is_written_and_doubted() {
    for bench in Bench::both() {
        let late = bench.granted("a", 1, 0);
        bench.lose_the_lease(&late);
        assert_eq!(bench.commit(&late, "late"), Committed::Written { doubted: true });
        assert!(bench.token(0).doubted);
    }
}

#[test]
fn a_commit_that_is_carried_out_late_begins_no_life_anew() {
    for bench in Bench::both() {
        let lease = bench.granted("a", 1, 0);
        // A generation is the time of its grant in microseconds: these were granted some minutes ago.
        let granted_ago = |minutes: u64| Lease { generation: lease.generation - minutes * 60_000_000, ..lease.clone() };
        let at_once = Some(Duration::ZERO);
        assert_eq!(bench.commit_of_age(&granted_ago(61), "out of time", at_once), Committed::Void);
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
        let fail = |class, pause| bench.store.fail(&bench.name, &lease, class, pause).unwrap();
        let cooling = fail(FailureClass::Throttled, Some(Duration::from_secs(9))).unwrap();
        assert_eq!((cooling.class, cooling.retry_after.as_millis().div_ceil(1000)), (FailureClass::Throttled, 9));
        let again = fail(FailureClass::Throttled, Some(Duration::from_secs(99))).unwrap();
        assert!(again.retry_after <= cooling.retry_after, "a repetition does not count");
        assert!(matches!(bench.claim("b", 1, 0), Claimed::Cooling(c) if c.class == FailureClass::Throttled));
        assert_eq!(bench.store.inspect(&bench.name, "default").unwrap().fails, 1);
        bench.commit(&lease, "late, but a success");
        assert_eq!(bench.store.inspect(&bench.name, "default").unwrap().cooling, None);
    }
}

#[test]
fn the_first_pause_is_a_second_and_a_minute_for_rejected_credentials() {
    for bench in Bench::both() {
        for (class, second) in [(FailureClass::Unavailable, 1), (FailureClass::Rejected, 60)] {
            let name = TokenName { name: class.as_str().into(), ..bench.name.clone() };
            let claim = Claim {
                owner: "a",
                attempt: 1,
                newer_than: 0,
                lease: LEASE,
                budget: Some(bench.budget),
                egress: "default",
            };
            let Claimed::Granted { generation, .. } = bench.store.claim(&name, &claim).unwrap() else { panic!() };
            let lease = Lease { owner: "a".into(), attempt: 1, generation };
            let pause = bench.store.fail(&name, &lease, class, None).unwrap().unwrap().retry_after;
            let first = Duration::from_secs(second);
            assert!(pause >= first && pause <= first * 5 / 4, "{pause:?}");
        }
    }
}

#[test]
fn an_unknown_outcome_casts_doubt_even_without_the_lease() {
    for bench in Bench::both() {
        let lost = bench.granted("a", 1, 0);
        bench.lose_the_lease(&lost);
        let newer = bench.granted("b", 1, 0);
        bench.commit(&newer, "newer");
        bench.store.fail(&bench.name, &lost, FailureClass::UnknownOutcome, None).unwrap();
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
        assert_eq!(bench.commit(&first, "void"), Committed::Void);
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
        let mut listener = bench.store.listen(&bench.name).unwrap();
        let mut heard = || listener.wait(support::LONG).unwrap();
        let first = bench.granted("a", 1, 0);
        bench.commit(&first, "v");
        assert_eq!(heard(), Some(Change::Committed(first.generation)));
        bench.store.invalidate(&bench.name, first.generation).unwrap();
        assert_eq!(heard(), Some(Change::Void(first.generation)));
        let second = bench.granted("a", 2, 0);
        bench.store.fail(&bench.name, &second, FailureClass::UnknownOutcome, None).unwrap();
        assert_eq!(heard(), Some(Change::Doubted(second.generation)));
        assert_eq!(heard(), Some(Change::Failed(FailureClass::UnknownOutcome)));
        assert_eq!(listener.wait(Duration::from_millis(1)).unwrap(), None);
    }
}

#[test]
fn a_store_is_busy_while_an_updater_holds_its_lease() {
    for bench in Bench::both() {
        let busy = || bench.store.busy(&bench.name).unwrap();
        assert!(!busy());
        let lease = bench.granted("a", 1, 0);
        assert!(busy());
        bench.commit(&lease, "v");
        assert!(!busy());
        let next = bench.granted("a", 2, lease.generation);
        bench.store.fail(&bench.name, &next, FailureClass::Unavailable, None).unwrap();
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

/// What a primary finds whose clock is an hour behind that of the one before it.
#[test]
fn a_clock_that_went_back_closes_neither_the_budget_nor_the_way_to_a_new_token() {
    let Backing::Redis(server) = Backing::redis() else { unreachable!() };
    let ahead = |hours: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
        (now + hours * 3_600_000_000).to_string()
    };
    let (soon, late) = (ahead(1), ahead(2));
    server.command(&["SET", "tm:{g}:budget:default", &soon]);
    server.command(&["HSET", "tm:{g}:t:meta", "void", &soon, "cool_until", &late, "cool_class", "throttled"]);
    let store = RedisStore::open(&server.url()).unwrap();
    let name = TokenName { namespace: "tm".into(), group: "g".into(), name: "t".into() };
    let budget = Budget::per_minute(600).burst(100);
    let bench = Bench { store: Box::new(store), name, budget, _backing: Backing::Redis(server) };
    let Claimed::Limited { retry_after } = bench.claim("a", 1, 0) else { panic!("the budget is spent") };
    assert!(retry_after <= Duration::from_millis(100), "one fetch's time, not an hour: {retry_after:?}");
    support::wait_until("the budget allows a fetch", || matches!(bench.claim("a", 1, 0), Claimed::Granted { .. }));
    let lease = bench.granted("a", 1, 0);
    assert!(lease.generation > soon.parse().unwrap(), "above what is void");
    assert_eq!(bench.commit(&lease, "secret"), Committed::Written { doubted: false });
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
