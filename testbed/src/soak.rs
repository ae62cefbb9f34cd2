//! A fleet of real processes under random faults. The schedule is made from the seed before anything starts, so a seed
//! reproduces it; what must never happen is counted as a violation.

use crate::issuer::{Fault as Trouble, Issuer, Options};
use crate::proxy::{Line, Proxy};
use crate::redis_server::RedisServer;
use crate::worker_handle::{Words, Worker};
use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the fleet may ask the issuer, a minute and at once.
const BUDGET: (u32, u32) = (120, 10);
const LIFE: Duration = Duration::from_secs(3);

/// How long the fleets are watched with no fault when all have been mended.
const CALM: Duration = Duration::from_secs(9);
/// The names by which faults are chosen.
pub const KINDS: [&str; 16] = [
    "kill",
    "stop",
    "reject",
    "restart",
    "hang",
    "flush",
    "scripts",
    "cut",
    "late",
    "mute",
    "fails",
    "silent",
    "throttles",
    "slow",
    "signals",
    "clock",
];

pub struct Plan {
    pub seed: u64,
    pub length: Duration,
    pub processes: usize,
    pub threads: usize,
    /// How many databases of the one Redis have a fleet, of the same token name; processes are dealt to them in turn.
    pub databases: usize,
    /// Which faults may come.
    pub kinds: Vec<&'static str>,
}

impl Plan {
    /// Four processes of eight threads in two databases under all faults.
    pub fn new(seed: u64, length: Duration) -> Plan {
        Plan { seed, length, processes: 4, threads: 8, databases: 2, kinds: KINDS.into() }
    }
}

/// One fault, and for how many milliseconds it lasts if it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    KillProcess(usize),
    StopProcess(usize, u64),
    RejectToken(usize),
    RestartRedis,
    StopRedis(u64),
    FlushAll,
    ScriptFlush,
    CutConnections,
    LateReplies(u64),
    MuteNetwork(u64),
    IssuerFails(u64),
    IssuerHangs(u64),
    IssuerThrottles(u64),
    IssuerSlow(u64),
    /// Up to a thousand signals a second for each thread, with SA_RESTART or without.
    Signals(usize, u64, bool),
    /// The store's wall clock goes to so many seconds from the real time.
    StepClock(i64),
}

impl Fault {
    fn name(self) -> String {
        let name = format!("{self:?}");
        name.split('(').next().unwrap_or_default().to_owned()
    }
}

/// What a run came to.
#[derive(Default)]
pub struct Report {
    pub seed: u64,
    pub calls: u64,
    pub errors: u64,
    pub lives: u64,
    pub fetches: u64,
    pub allowed: u64,
    pub faults: BTreeMap<String, u64>,
    pub violations: Vec<String>,
}

/// SplitMix64: the same seed always gives the same schedule.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Returns what happens and when, in milliseconds from the start.
pub fn schedule(plan: &Plan) -> Vec<(u64, Fault)> {
    let mut dice = Dice(plan.seed);
    let mut faults = Vec::new();
    let mut at = 500;
    while at < plan.length.as_millis() as u64 {
        let (process, lasts) = (dice.below(plan.processes as u64) as usize, 200 + dice.below(4_000));
        let kind = plan.kinds[dice.below(plan.kinds.len() as u64) as usize];
        let (ahead, flag) = (dice.below(3601) as i64 - 1800, dice.below(2) == 0);
        let fault = match kind {
            "kill" => Fault::KillProcess(process),
            "stop" => Fault::StopProcess(process, lasts),
            "reject" => Fault::RejectToken(process),
            "restart" => Fault::RestartRedis,
            "hang" => Fault::StopRedis(lasts),
            "flush" => Fault::FlushAll,
            "scripts" => Fault::ScriptFlush,
            "cut" => Fault::CutConnections,
            "late" => Fault::LateReplies(lasts),
            "mute" => Fault::MuteNetwork(lasts),
            "fails" => Fault::IssuerFails(lasts),
            "silent" => Fault::IssuerHangs(lasts),
            "throttles" => Fault::IssuerThrottles(lasts),
            "signals" => Fault::Signals(process, lasts, flag),
            // A step of a second as often as one of half an hour.
            "clock" => Fault::StepClock(if flag { ahead / 600 } else { ahead }),
            _ => Fault::IssuerSlow(lasts),
        };
        faults.push((at, fault));
        at += 200 + dice.below(1_200);
    }
    faults
}

