//! A fleet of real processes under random faults. The schedule is made from the seed before anything starts, so a seed
//! reproduces it; what must never happen is counted as a violation.
#![allow(dead_code)] // every program uses another part of it

use crate::crew::{Words, Worker};
use crate::issuer::{Fault as Trouble, Issuer, Options};
use crate::proxy::{Line, Proxy};
use crate::redis_server::RedisServer;
use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// What the fleet may ask the issuer, a minute and at once.
const BUDGET: (u32, u32) = (120, 10);
const LIFE: Duration = Duration::from_secs(3);

pub struct Plan {
    pub seed: u64,
    pub length: Duration,
    pub processes: usize,
    pub threads: usize,
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
        let fault = match dice.below(14) {
            0 => Fault::KillProcess(process),
            1 => Fault::StopProcess(process, lasts),
            2 => Fault::RejectToken(process),
            3 => Fault::RestartRedis,
            4 => Fault::StopRedis(lasts),
            5 => Fault::FlushAll,
            6 => Fault::ScriptFlush,
            7 => Fault::CutConnections,
            8 => Fault::LateReplies(lasts),
            9 => Fault::MuteNetwork(lasts),
            10 => Fault::IssuerFails(lasts),
            11 => Fault::IssuerHangs(lasts),
            12 => Fault::IssuerThrottles(lasts),
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
    issuer: Issuer,
    proxy: Proxy,
    fleet: Vec<Worker>,
    /// Whether each process was ever stopped: its calls are late then, and that is not the library's doing.
    stopped: Vec<bool>,
    /// What ends, and when.
    ending: Vec<(Instant, Fault)>,
    losses: u64,
    report: Report,
}

/// Runs the plan; `args` lead this very program to where a worker takes its orders.
pub fn run(plan: &Plan, args: &[&str]) -> Report {
    let redis = RedisServer::start().expect("a private Redis");
    let options = Options { life: LIFE, ..Options::default() };
    let issuer = Issuer::start("127.0.0.1:0", options).expect("an issuer");
    let proxy = Proxy::to(redis.port());
    let report = Report { seed: plan.seed, ..Report::default() };
    let stopped = vec![false; plan.processes];
    let mut soak =
        Soak { plan, args, redis, issuer, proxy, fleet: Vec::new(), stopped, ending: Vec::new(), losses: 0, report };
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
    soak.count(start.elapsed());
    soak.report
}

impl Soak<'_> {
    fn worker(&self, process: usize) -> Worker {
        let (per_minute, burst) = BUDGET;
        let (redis, issuer) = (self.proxy.url(), self.issuer.url());
        let settings = format!("redis={redis} issuer={issuer} budget={per_minute}/{burst} fetch_limit=2000");
        let mut worker = Worker::start(self.args, &settings);
        if process.is_multiple_of(2) {
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
                self.issuer.set(|options| (options.latency_min, options.latency_max) = (LIFE / 2, LIFE));
                lasts = Some(millis);
            }
        }
        if let Some(millis) = lasts {
            self.ending.push((Instant::now() + Duration::from_millis(millis), fault));
        }
    }

    fn trouble(&self, trouble: Trouble, millis: u64) -> Option<u64> {
        self.issuer.set(|options| options.fault = trouble);
        Some(millis)
    }

    fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::StopProcess(process, _) => self.fleet[process].resume(),
            Fault::StopRedis(_) => self.redis.resume(),
            Fault::LateReplies(_) | Fault::MuteNetwork(_) => self.proxy.set(Line::Pass),
            Fault::IssuerSlow(_) => {
                self.issuer.set(|options| (options.latency_min, options.latency_max) = Default::default());
            }
            _ => self.issuer.set(|options| options.fault = Trouble::None),
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
                continue;
            }
            worker.order("halt");
            let words = worker.word("got tag=load");
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
        let stats = self.issuer.stats();
        let (per_minute, burst) = BUDGET;
        // The budget is lost with the data, and its burst is there again.
        let allowed = f64::from(burst) * (1 + self.losses) as f64 + f64::from(per_minute) * took.as_secs_f64() / 60.0;
        self.report.lives = stats.issued;
        self.report.fetches = stats.asked;
        self.report.allowed = allowed.ceil() as u64;
        if self.report.fetches > self.report.allowed {
            self.report.violations.push(format!("{} fetches, {} allowed", self.report.fetches, self.report.allowed));
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
        writeln!(f, "{:<28}{:>8}", "fetches allowed", self.allowed)?;
        for (name, count) in &self.faults {
            writeln!(f, "  {name:<26}{count:>8}")?;
        }
        writeln!(f, "{:<28}{:>8}", "faults injected", self.faults.values().sum::<u64>())?;
        writeln!(f, "{:<28}{:>8}", "violations", self.violations.len())?;
        self.violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}
