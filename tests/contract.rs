//! The stores keep the contract, and what only Redis or only the store in memory can break.

#[path = "../examples/custom_store.rs"]
mod custom_store;

use custom_store::Folder;
use std::sync::Arc;
use std::time::Duration;
use testbed::{Backing, LONG, Script, wait_until};
use token_manager::store::rules::{EgressState, GrantState};
use token_manager::store::{
    Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Secret, StateBackend, StateStore, Step,
    StoreError, StoreErrorKind, Stored, TokenName, contract,
};
use token_manager::{Budget, FailureClass, MemoryStore, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(30);

#[test]
fn the_store_in_memory_keeps_the_contract() {
    contract::check(&MemoryStore::new());
    contract::check_events(&MemoryStore::new());
}

#[test]
fn the_store_in_redis_keeps_the_contract() {
    let Backing::Redis(server) = Backing::redis() else { unreachable!() };
    let store = RedisStore::open(&server.url()).unwrap();
    contract::check(&store);
    contract::check_events(&store);
}

#[test]
fn the_store_in_redis_keeps_the_contract_for_users_who_cannot_see_or_show_updaters() {
    let Backing::Redis(server) = Backing::redis() else { unreachable!() };
    for restriction in ["-pubsub", "resetchannels"] {
        server.command(&["ACL", "SETUSER", "user", "reset", "on", ">word", "~*", "&*", "+@all", restriction]);
        contract::check(&RedisStore::open(&server.url().replace("redis://", "redis://user:word@")).unwrap());
    }
}

#[test]
fn a_strangers_store_keeps_the_contract_behind_a_box_and_an_arc_too() {
    let folder = tempfile::tempdir().unwrap();
    let store: Box<dyn Store> = Box::new(Arc::new(StateStore(Folder(folder.path().into()))));
    contract::check(&store);
    // A second process of the host would open the folder anew.
    contract::check(&StateStore(Folder(folder.path().into())));
}

#[test]
fn a_strangers_store_that_tells_no_changes_serves_managers_and_keep_fresh() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::new(HOUR));
    let build = || {
        let store = StateStore(Folder(folder.path().into()));
        TokenManager::builder("t").store(store).source(script.source()).deadline(LONG).build().unwrap()
    };
    let (idle, busy) = (build(), build());
    let _guard = idle.keep_fresh().unwrap();
    let follows = |secret: &str| idle.get_within(Duration::ZERO).is_ok_and(|token| token.secret() == secret);
    wait_until("the idle one has a token", || follows("token-1"));
    busy.invalidate(&busy.get().unwrap());
    assert_eq!(busy.get().unwrap().secret(), "token-2");
    wait_until("the idle one follows", || follows("token-2"));
    assert_eq!(script.fetches(), 2);
}

/// A place where somebody else's change always comes between the first reading and the writing.
struct Contended(Folder);

impl StateBackend for Contended {
    fn update(&self, name: &TokenName, egress: Option<&str>, step: &mut Step<'_>) -> Result<(), StoreError> {
        step(1, &mut GrantState::default(), &mut EgressState::default());
        self.0.update(name, egress, step)
    }

    fn timeout(&self) -> Duration {
        self.0.timeout()
    }
}

#[test]
fn a_step_that_was_made_in_vain_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    contract::check(&StateStore(Contended(Folder(folder.path().into()))));
}

/// A store, a token's name and the verbs in short.
struct Bench {
    store: Box<dyn Store>,
    name: TokenName,
    budget: Budget,
    _backing: Backing,
}

impl Bench {
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
}

