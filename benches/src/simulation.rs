//! A fleet in virtual time: thousands of processes, one Redis that serves one command after the other, one issuer. What
//! is decided, the library's own rules decide; only the waiting is simulated. The same settings give the same report.

pub mod many;
mod report;

pub use report::{Phase, Report, Settings};

use report::{around_the_peak, most_within};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;
use token_manager::Budget;
use token_manager::internals::decide::{self, Serve, Step};
use token_manager::internals::policy::Window;
use token_manager::internals::{Moment, policy};
use token_manager::store::rules::{EgressState, TokenState};
use token_manager::store::{Change, Claim, Committed, Grant, Lease, Secret};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request of the process finds the token due or gone.
    Request(usize),
    /// A claim, a subscription, the look whether the updater is still at work, or a renewal reaches Redis.
    Claim(usize),
    Subscribe(usize),
    Look(usize),
    Renew(usize),
    /// The issuer has answered, and the commit reaches Redis.
    Commit(usize),
    /// The process asks again, unless it has done so in the meantime.
    Timer(usize, u64),
    /// A subscribed process is told of the commit.
    Told(usize),
}

#[derive(Default)]
struct Process {
    /// The token at hand: its generation, and when it is due and gone.
    token: Option<(u64, Moment, Moment)>,
    flying: bool,
    attempt: u64,
    asked_at: u64,
    lease: Option<Lease>,
    fetch_started: u64,
    listening: bool,
    /// What was left of the updater's lease when the process was told to wait.
    lease_left: Duration,
    /// When the reply to its last command is there; `None` while Redis has not answered.
    reply_at: Option<u64>,
    /// Whether the commit was announced while it had an unanswered command.
    told: bool,
    /// Counts the waits of a flight, so that a timer of an earlier one is known as such.
    round: u64,
    /// Since when requests have been waiting.
    waiting_since: Option<u64>,
}

struct Fleet {
    settings: Settings,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    processes: Vec<Process>,
    ledger: TokenState,
    egress: EgressState,
    redis_free_at: u64,
    listeners: Vec<usize>,
    /// When each command reached Redis.
    arrivals: Vec<u64>,
    phase: Phase,
    fetches: u64,
    fetched_at: Vec<u64>,
}

/// Microseconds; the run starts at a time like today's, because generations are times.
const START: u64 = 1_700_000_000_000_000;

/// Runs the fleet.
pub fn run(settings: &Settings) -> Report {
    let mut fleet = Fleet::new(settings.clone());
    for process in 0..settings.processes {
        let first = fleet.request_at(process, START);
        fleet.at(first, Event::Request(process));
    }
    let cold_until = START + micros(settings.life) / 2;
    fleet.run_until(cold_until);
    let cold = fleet.close_phase();
    fleet.run_until(cold_until + micros(settings.life) * settings.lives);
    let arrivals = std::mem::take(&mut fleet.arrivals);
    let commands = around_the_peak(&arrivals);
    fleet.arrivals = arrivals;
    let steady = fleet.close_phase();
    let requests = (fleet.now - START) / 1_000_000 * settings.rate * settings.processes as u64;
    let gaps = fleet.fetched_at.windows(2).map(|two| Duration::from_micros(two[1] - two[0]));
    Report { cold, steady, requests, shortest_gap: gaps.min().unwrap_or_default(), commands }
}

impl Fleet {
    fn new(settings: Settings) -> Fleet {
        let processes = (0..settings.processes).map(|_| Process::default()).collect();
        Fleet {
            settings,
            now: START,
            queue: BinaryHeap::new(),
            sequence: 0,
            processes,
            ledger: TokenState::default(),
            egress: EgressState::default(),
            redis_free_at: 0,
            listeners: Vec::new(),
            arrivals: Vec::new(),
            phase: Phase::default(),
            fetches: 0,
            fetched_at: Vec::new(),
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((time, self.sequence, event)));
    }

    fn run_until(&mut self, end: u64) {
        while let Some(Reverse((time, _, _))) = self.queue.peek()
            && *time < end
            && let Some(Reverse((time, _, event))) = self.queue.pop()
        {
            self.now = time;
            match event {
                Event::Request(process) => self.request(process),
                Event::Claim(process) => self.claim(process),
                Event::Subscribe(process) => self.subscribe(process),
                Event::Look(process) => self.look(process),
                Event::Renew(process) => self.renew(process),
                Event::Commit(process) => self.commit(process),
                Event::Timer(process, round) if self.processes[process].round == round => self.send_claim(process),
                Event::Timer(..) => {}
                Event::Told(process) => self.told(process),
            }
        }
        self.now = end;
    }