struct Soak<'a> {
    plan: &'a Plan,
    args: &'a [&'a str],
    redis: RedisServer,
    /// The journal of all processes, of all databases.
    journal: TempDir,
    /// One for each database.
    issuers: Vec<Issuer>,
    proxy: Proxy,
    fleet: Vec<Worker>,
    /// Whether each process was ever stopped: its calls are late then, and that is not the library's doing.
    stopped: Vec<bool>,
    /// What ends, and when.
    ending: Vec<(Instant, Fault)>,
    losses: u64,
    /// Where the store's clock is, and how often it was set forward: that ends leases, pauses and budgets as time does.
    clock: i64,
    steps_forward: u64,
    report: Report,
}

/// Runs the plan; `args` lead this very program to where a worker takes its orders.
pub fn run(plan: &Plan, args: &[&str]) -> Report {
    let clock = plan.kinds.contains(&"clock");
    let redis = if clock { RedisServer::start_with_clock() } else { RedisServer::start() }.expect("a private Redis");
    let options = Options { life: LIFE, ..Options::default() };
    let issuer = |_| Issuer::start("127.0.0.1:0", options.clone()).expect("an issuer");
    let issuers = (0..plan.databases).map(issuer).collect();
    let proxy = Proxy::to(redis.port());
    let report = Report { seed: plan.seed, ..Report::default() };
    let (stopped, fleet, ending) = (vec![false; plan.processes], Vec::new(), Vec::new());
    let (losses, clock, steps_forward) = (0, 0, 0);
    let journal = tempfile::tempdir().expect("a folder");
    let mut soak = Soak {
        plan,
        args,
        redis,
        journal,
        issuers,
        proxy,
        fleet,
        stopped,
        ending,
        losses,
        clock,
        steps_forward,
        report,
    };
    let start = Instant::now();
    for process in 0..plan.processes {
        let worker = soak.worker(process);
        soak.fleet.push(worker);
    }
    for (at, fault) in schedule(plan) {
        soak.wait_until(start + Duration::from_millis(at));
        soak.strike(fault);
    }
    soak.wait_until(start + plan.length);
    soak.mend_all();
    soak.settle();
    soak.calm();
    soak.halt();
    soak.count(start.elapsed());
    soak.report
}