/// What Redis finds after its clock was set back by an hour, or a new primary whose clock is behind: each end lies an hour
/// further ahead than it did.
#[test]
fn a_clock_that_went_back_draws_no_span_out_beyond_its_length() {
    let Backing::Redis(server) = Backing::redis() else { unreachable!() };
    let url = server.url();
    let store = RedisStore::open(&url).unwrap();
    let name = TokenName { namespace: "tm".into(), group: "g".into(), name: "t".into(), grant: "t".into() };
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
    bench.record_failure(&lease, FailureClass::Unavailable, Some(Duration::from_secs(2)));
    server.command(&["HSET", "tm:{g}:t:meta", "pause_until", &hours_ahead(1)]);
    at_most("inspected pause", bench.inspect().pause.unwrap().retry_after, 2);
    let Claimed::Paused(pause) = bench.claim("b", 1, 0) else { panic!() };
    at_most("pause", pause.retry_after, 2);
    let until: u64 = server.command(&["HGET", "tm:{g}:t:meta", "pause_until"]).parse().unwrap();
    assert!(until < hours_ahead(1).parse::<u64>().unwrap() - 3_000_000_000, "the pause now ends in time");
    bench.record_failure(&lease, FailureClass::Throttled, Some(Duration::from_secs(3)));
    back("tm:{g}:pause:default");
    at_most("inspected pause of the egress", bench.inspect().pause.unwrap().retry_after, 3);
    let Claimed::Paused(pause) = bench.claim("b", 1, 0) else { panic!() };
    at_most("pause of the egress", pause.retry_after, 3);
    at_most("pause of the egress in Redis", ms(server, "tm:{g}:pause:default"), 3);
    bench.store.lift_pause(&bench.name, "default").unwrap();

    // A budget of which a third is spent.
    server.command(&["SET", "tm:{g}:budget:default", &format!("{}:3000000", hours_ahead(1))]);
    at_most("inspected budget", bench.inspect().budget_spent, 3);
    let Claimed::Limited { retry_after } = bench.claim("b", 1, 0) else { panic!("the budget is spent") };
    at_most("one fetch's time", retry_after, 1);
    testbed::wait_until("the budget allows a fetch", || matches!(bench.claim("b", 1, 0), Claimed::Granted { .. }));

    // A token of 5 seconds, above whatever was granted before.
    let lease = bench.granted("b", 1, 0);
    let (value, life) = (Secret::new("v"), Duration::from_secs(5));
    let grant = Grant { value, left: life, life, age: None, carry: None, carry_lifetime: None };
    server.command(&["HSET", "tm:{g}:t:meta", "invalidated", &hours_ahead(1)]);
    bench.store.commit(&bench.name, &lease, &grant).unwrap();
    assert_eq!(bench.inspect().token, None, "it was invalidated");
    bench.store.lift_pause(&bench.name, "default").unwrap();
    testbed::wait_until("the budget allows a fetch", || matches!(bench.claim("c", 1, 0), Claimed::Granted { .. }));
    let lease = bench.granted("c", 1, 0);
    assert!(lease.generation > hours_ahead(0).parse::<u64>().unwrap() + 3_000_000_000, "above what is invalidated");
    assert_eq!(bench.store.commit(&bench.name, &lease, &grant).unwrap(), Committed::Written { doubted: false });
    back("tm:{g}:t:token");
    at_most("inspected token", bench.inspect().token.unwrap().1, 5);
    at_most("token", bench.token(0).left, 5);
    at_most("token in Redis", ms(server, "tm:{g}:t:token"), 5);
}

fn ms(server: &testbed::redis_server::RedisServer, key: &str) -> Duration {
    Duration::from_millis(server.command(&["PTTL", key]).parse().unwrap())
}

/// A user who may claim and not commit would ask the issuer again and again, and so would each further process.
#[test]
fn who_may_not_commit_is_granted_nothing() {
    let Backing::Redis(server) = Backing::redis() else { unreachable!() };
    let store = RedisStore::open(&server.url()).unwrap();
    let name = TokenName { namespace: "tm".into(), group: "g".into(), name: "t".into(), grant: "t".into() };
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
    let token = |at: u64| TokenName {
        namespace: "tm".into(),
        group: at.to_string().into(),
        name: "t".into(),
        grant: "t".into(),
    };
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
            testbed::wait_until("it has ended", || store.inspect(&token(at), "default").unwrap().token.is_none());
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