    fn close_phase(&mut self) -> Phase {
        self.phase.fetches = std::mem::take(&mut self.fetches);
        self.phase.peak_second = most_within(&self.arrivals, 1_000_000);
        self.phase.peak_burst = most_within(&self.arrivals, 10_000) * 100;
        self.arrivals.clear();
        std::mem::take(&mut self.phase)
    }

    fn fraction(&self, process: usize, of: u64) -> f64 {
        policy::fraction(self.settings.seed ^ ((process as u64) << 40) ^ of)
    }

    /// Returns when the process has its first request at or after this time.
    fn request_at(&self, process: usize, time: u64) -> u64 {
        let every = 1_000_000 / self.settings.rate;
        let offset = (self.fraction(process, 0) * every as f64) as u64;
        let since = (time - START).saturating_sub(offset);
        START + offset + since.div_ceil(every) * every
    }

    fn request(&mut self, process: usize) {
        let now = moment(self.now);
        let Process { token, flying, waiting_since, .. } = &mut self.processes[process];
        let not_before = if *flying { u64::MAX } else { 0 };
        let serve = token.map_or(Serve::Wait, |(_, due, gone)| decide::serve(now, due, gone, not_before));
        if serve == Serve::Wait && waiting_since.is_none() {
            *waiting_since = Some(self.now);
        }
        if serve != Serve::Now && !*flying {
            *flying = true;
            self.processes[process].attempt += 1;
            self.send_claim(process);
        }
    }

    fn send_claim(&mut self, process: usize) {
        self.processes[process].asked_at = self.now;
        self.processes[process].round += 1;
        self.processes[process].reply_at = None;
        self.at(self.now + micros(self.settings.network), Event::Claim(process));
    }

    /// Has Redis take up a command that has just arrived; returns when its reply is back.
    fn serve(&mut self, cost: Duration) -> u64 {
        self.arrivals.push(self.now);
        self.redis_free_at = self.redis_free_at.max(self.now) + micros(cost);
        let network = micros(self.settings.network);
        let took = Duration::from_micros(self.redis_free_at + network - (self.now - network));
        self.phase.longest_reply = self.phase.longest_reply.max(took);
        self.redis_free_at + network
    }

    fn claim(&mut self, process: usize) {
        self.phase.scripts += 1;
        let back = self.serve(self.settings.script);
        self.processes[process].reply_at = Some(back);
        let Process { token, attempt, asked_at, .. } = &self.processes[process];
        let seen = token.map_or(0, |(generation, ..)| generation);
        let usable = token.filter(|(_, _, gone)| !moment(*asked_at).reached(*gone)).map(|_| seen);
        let (owner, asked_at, attempt) = (process.to_string(), *asked_at, *attempt);
        let claim = Claim {
            owner: &owner,
            attempt,
            newer_than: decide::newer_than(usable, seen, 0),
            lease: Duration::from_secs(3),
            budget: Some(Budget::default()),
            egress: "default",
        };
        // Redis runs the command when it is free, not when it arrives.
        let claimed = self.ledger.claim(self.redis_free_at, &claim, &mut self.egress);
        match decide::after_claim(claimed, None) {
            Step::Adopt(stored) => {
                let of_process = self.fraction(process, stored.generation);
                let fraction = decide::refresh_fraction(policy::fraction(stored.generation), of_process);
                let (due, gone) = decide::times(
                    &Window::default(),
                    moment(asked_at),
                    stored.left,
                    stored.life,
                    stored.doubted,
                    fraction,
                );
                self.land(process, back, (stored.generation, due, gone));
            }
            Step::Fetch { generation, .. } => {
                self.fetches += 1;
                self.fetched_at.push(back);
                let lease = Lease { owner: owner.as_str().into(), attempt, generation };
                self.processes[process].lease = Some(lease);
                self.processes[process].fetch_started = back;
                let network = micros(self.settings.network);
                self.at(back + micros(self.settings.issuer) + network, Event::Commit(process));
                self.at(back + 1_000_000 + network, Event::Renew(process));
            }
            Step::WaitForUpdater { lease_left } => {
                self.processes[process].lease_left = lease_left;
                match self.processes[process].listening {
                    true => self.watch(process, back),
                    // A connection of its own takes one exchange more.
                    false => self.at(back + 3 * micros(self.settings.network), Event::Subscribe(process)),
                }
            }
            step => panic!("a healthy fleet came to {step:?}"),
        }
    }

