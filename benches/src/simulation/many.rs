//! Many tokens in many processes that keep them fresh, in virtual time: one token after the other, by the library's own rules of when
//! a process refreshes, takes over and looks. What reaches Redis is added up in hundredths of a second, and its queue follows
//! from that. Replies take no time to queue for a token itself: where they would, the report says how long.

use super::{micros, moment};
use std::time::Duration;
use token_manager::internals::policy::Window;
use token_manager::internals::{decide, policy};

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Settings {
    pub processes: usize,
    pub tokens: usize,
    pub life: Duration,
    /// How long it goes on after the last token was first fetched.
    pub span: Duration,
    /// Over which time the tokens were fetched first.
    pub started_within: Duration,
    pub issuer: Duration,
    /// One way between a process and Redis.
    pub network: Duration,
    pub costs: Costs,
    pub seed: u64,
}

/// What Redis' processor spends on each.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Costs {
    /// A claim that is granted, one that finds a token, a commit that nobody is told of.
    pub grant: Duration,
    pub take_over: Duration,
    pub commit: Duration,
    pub inspect: Duration,
    pub ping: Duration,
    /// One event to one subscriber.
    pub event: Duration,
}

/// What happened after the last token was first fetched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub fetches: u64,
    pub scripts: u64,
    pub pings: u64,
    pub events: u64,
    /// The most scripts and pings in one second.
    pub peak: u64,
    /// Which part of one core Redis needed.
    pub busy: f64,
    /// The longest that a command had to wait for those before it.
    pub longest_queue: Duration,
}

const SLOT: u64 = 10_000;

struct Many<'a> {
    settings: &'a Settings,
    /// From when on it counts, and until when.
    from: u64,
    until: u64,
    report: Report,
    /// In each hundredth of a second: the commands, and the nanoseconds that Redis needs for all.
    slots: Vec<(u32, u64)>,
}

/// Runs the fleet.
pub fn run(settings: &Settings) -> Report {
    let (from, until) = (micros(settings.started_within), micros(settings.started_within + settings.span));
    let slots = vec![(0, 0); (until / SLOT + 1) as usize];
    let mut many = Many { settings, from, until, report: Report::default(), slots };
    for token in 0..settings.tokens {
        many.live(token as u64);
    }
    many.look_for_all();
    many.close()
}

