//! The processes of the fleet as their parent sees them: starts them, hears their reports, kills one, ends all.

use super::member::{Counts, Report};
use super::waits::Waits;
use crossbeam::channel::{self, Receiver};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// How long a process may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(5);

struct Process {
    child: Child,
    /// The process ends when this pipe does, so also when the parent is killed.
    stdin: Option<ChildStdin>,
    owner: String,
    counts: Counts,
    running: bool,
}

pub struct Crowd {
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

impl Crowd {
    /// Starts copies of this program with its own arguments and these.
    pub fn start(count: usize, args: &[&str]) -> Result<Crowd, String> {
        let (sender, reports) = channel::unbounded();
        let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let (used, waits, troubles) = Default::default();
        let mut crowd = Crowd { processes: Vec::new(), reports, used, waits, troubles, killed: None };
        for number in 0..count {
            let mut command = Command::new(&program);
            command.args(env::args_os().skip(1)).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
            let failed = |error| format!("cannot start process {number}: {error}; use fewer --processes");
            let mut child = command.spawn().map_err(failed)?;
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            let (owner, counts) = Default::default();
            crowd.processes.push(Process { child, stdin, owner, counts, running: true });
            let sender = sender.clone();
            thread::spawn(move || {
                let lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
                for report in lines.filter_map(|line| Report::parse(&line)) {
                    let _ = sender.send((number, Some(report)));
                }
                let _ = sender.send((number, None));
            });
        }
        Ok(crowd)
    }

    /// Takes in what the processes report for so long; stops early and returns true when one of them starts to fetch.
    pub fn listen(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
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
                let expected = process.stdin.is_none();
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
            process.stdin = None;
            // Fails only if it is dead already, which its closed pipe tells as well.
            let _ = process.child.kill();
            self.killed = Some(Killed { process: number, at: Instant::now(), taken_over: None, replaced: None });
        }
    }

    /// Ends all processes and takes in their last reports.
    pub fn end(&mut self) {
        self.processes.iter_mut().for_each(|process| process.stdin = None);
        let until = Instant::now() + FAREWELL;
        while self.processes.iter().any(|process| process.running) && Instant::now() < until {
            self.listen(Duration::from_millis(20));
        }
        for process in self.processes.iter().filter(|process| process.running) {
            self.troubles.insert(format!("process {} did not end in time and was killed", process.child.id()));
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

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}