impl Soak<'_> {
    fn worker(&self, process: usize) -> Worker {
        let (per_minute, burst) = BUDGET;
        let database = process % self.plan.databases;
        let (redis, issuer) = (self.proxy.url(), self.issuers[database].url());
        // A token that a step of the clock has drawn out is found by the next claim, after a life at most, and ends a life later.
        let stale = if self.plan.kinds.contains(&"clock") { 2 * LIFE.as_millis() } else { 0 };
        let numbers = format!("budget={per_minute}/{burst} fetch_limit=2000 stale={stale}");
        let journal = self.journal.path().display();
        let settings = format!("redis={redis}{database} issuer={issuer} journal={journal} {numbers}");
        let mut worker = Worker::start(self.args, &settings);
        if (process / self.plan.databases).is_multiple_of(2) {
            worker.order("fresh on");
        }
        worker.order(&format!("load {} 5", self.plan.threads));
        worker
    }

    /// Waits, and ends the faults whose time is over meanwhile.
    fn wait_until(&mut self, until: Instant) {
        loop {
            let next = self.ending.iter().map(|(at, _)| *at).min().filter(|at| *at < until);
            thread::sleep(next.unwrap_or(until).saturating_duration_since(Instant::now()));
            if next.is_none() {
                return;
            }
            let now = Instant::now();
            let (over, lasting) = self.ending.iter().partition(|(at, _)| *at <= now);
            self.ending = lasting;
            let over: Vec<(Instant, Fault)> = over;
            over.into_iter().for_each(|(_, fault)| self.mend(fault));
        }
    }

    fn strike(&mut self, fault: Fault) {
        *self.report.faults.entry(fault.name()).or_default() += 1;
        let mut lasts = None;
        match fault {
            Fault::KillProcess(process) => {
                self.fleet[process].kill();
                self.fleet[process] = self.worker(process);
                self.stopped[process] = false;
            }
            Fault::StopProcess(process, millis) => {
                self.fleet[process].stop();
                self.stopped[process] = true;
                lasts = Some(millis);
            }
            Fault::RejectToken(process) => self.fleet[process].order("invalidate soak"),
            Fault::RestartRedis => {
                self.losses += 1;
                self.redis.restart().expect("a restarted Redis");
            }
            Fault::StopRedis(millis) => {
                self.redis.pause();
                lasts = Some(millis);
            }
            Fault::FlushAll | Fault::ScriptFlush => {
                // A Redis that is stopped takes no orders.
                self.redis.resume();
                let words: &[&str] = if fault == Fault::FlushAll { &["FLUSHALL"] } else { &["SCRIPT", "FLUSH"] };
                self.losses += u64::from(fault == Fault::FlushAll);
                self.redis.command(words);
            }
            Fault::CutConnections => self.proxy.cut_all(),
            Fault::LateReplies(millis) => {
                self.proxy.set(Line::Late(Duration::from_millis(millis.min(800))));
                lasts = Some(millis);
            }
            Fault::MuteNetwork(millis) => {
                self.proxy.set(Line::Mute);
                lasts = Some(millis);
            }
            Fault::IssuerFails(millis) => lasts = self.trouble(Trouble::Status(500), millis),
            Fault::IssuerHangs(millis) => lasts = self.trouble(Trouble::Hang, millis),
            Fault::IssuerThrottles(millis) => lasts = self.trouble(Trouble::Throttle { retry_after: Some(1) }, millis),
            Fault::IssuerSlow(millis) => {
                self.each_issuer(|options| (options.latency_min, options.latency_max) = (LIFE / 2, LIFE));
                lasts = Some(millis);
            }
            Fault::Signals(process, millis, restart) => {
                let restart = if restart { "restart" } else { "interrupt" };
                self.fleet[process].order(&format!("storm {millis} {restart}"));
            }
            Fault::StepClock(ahead) => {
                self.steps_forward += u64::from(ahead > self.clock);
                self.clock = ahead;
                self.redis.set_clock(ahead);
            }
        }
        if let Some(millis) = lasts {
            self.ending.push((Instant::now() + Duration::from_millis(millis), fault));
        }
    }

    fn trouble(&self, trouble: Trouble, millis: u64) -> Option<u64> {
        self.each_issuer(|options| options.fault = trouble.clone());
        Some(millis)
    }

    fn each_issuer(&self, change: impl Fn(&mut Options)) {
        self.issuers.iter().for_each(|issuer| issuer.set(&change));
    }

    fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::StopProcess(process, _) => self.fleet[process].resume(),
            Fault::StopRedis(_) => self.redis.resume(),
            Fault::LateReplies(_) | Fault::MuteNetwork(_) => self.proxy.set(Line::Pass),
            Fault::IssuerSlow(_) => {
                self.each_issuer(|options| (options.latency_min, options.latency_max) = Default::default());
            }
            _ => self.each_issuer(|options| options.fault = Trouble::None),
        }
    }

    fn mend_all(&mut self) {
        std::mem::take(&mut self.ending).into_iter().for_each(|(_, fault)| self.mend(fault));
    }

    /// Asserts that all is well soon after the last fault, without anybody's help.
    fn settle(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        for process in 0..self.fleet.len() {
            let worker = &mut self.fleet[process];
            let recovered = loop {
                worker.get("settle", 1, Duration::from_secs(5));
                let left = until.saturating_duration_since(Instant::now());
                match worker.word_within("got tag=settle", left) {
                    Some(words) if words.number("ok") == 1 => break true,
                    Some(_) => {}
                    None => break false,
                }
            };
            if !recovered {
                self.report.violations.push(format!("process {process} did not recover"));
            }
        }
    }

    /// Asserts that with no fault each fleet has one fetch a life: a life ends at the soonest when 70 % of it are over.
    fn calm(&mut self) {
        let before: Vec<u64> = self.issuers.iter().map(|issuer| issuer.stats().asked).collect();
        thread::sleep(CALM);
        let most = (CALM.as_secs_f64() / (0.7 * LIFE.as_secs_f64())).ceil() as u64 + 1;
        for (database, before) in before.into_iter().enumerate() {
            let fetches = self.issuers[database].stats().asked - before;
            if !(2..=most).contains(&fetches) {
                let calm = format!("{fetches} fetches in {CALM:?} without a fault, at most {most} expected");
                self.report.violations.push(format!("database {database}: {calm}"));
            }
        }
    }

    fn halt(&mut self) {
        for process in 0..self.fleet.len() {
            self.fleet[process].order("halt");
            let words = self.fleet[process].word("got tag=load");
            self.judge(process, &words);
        }
    }

    fn judge(&mut self, process: usize, words: &Words) {
        let errors = words.text("errors").split(',').filter_map(|pair| pair.split_once(':')?.1.parse::<u64>().ok());
        let errors: u64 = errors.sum();
        self.report.calls += words.number("ok") + errors;
        self.report.errors += errors;
        if words.number("back") > 0 {
            let count = words.number("back");
            self.report
                .violations
                .push(format!("process {process}: {count} calls got an older token after a newer one"));
        }
        if words.number("stale") > 0 && !self.stopped[process] {
            let count = words.number("stale");
            self.report.violations.push(format!("process {process}: {count} of the tokens looked at had expired"));
        }
        if words.number("late") > 0 && !self.stopped[process] {
            let (count, worst) = (words.number("late"), words.number("worst"));
            self.report.violations.push(format!("process {process}: {count} calls past their deadline, by {worst} ms"));
        }
    }

    fn count(&mut self, took: Duration) {
        let (per_minute, burst) = BUDGET;
        // The budget is lost with the data or ended by a step forward of the clock, and its burst is there again.
        let bursts = 1 + self.losses + self.steps_forward;
        let allowed = f64::from(burst) * bursts as f64 + f64::from(per_minute) * took.as_secs_f64() / 60.0;
        self.report.allowed = allowed.ceil() as u64;
        for (database, issuer) in self.issuers.iter().enumerate() {
            let stats = issuer.stats();
            self.report.lives += stats.issued;
            self.report.fetches += stats.asked;
            if stats.asked > self.report.allowed {
                let counts = format!("{} fetches, {} allowed", stats.asked, self.report.allowed);
                self.report.violations.push(format!("database {database}: {counts}"));
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28}{:>8}", "seed", self.seed)?;
        writeln!(f, "{:<28}{:>8}", "calls", self.calls)?;
        writeln!(f, "{:<28}{:>8}", "calls answered by an error", self.errors)?;
        writeln!(f, "{:<28}{:>8}", "token lives", self.lives)?;
        writeln!(f, "{:<28}{:>8}", "fetches", self.fetches)?;
        writeln!(f, "{:<28}{:>8}", "fetches allowed a fleet", self.allowed)?;
        for (name, count) in &self.faults {
            writeln!(f, "  {name:<26}{count:>8}")?;
        }
        writeln!(f, "{:<28}{:>8}", "faults injected", self.faults.values().sum::<u64>())?;
        writeln!(f, "{:<28}{:>8}", "violations", self.violations.len())?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}
