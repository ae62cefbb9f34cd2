//! Children of this process that speak with it in lines: how they are started, told, heard and ended. It signals no process
//! that it did not start.

use crossbeam::channel::{Receiver, unbounded};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// How long a line is waited for: generous, because it only ends a run that has failed.
pub const LONG: Duration = Duration::from_secs(60);

/// A child process; dropping it kills it.
pub struct ChildProcess {
    child: Child,
    /// A child ends when this does, so also when its parent is killed.
    input: Option<ChildStdin>,
}

impl ChildProcess {
    /// Starts this very program again; hands each line of its output to `hear`, and `None` at its end.
    ///
    /// # Errors
    /// When the system cannot start another process.
    pub fn start(
        args: &[&str],
        variables: &[(&str, &str)],
        hear: impl Fn(Option<String>) + Send + 'static,
    ) -> io::Result<ChildProcess> {
        let mut command = Command::new(env::current_exe()?);
        command.args(args).envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        thread::spawn(move || {
            let lines = output.into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok));
            lines.for_each(|line| hear(Some(line)));
            hear(None);
        });
        Ok(ChildProcess { child, input })
    }

    /// Sends a line. One to a dead child goes nowhere.
    pub fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{line}").and_then(|()| input.flush());
        }
    }

    /// Ends the child's input, upon which it ends by itself.
    pub fn hang_up(&mut self) {
        self.input = None;
    }

    /// Returns whether its input has been ended.
    pub fn is_told_to_end(&self) -> bool {
        self.input.is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it as the kernel's out-of-memory killer would.
    pub fn kill(&mut self) {
        self.input = None;
        // Both fail only if it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When the system does not know it any more.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal to a child");
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A child whose lines are waited for one by one.
pub struct Dialogue {
    pub process: ChildProcess,
    lines: Receiver<Option<String>>,
    unread: VecDeque<String>,
}

impl Dialogue {
    /// Starts this very program again; `args` lead a test binary to where the child begins.
    pub fn start(args: &[&str], variables: &[(&str, &str)]) -> Dialogue {
        let (tx, lines) = unbounded();
        let process = ChildProcess::start(args, variables, move |line| drop(tx.send(line))).expect("a child process");
        Dialogue { process, lines, unread: VecDeque::new() }
    }

    /// Waits for the next line with this mark and returns what stands behind it; lines without it are kept for later.
    pub fn expect(&mut self, mark: &str) -> String {
        match self.expect_within(mark, LONG) {
            Some(rest) => rest,
            None => panic!("child {} never said `{mark}`, only {:?}", self.process.pid(), self.unread),
        }
    }

    /// As [`expect`](Dialogue::expect); `None` if it does not come in time.
    pub fn expect_within(&mut self, mark: &str, limit: Duration) -> Option<String> {
        let until = Instant::now() + limit;
        let mut looked = 0;
        loop {
            // Where there is one core, libtest begins the line with words of its own.
            if let Some(at) = self.unread.iter().skip(looked).position(|line| line.contains(mark)) {
                let line = self.unread.remove(looked + at).unwrap_or_default();
                return line.split_once(mark).map(|(_, rest)| rest.to_owned());
            }
            looked = self.unread.len();
            self.unread.push_back(self.lines.recv_deadline(until).ok()??);
        }
    }
}

/// Says a line to the parent.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    // It fails when the parent is gone, and so is what it wanted to know.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Returns the lines of the parent until it hangs up.
pub fn told() -> impl Iterator<Item = String> {
    io::stdin().lines().map_while(Result::ok)
}