impl Many<'_> {
    fn fraction(&self, process: usize, token: u64, of: u64) -> f64 {
        policy::fraction(self.settings.seed ^ ((process as u64) << 40) ^ (token << 20) ^ of)
    }

    fn add(&mut self, at: u64, cost: Duration, count: fn(&mut Report) -> &mut u64) {
        if let (true, Some((commands, nanos))) = (at < self.until, self.slots.get_mut((at / SLOT) as usize)) {
            *commands += 1;
            *nanos += cost.as_nanos() as u64;
            *count(&mut self.report) += u64::from(at >= self.from);
        }
    }

    fn script(&mut self, at: u64, cost: Duration) {
        self.add(at, cost, |report| &mut report.scripts);
    }

    /// A look: what the store has, and whether the subscription stands.
    fn look(&mut self, at: u64) {
        self.script(at, self.settings.costs.inspect);
        self.add(at, self.settings.costs.ping, |report| &mut report.pings);
    }

    /// All lives of one token.
    fn live(&mut self, token: u64) {
        let Settings { processes, life, issuer, network, costs, .. } = *self.settings;
        let tokens = self.settings.tokens;
        let network = micros(network);
        let mut committed = (self.fraction(0, token, u64::MAX) * self.from as f64) as u64;
        let mut looked_at = vec![committed; processes];
        let usable = decide::usable(&Window::default(), life, issuer);
        for generation in 0.. {
            let due = |process| {
                let of_token = policy::fraction(token << 32 ^ generation);
                let fraction = decide::refresh_fraction(of_token, self.fraction(process, token, generation));
                let asked_at = moment(committed);
                decide::times(&Window::default(), asked_at, usable.left, life, false, fraction).0.mono / 1000
            };
            let due: Vec<u64> = (0..processes).map(due).collect();
            let first = due.iter().copied().min().unwrap_or_default();
            let next = first + 3 * network + micros(issuer);
            let gone = committed + micros(usable.left);
            for looked_at in &mut looked_at {
                while let Some(at) = look_at(*looked_at, committed, gone, tokens).filter(|at| *at < next) {
                    self.look(at + network);
                    *looked_at = at;
                }
            }
            if first >= self.until {
                return;
            }
            self.add(first + network, costs.grant, |report| &mut report.scripts);
            self.report.fetches += u64::from(first >= self.from && first < self.until);
            for renewal in 1..=issuer.as_secs() {
                self.script(first + network + renewal * 1_000_000, costs.take_over);
            }
            // Who finds it due meanwhile is told to wait, and looks whether somebody is at work.
            for due in due.iter().filter(|due| **due > first && **due + network < next) {
                self.script(due + network, costs.take_over);
                self.script(due + 3 * network, costs.ping);
            }
            self.script(next, costs.commit);
            for process in 1..processes {
                // Redis sends one event after the other, and each process takes the token over when it is told.
                let told = next + (costs.event * process as u32).as_micros() as u64 + network;
                self.add(next, costs.event, |report| &mut report.events);
                self.script(told + network, costs.take_over);
            }
            committed = next;
        }
    }

    /// One look in each process that one token has for all, in turn.
    fn look_for_all(&mut self) {
        let every = micros(decide::store_check(Some(self.settings.life), 1));
        for process in 0..self.settings.processes {
            let first = (self.fraction(process, 0, 0) * every as f64) as u64;
            for turn in 0..self.until / every {
                self.look(first + turn * every);
            }
        }
    }

    fn close(mut self) -> Report {
        let mut queue = 0u64;
        let mut longest = 0;
        for (_, nanos) in &self.slots {
            queue += nanos;
            longest = longest.max(queue.saturating_sub(SLOT * 1_000));
            queue = queue.saturating_sub(SLOT * 1_000);
        }
        let counted = &self.slots[(self.from / SLOT) as usize..];
        let busy = counted.iter().map(|(_, nanos)| nanos).sum::<u64>();
        let seconds = counted.chunks(100).map(|second| second.iter().map(|(commands, _)| u64::from(*commands)).sum());
        self.report.peak = seconds.max().unwrap_or_default();
        self.report.busy = busy as f64 / self.settings.span.as_nanos() as f64;
        self.report.longest_queue = Duration::from_nanos(longest);
        self.report
    }
}

/// Returns when a process looks at a token that it has had since `since`: once as long has passed since its last look as the
/// token has left, as the process saw it when it set its alarm.
fn look_at(last: u64, since: u64, gone: u64, tokens: usize) -> Option<u64> {
    let interval =
        |now: u64| micros(decide::store_check(Some(Duration::from_micros(gone.saturating_sub(now))), tokens));
    let mut now = last.max(since);
    // It looks up when its alarm goes off, sees how much is left by then, and sets another one if that is longer.
    while now < last + interval(now) {
        now = last + interval(now);
    }
    Some(now).filter(|now| *now < gone)
}

/// Returns the slot of a Redis Cluster in which the keys of a group are: the CRC16 that the Redis Cluster specification names, of
/// what stands in braces, modulo 16,384.
pub fn slot(group: &str) -> u16 {
    let add = |crc: u16, byte: &u8| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    };
    group.as_bytes().iter().fold(0, add) % 16_384
}

/// Returns how many of these groups each of so many nodes has, the slots being dealt out evenly.
pub fn spread(groups: impl Iterator<Item = String>, nodes: usize) -> Vec<usize> {
    let mut counts = vec![0; nodes];
    groups.for_each(|group| counts[usize::from(slot(&group)) * nodes / 16_384] += 1);
    counts
}
