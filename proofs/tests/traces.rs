//! The scripts in a real Redis against the rules: the same random verbs, one by one, on Redis, on the rules fed with the
//! time that Redis tells, and on the stores in memory and in files, with every reply and the whole stored state compared.
//!
//! `PROOFS_SEED` repeats a run; `PROOFS_TRACES` is how many traces are run.

use proofs::{Chance, number};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use token_manager::store::rules::{EgressState, GrantState};
use token_manager::store::{
    Change, Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Presence, Secret, Stored, TokenName,
};
use token_manager::{Budget, FailureClass, FileStore, MemoryStore, RedisStore, Store};

use testbed::redis_server::RedisServer;
use testbed::wait_until;

const STEPS: u64 = 60;
const HOUR: Duration = Duration::from_secs(3600);
const INSTANT: Duration = Duration::from_millis(1);
/// How far two durations that derive from two looks at a clock may be apart.
const TOLERANCE: Duration = Duration::from_millis(400);

/// A duration, and how far apart two of it may be.
type Span = (Duration, Duration);

fn exact(span: &mut Duration) -> Span {
    (std::mem::take(span), TOLERANCE)
}

/// A cool-down has up to a quarter more, by the digits of the clock.
fn jittered(span: &mut Duration) -> Span {
    let (span, tolerance) = exact(span);
    (span, tolerance + span / 4)
}

#[derive(Clone, Debug)]
enum Verb {
    Claim(Asked),
    Renew {
        lease: Lease,
        length: Duration,
    },
    Show {
        lease: Lease,
    },
    Vanish,
    /// The second look at a lease; the updater is missing if it was shown and has vanished, which only Redis can see by itself.
    Miss {
        lease: Lease,
        missing: bool,
    },
    Commit {
        lease: Lease,
        grant: Grant,
    },
    Fail {
        lease: Lease,
        class: FailureClass,
        retry_after: Option<Duration>,
    },
    Invalidate {
        generation: u64,
    },
    Offer {
        token: Stored,
    },
    LiftPause,
    LoseData,
}

#[derive(Clone, Debug)]
struct Asked {
    owner: Arc<str>,
    attempt: u64,
    newer_than: u64,
    lease: Duration,
    budget: Option<Budget>,
}

impl Asked {
    fn claim(&self) -> Claim<'_> {
        let Asked { owner, attempt, newer_than, lease, budget } = self;
        Claim { owner, attempt: *attempt, newer_than: *newer_than, lease: *lease, budget: *budget, egress: "egress" }
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    Claimed(Claimed),
    Committed(Committed),
    Failed(Option<Pause>),
    Renewed(bool),
    Offered(bool),
    Missed(bool),
    Done,
}

/// Generations are times, so each store grants its own; what is compared is which grant of the trace it was.
#[derive(Default)]
struct Grants(Vec<u64>);

impl Grants {
    fn note(&mut self, answer: &Answer) {
        if let Answer::Claimed(Claimed::Granted { generation, .. }) = answer
            && !self.0.contains(generation)
        {
            assert!(self.0.last().is_none_or(|last| generation > last), "a generation did not grow");
            self.0.push(*generation);
        }
    }

    /// Returns the generation of a grant: 0 is none, and one more than there are is one that was never granted.
    fn generation(&self, rank: u64) -> u64 {
        match rank.checked_sub(1) {
            None => 0,
            Some(at) => self.0.get(at as usize).copied().unwrap_or_else(|| self.0.last().map_or(1, |last| last + 1)),
        }
    }

    fn rank(&self, generation: u64) -> u64 {
        let at = self.0.iter().position(|granted| *granted == generation);
        match (generation, at) {
            (0, _) => 0,
            (_, Some(at)) => at as u64 + 1,
            _ => self.0.len() as u64 + 1,
        }
    }
}

/// One of the four twins: what answers a verb, and which generations it has granted.
struct Twin<T> {
    store: T,
    grants: Grants,
}

impl<T> Twin<T> {
    fn new(store: T) -> Twin<T> {
        Twin { store, grants: Grants::default() }
    }