    fn subscribe(&mut self, process: usize) {
        self.phase.subscriptions += 1;
        let back = self.serve(self.settings.command);
        self.listeners.push(process);
        self.phase.listeners = self.phase.listeners.max(self.listeners.len());
        self.processes[process].listening = true;
        self.processes[process].reply_at = None;
        self.at(back + micros(self.settings.network), Event::Look(process));
    }

    fn look(&mut self, process: usize) {
        let back = self.serve(self.settings.command);
        match self.ledger.has_updater(self.redis_free_at) {
            true => self.watch(process, back),
            false => self.at(back, Event::Timer(process, self.processes[process].round)),
        }
    }

    /// Has the process wait for the updater once this reply is back.
    fn watch(&mut self, process: usize, back: u64) {
        let Process { round, lease_left, told, reply_at, .. } = &mut self.processes[process];
        *reply_at = Some(back);
        let (round, lease_left) = (*round, *lease_left);
        if std::mem::take(told) {
            return self.at(back, Event::Timer(process, round));
        }
        let pause = decide::watch(lease_left, Duration::from_secs(15), self.fraction(process, round << 8));
        self.at(back + micros(pause), Event::Timer(process, round));
    }

    fn renew(&mut self, process: usize) {
        if let Some(lease) = self.processes[process].lease.clone() {
            self.phase.scripts += 1;
            let back = self.serve(self.settings.script);
            assert!(self.ledger.renew(self.redis_free_at, &lease, Duration::from_secs(3)), "the lease was lost");
            self.at(back + 1_000_000, Event::Renew(process));
        }
    }

    fn commit(&mut self, process: usize) {
        self.phase.scripts += 1;
        let back = self.serve(self.settings.script);
        let Process { lease, fetch_started, .. } = &mut self.processes[process];
        let (lease, started) = (lease.take().expect("the updater commits"), *fetch_started);
        let life = self.settings.life;
        let usable = decide::usable(&Window::default(), life, Duration::from_micros(self.now - started));
        let grant = Grant {
            value: Secret::new("secret"),
            left: usable.left,
            life,
            age: None,
            carry: None,
            carry_lifetime: None,
        };
        let mut changes = Vec::new();
        let written = self.ledger.commit(self.redis_free_at, &lease, &grant, &mut changes);
        assert_eq!(written, Committed::Written { doubted: false });
        assert_eq!(changes, [Change::Committed(lease.generation)]);
        let of_process = self.fraction(process, lease.generation);
        let fraction = decide::refresh_fraction(policy::fraction(lease.generation), of_process);
        let (due, gone) = decide::times(&Window::default(), moment(self.now), usable.left, life, false, fraction);
        self.land(process, back, (lease.generation, due, gone));
        for listener in std::mem::take(&mut self.listeners) {
            self.redis_free_at += micros(self.settings.event);
            self.at(self.redis_free_at + micros(self.settings.network), Event::Told(listener));
        }
    }

    /// The process reads events between its commands only.
    fn told(&mut self, process: usize) {
        let Process { listening, reply_at, round, told, .. } = &mut self.processes[process];
        match (*listening, *reply_at, *round) {
            (false, ..) => {}
            (true, None, _) => *told = true,
            (true, Some(back), round) => self.at(back.max(self.now), Event::Timer(process, round)),
        }
    }

    fn land(&mut self, process: usize, back: u64, token: (u64, Moment, Moment)) {
        let landed = &mut self.processes[process];
        landed.token = Some(token);
        landed.flying = false;
        landed.listening = false;
        landed.told = false;
        landed.round += 1;
        if let Some(since) = landed.waiting_since.take() {
            let wait = back - since;
            // The first request of the process waited this long, and so did, less and less, those that came after it.
            self.phase.waits += wait * self.settings.rate / 1_000_000 + 1;
            self.phase.longest_wait = self.phase.longest_wait.max(Duration::from_micros(wait));
        }
        let due_at = (token.1.mono / 1000).max(back);
        let next = self.request_at(process, due_at);
        self.at(next, Event::Request(process));
    }
}

/// Both clocks of a moment, which agree here.
fn moment(micros: u64) -> Moment {
    Moment { mono: micros * 1000, wall: micros * 1000 }
}

fn micros(span: Duration) -> u64 {
    span.as_micros() as u64
}
