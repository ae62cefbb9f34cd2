//! The processes of the fleet as their parent sees them: starts them, hears their reports, kills one, ends all.

use crate::child::ChildProcess;
use crate::fleet_child::{Counts, Report};
use crate::waits::Waits;
use crossbeam::channel::{self, Receiver};
use std::collections::BTreeSet;
use std::env;
use std::time::{Duration, Instant};

/// How long a process may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(5);

struct Process {
    child: ChildProcess,
    owner: String,
    counts: Counts,
    running: bool,
}

pub struct Fleet {
    processes: Vec<Process>,
    reports: Receiver<(usize, Option<Report>)>,
    /// The generations that any thread of any process used.
    pub used: BTreeSet<u64>,
    pub waits: Waits,
    pub troubles: BTreeSet<String>,
    pub killed: Option<Killed>,
}

/// What became of the fetch of a killed process.
pub struct Killed {
    process: usize,
    at: Instant,
    /// After this time another process was the updater.
    pub taken_over: Option<Duration>,
    /// After this time the fleet had its token.
    pub replaced: Option<Duration>,
}

impl Fleet {
    /// Starts copies of this program with its own arguments and these.
    pub fn start(count: usize, args: &[&str]) -> Result<Fleet, String> {
        let (sender, reports) = channel::unbounded();
        let own: Vec<String> = env::args().skip(1).collect();
        let args: Vec<&str> = own.iter().map(String::as_str).chain(args.iter().copied()).collect();
        let (used, waits, troubles) = Default::default();
        let mut fleet = Fleet { processes: Vec::new(), reports, used, waits, troubles, killed: None };
        for number in 0..count {
            let sender = sender.clone();
            let hear = move |line: Option<String>| match line.as_deref().map(Report::parse) {
                Some(None) => {} // no report
                report => drop(sender.send((number, report.flatten()))),
            };
            let failed = |error| format!("cannot start process {number}: {error}; use fewer --processes");
            let child = ChildProcess::start(&args, &[], hear).map_err(failed)?;
            let (owner, counts) = Default::default();
            fleet.processes.push(Process { child, owner, counts, running: true });
        }
        Ok(fleet)
    }

    /// Takes in what the processes report for so long; stops early and returns true when one of them starts to fetch.
    pub fn listen(&mut self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        while let Ok((process, report)) = self.reports.recv_deadline(until) {
            let granted = matches!(report, Some(Report::Granted(_)));
            self.take_in(process, report);
            if granted {
                return true;
            }
        }
        false
    }

    fn take_in(&mut self, number: usize, report: Option<Report>) {
        let process = &mut self.processes[number];
        let killed = self.killed.as_mut().filter(|killed| killed.process != number);
        match report {
            Some(Report::Owner(owner)) => process.owner = owner,
            Some(Report::Counts(counts)) => process.counts = counts,
            Some(Report::Waits(waits)) => self.waits.merge(&waits),
            Some(Report::Trouble(text)) => drop(self.troubles.insert(text)),
            Some(Report::Used(generation)) => drop(self.used.insert(generation)),
            Some(Report::Granted(_)) => {
                if let Some(killed) = killed {
                    killed.taken_over.get_or_insert(killed.at.elapsed());
                }
            }
            Some(Report::Committed(_)) => {
                if let Some(killed) = killed {
                    killed.replaced.get_or_insert(killed.at.elapsed());
                }
            }
            None => {
                process.running = false;
                let ended = process.child.wait();
                let expected = process.child.is_told_to_end();
                if let (false, Ok(status)) = (expected, ended) {
                    self.troubles.insert(format!("a process ended by itself: {status}"));
                }
            }
        }
    }

    /// Kills the process that has this owner id, if there is one.
    pub fn kill(&mut self, owner: &str) {
        if let Some(number) = self.processes.iter().position(|process| process.owner == owner) {
            let process = &mut self.processes[number];
            process.child.kill();
            self.killed = Some(Killed { process: number, at: Instant::now(), taken_over: None, replaced: None });
        }
    }

    /// Ends all processes and takes in their last reports.
    pub fn end(&mut self) {
        self.processes.iter_mut().for_each(|process| process.child.hang_up());
        let until = Instant::now() + END_LIMIT;
        while self.processes.iter().any(|process| process.running) && Instant::now() < until {
            self.listen(Duration::from_millis(20));
        }
        for process in self.processes.iter().filter(|process| process.running) {
            self.troubles.insert(format!("process {} did not end in time and was killed", process.child.pid()));
        }
    }

    pub fn counts(&self) -> Counts {
        self.processes.iter().map(|process| process.counts).fold(Counts::default(), |all, counts| Counts {
            calls: all.calls + counts.calls,
            errors: all.errors + counts.errors,
            overtaken: all.overtaken + counts.overtaken,
            stale: all.stale + counts.stale,
            stalest_us: all.stalest_us.max(counts.stalest_us),
        })
    }
}