    /// Puts this twin's generations in the place of ranks.
    fn own(&self, verb: &Verb) -> Verb {
        let own = |lease: &Lease| Lease { generation: self.grants.generation(lease.generation), ..lease.clone() };
        let mut verb = verb.clone();
        match &mut verb {
            Verb::Claim(Asked { newer_than: generation, .. }) | Verb::Invalidate { generation } => {
                *generation = self.grants.generation(*generation);
            }
            Verb::Offer { token } => token.generation = self.grants.generation(token.generation),
            Verb::Renew { lease, .. }
            | Verb::Show { lease }
            | Verb::Miss { lease, .. }
            | Verb::Commit { lease, .. }
            | Verb::Fail { lease, .. } => *lease = own(lease),
            Verb::LiftPause | Verb::LoseData | Verb::Vanish => {}
        }
        verb
    }

    /// Puts ranks in the place of generations, and nothing in that of durations, which are returned apart.
    fn common(&self, mut answer: Answer) -> (Answer, Vec<Span>) {
        let mut spans = Vec::new();
        match &mut answer {
            Answer::Claimed(Claimed::Token(stored)) | Answer::Committed(Committed::Superseded(stored)) => {
                stored.generation = self.grants.rank(stored.generation);
                spans.push(exact(&mut stored.left));
            }
            Answer::Claimed(Claimed::Granted { generation, carry }) => {
                *generation = self.grants.rank(*generation);
                carry.iter_mut().for_each(|carry| carry.generation = self.grants.rank(carry.generation));
                spans.extend(carry.iter_mut().filter_map(|carry| carry.presented.as_mut()).map(exact));
            }
            Answer::Claimed(Claimed::Busy { lease_left: span } | Claimed::Limited { retry_after: span }) => {
                spans.push(exact(span));
            }
            Answer::Claimed(Claimed::Paused(pause)) | Answer::Failed(Some(pause)) => {
                spans.push(jittered(&mut pause.retry_after));
            }
            _ => {}
        }
        (answer, spans)
    }

    fn common_state(&self, mut state: Inspection) -> (Inspection, Vec<Span>) {
        let mut spans = vec![exact(&mut state.budget_spent)];
        if let Some((generation, left)) = &mut state.token {
            *generation = self.grants.rank(*generation);
            spans.push(exact(left));
        }
        if let Some((lease, left)) = &mut state.updater {
            let (generation, rest) =
                lease.split_once(':').expect("an updater key is a generation, an owner, an attempt");
            *lease = format!("{}:{rest}", self.grants.rank(generation.parse().expect("a generation is a number")));
            spans.push(exact(left));
        }
        if let Some(pause) = &mut state.pause {
            spans.push(jittered(&mut pause.retry_after));
        }
        for generation in [&mut state.granted, &mut state.invalidated, &mut state.doubted] {
            *generation = self.grants.rank(*generation);
        }
        (state, spans)
    }
}

fn run(store: &dyn Store, name: &TokenName, verb: &Verb) -> Answer {
    match verb {
        Verb::Claim(asked) => Answer::Claimed(store.claim(name, &asked.claim()).unwrap()),
        Verb::Renew { lease, length } => Answer::Renewed(store.renew(name, lease, *length).unwrap()),
        Verb::Show { lease } => Answer::Renewed(store.renew(name, lease, HOUR).unwrap()),
        // A store that sees nobody: a lease that is ended is one that ends early.
        Verb::Miss { lease, missing } => Answer::Missed(*missing && store.renew(name, lease, INSTANT).unwrap()),
        Verb::Commit { lease, grant } => Answer::Committed(store.commit(name, lease, grant).unwrap()),
        Verb::Fail { lease, class, retry_after } => {
            let failure = Failure { class: *class, retry_after: *retry_after, egress: "egress" };
            Answer::Failed(store.record_failure(name, lease, &failure).unwrap())
        }
        Verb::Offer { token } => Answer::Offered(store.offer(name, token).unwrap()),
        Verb::LiftPause => {
            store.lift_pause(name, "egress").unwrap();
            Answer::Done
        }
        Verb::Invalidate { generation } => {
            store.invalidate(name, *generation).unwrap();
            Answer::Done
        }
        Verb::LoseData | Verb::Vanish => Answer::Done,
    }
}

/// The last updater, and which ones Redis can see: the one that was shown last, and the subscriptions that are held.
#[derive(Default)]
struct Seen {
    granted: Option<Lease>,
    shown: Option<Lease>,
    held: Vec<(Arc<str>, Box<dyn Send>)>,
}

impl Seen {
    /// Aims at the lease that matters, unless it is to be any.
    fn aim(&self, verb: &mut Verb, at_any: bool) {
        match (&mut *verb, &self.granted, &self.shown) {
            (Verb::Show { lease }, Some(aim), _) | (Verb::Miss { lease, .. }, _, Some(aim)) if !at_any => {
                lease.clone_from(aim);
            }
            _ => {}
        }
        if let Verb::Miss { lease, missing } = verb {
            *missing = self.is_missing(lease);
        }
    }

    fn is_missing(&self, lease: &Lease) -> bool {
        self.shown.as_ref() == Some(lease) && !self.held.iter().any(|(owner, _)| *owner == lease.owner)
    }

    /// Runs a verb of presence, in which `own` is the lease in Redis.
    fn run(&mut self, server: &RedisServer, redis: &RedisStore, name: &TokenName, verb: &Verb, own: &Verb) -> Answer {
        match (verb, own) {
            (Verb::Show { lease }, Verb::Show { lease: own }) => {
                let held = redis.show_presence(name, own, HOUR, None).unwrap();
                let is_shown = held.is_some();
                self.shown = if is_shown { Some(lease.clone()) } else { self.shown.take() };
                self.held.extend(held.map(|held| (lease.owner.clone(), held)));
                Answer::Renewed(is_shown)
            }
            (Verb::Vanish, _) => {
                self.held.clear();
                wait_until("nobody is subscribed", || server.command(&["PUBSUB", "CHANNELS"]).is_empty());
                Answer::Done
            }
            (_, Verb::Miss { lease, .. }) => {
                let updater = || redis.inspect(name, "egress").unwrap().updater.map(|(lease, _)| lease);
                let had = updater() == Some(lease.to_string());
                let ended = redis.presence(name, Some(lease)).unwrap() == Presence::Ended;
                assert!(!ended || updater().is_none());
                Answer::Missed(had && ended)
            }
            _ => run(redis, name, own),
        }
    }
}

/// The rules by themselves.
#[derive(Default)]
struct Model {
    ledger: GrantState,
    egress: EgressState,
    changes: Vec<Change>,
}

impl Model {
    fn run(&mut self, now: u64, name: &TokenName, verb: &Verb) -> Answer {
        let Model { ledger, egress, changes } = self;
        if matches!(verb, Verb::LoseData) {
            (*ledger, *egress) = Default::default();
        }
        ledger.token(name, |ledger| match verb {
            Verb::Claim(asked) => Answer::Claimed(ledger.claim(now, &asked.claim(), egress)),
            Verb::Renew { lease, length } => Answer::Renewed(ledger.renew(now, lease, *length)),
            Verb::Show { lease } => Answer::Renewed(ledger.renew(now, lease, HOUR)),
            Verb::Miss { lease, missing } => Answer::Missed(*missing && ledger.end_missed(now, lease)),
            Verb::Commit { lease, grant } => Answer::Committed(ledger.commit(now, lease, grant, changes)),
            Verb::Fail { lease, class, retry_after } => {
                let failure = Failure { class: *class, retry_after: *retry_after, egress: "egress" };
                Answer::Failed(ledger.record_failure(now, lease, &failure, egress, changes))
            }
            Verb::Offer { token } => Answer::Offered(ledger.offer(now, token, changes)),
            Verb::LiftPause => {
                ledger.lift_pause(egress);
                Answer::Done
            }
            Verb::Invalidate { generation } => {
                ledger.invalidate(now, *generation, changes);
                Answer::Done
            }
            Verb::LoseData | Verb::Vanish => Answer::Done,
        })
    }
}

impl Model {
    fn inspect(&mut self, now: u64, name: &TokenName) -> Inspection {
        let Model { ledger, egress, .. } = self;
        ledger.token(name, |ledger| ledger.inspect(now, egress))
    }
}

/// Spans that end within a trace are short or long, so that no end falls between two twins: 1 ms has passed before the
/// next step, an hour has not.
fn verb(chance: &mut Chance, grants: u64) -> Verb {
    let owner: Arc<str> = chance.of(&["a", "b", "c"]).into();
    let rank = if chance.one_in(3) { chance.below(grants + 2) } else { grants };
    let lease = Lease { owner: owner.clone(), attempt: chance.below(2), generation: rank };
    let span = if chance.one_in(4) { INSTANT } else { HOUR };
    match chance.below(28) {
        0..8 => Verb::Claim(Asked {
            owner,
            attempt: lease.attempt,
            newer_than: rank.min(chance.below(grants + 2)),
            lease: span,
            budget: (!chance.one_in(10)).then(|| Budget::per_minute(chance.of(&[1, 60_000])).burst(8)),
        }),
        8..10 => Verb::Renew { lease, length: span },
        10..15 => {
            let value = Secret::new(format!("token-{}", chance.below(1_000_000)));
            let carry = chance.one_in(3).then(|| Secret::new(format!("carry-{}", chance.below(1_000_000))));
            let carry_lifetime = chance.one_in(2).then_some(span);
            let age = chance.of(&[None, Some(HOUR)]); // never late: that would fall between two twins
            Verb::Commit { lease, grant: Grant { value, left: span, life: HOUR, age, carry, carry_lifetime } }
        }
        15..17 => {
            let class = chance.of(&FailureClass::ALL);
            // The egress's pause and the fleet's never end so close together that two twins could take another one for the last.
            let throttled = class == FailureClass::Throttled;
            let spans = [Some(Duration::from_secs(if throttled { 1800 } else { 7200 })), Some(INSTANT), None];
            let retry_after = chance.of(if throttled { &spans[..1] } else { &spans });
            Verb::Fail { lease, class, retry_after }
        }
        17..19 => Verb::Invalidate { generation: rank },
        19 => {
            let value = Secret::new(format!("token-{}", chance.below(3)));
            Verb::Offer { token: Stored { generation: rank, value, left: span, life: HOUR, doubted: false } }
        }
        20 => Verb::LiftPause,
        21..24 => Verb::Show { lease },
        24 => Verb::Vanish,
        25..27 => Verb::Miss { lease, missing: false },
        _ if chance.one_in(4) => Verb::LoseData,
        _ => Verb::Invalidate { generation: 0 },
    }
}

fn time(server: &RedisServer) -> u64 {
    let text = server.command(&["TIME"]);
    let (seconds, micros) = text.split_once('\n').expect("TIME answers two numbers");
    seconds.parse::<u64>().unwrap() * 1_000_000 + micros.parse::<u64>().unwrap()
}

#[test]
fn redis_memory_and_files_answer_every_random_trace_as_the_rules_do() {
    let (seed, traces) = (number("PROOFS_SEED", 1), number("PROOFS_TRACES", 100));
    println!("PROOFS_SEED={seed} PROOFS_TRACES={traces}");
    let server = RedisServer::start().unwrap();
    let redis = RedisStore::open(&server.url()).unwrap();
    let (mut steps, mut chance, mut kinds) = (0, Chance::new(seed), BTreeMap::new());
    for trace in 0..traces {
        server.command(&["FLUSHALL"]);
        let grant = format!("t{trace}");
        // One that has its grant alone, or three that share one.
        let names: &[&str] = if trace % 2 == 0 { &[&grant] } else { &[&grant, "a", "b"] };
        let (mut model, mut memory) = (Twin::new(Model::default()), Twin::new(MemoryStore::new()));
        let (mut real, mut seen) = (Twin::new(&redis), Seen::default());
        let mut folder = tempfile::tempdir().unwrap();
        let mut files = Twin::new(FileStore::open(folder.path()).unwrap());
        for step in 0..STEPS {
            let mut verb = verb(&mut chance, real.grants.0.len() as u64);
            seen.aim(&mut verb, chance.one_in(4));
            let (name, grant) = (chance.of(names).into(), grant.as_str().into());
            let name = TokenName { namespace: "proofs".into(), group: "g".into(), name, grant };
            let at = format!("seed {seed}, trace {trace}, step {step}, {name}: {verb:?}");
            if matches!(verb, Verb::LoseData) {
                server.command(&["FLUSHALL"]);
                memory.store = MemoryStore::new();
                folder = tempfile::tempdir().unwrap();
                files.store = FileStore::open(folder.path()).unwrap();
            }
            let answer = seen.run(&server, real.store, &name, &verb, &real.own(&verb));
            let now = time(&server);
            // A granted generation is Redis's time during the verb itself.
            let granted = match &answer {
                Answer::Claimed(Claimed::Granted { generation, .. }) if !real.grants.0.contains(generation) => {
                    *generation
                }
                _ => now,
            };
            let modelled = model.store.run(granted, &name, &model.own(&verb));
            let remembered = run(&memory.store, &name, &memory.own(&verb));
            let filed = run(&files.store, &name, &files.own(&verb));
            real.grants.note(&answer);
            if let (Verb::Claim(asked), Answer::Claimed(Claimed::Granted { generation, .. })) = (&verb, &answer) {
                let (owner, attempt, generation) = (asked.owner.clone(), asked.attempt, real.grants.rank(*generation));
                seen.granted = Some(Lease { owner, attempt, generation });
            }
            model.grants.note(&modelled);
            memory.grants.note(&remembered);
            files.grants.note(&filed);
            let answer = real.common(answer);
            *kinds.entry(kind(&answer.0)).or_insert(0) += 1;
            same(&at, &answer, &model.common(modelled));
            same(&at, &answer, &memory.common(remembered));
            same(&at, &answer, &files.common(filed));

            std::thread::sleep(Duration::from_millis(2)); // lets what is set to end at once end everywhere
            let state = real.common_state(real.store.inspect(&name, "egress").unwrap());
            let now = time(&server);
            let modelled = model.store.inspect(now, &name);
            same(&at, &state, &model.common_state(modelled));
            same(&at, &state, &memory.common_state(memory.store.inspect(&name, "egress").unwrap()));
            same(&at, &state, &files.common_state(files.store.inspect(&name, "egress").unwrap()));
            steps += 1;
        }
    }
    println!("{traces} traces, {steps} steps: {kinds:?}");
    assert_eq!(steps, traces * STEPS);
    assert_eq!(kinds.len(), 17, "some kind of answer never came");
}

/// Names what is answered, so that the run shows that every kind was.
fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::Claimed(Claimed::Token(_)) => "token",
        Answer::Claimed(Claimed::Granted { .. }) => "granted",
        Answer::Claimed(Claimed::Busy { .. }) => "busy",
        Answer::Claimed(Claimed::Paused(_)) => "paused",
        Answer::Claimed(Claimed::Limited { .. }) => "limited",
        Answer::Committed(Committed::Written { doubted: false }) => "written",
        Answer::Committed(Committed::Written { doubted: true }) => "written in doubt",
        Answer::Committed(Committed::Superseded(_)) => "superseded",
        Answer::Committed(Committed::Invalid) => "invalid",
        Answer::Failed(Some(_)) => "failed",
        Answer::Failed(None) => "failed late",
        Answer::Renewed(_) => "renewed",
        Answer::Missed(true) => "missed",
        Answer::Missed(false) => "not missed",
        Answer::Offered(true) => "taken back",
        Answer::Offered(false) => "not taken back",
        Answer::Done => "done",
    }
}

fn same<T: PartialEq + std::fmt::Debug>(at: &str, redis: &(T, Vec<Span>), other: &(T, Vec<Span>)) {
    assert_eq!(redis.0, other.0, "{at}");
    let close = |(one, two): (&Span, &Span)| one.0.abs_diff(two.0) <= one.1.max(two.1);
    assert!(redis.1.iter().zip(&other.1).all(close), "{at}: {:?} and {:?}", redis.1, other.1);
}
