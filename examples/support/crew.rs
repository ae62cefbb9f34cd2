//! The parent's side of a worker: starts it as a process of its own, gives it orders, waits for its words, and stops,
//! resumes or kills it. It signals no process that it did not start.
#![allow(dead_code)] // every program uses another part of it

use crossbeam::channel::{Receiver, unbounded};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// How long a word is waited for: generous, because it only ends a run that has failed.
const LONG: Duration = Duration::from_secs(60);

/// So large that the system keeps none of a thread that ended, and has to find room for each new one.
const STACK: usize = 64 << 20;

/// A worker process; dropping it kills it.
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
    unread: VecDeque<String>,
}

/// What a worker said, by key.
pub struct Words(HashMap<String, String>);

impl Words {
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or_else(|_| panic!("no number {key} in {:?}", self.0))
    }
}

impl Worker {
    /// Starts this very program again as a worker; `args` lead a test binary to where the work begins.
    pub fn start(args: &[&str], settings: &str) -> Worker {
        let program = env::current_exe().expect("this program's path");
        let mut command = Command::new(program);
        command.args(args).env("TOKEN_MANAGER_WORKER", settings).env("RUST_MIN_STACK", STACK.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a worker process");
        let orders = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (give, lines) = unbounded();
        thread::spawn(move || output.lines().map_while(Result::ok).all(|line| give.send(line).is_ok()));
        let mut worker = Worker { child, orders, lines, unread: VecDeque::new() };
        worker.word("ready");
        worker
    }

    /// Gives an order. One to a dead worker goes nowhere.
    pub fn order(&mut self, order: &str) {
        let _ = writeln!(self.orders, "{order}").and_then(|()| self.orders.flush());
    }

    /// Waits for the next line that begins like this.
    pub fn word(&mut self, beginning: &str) -> Words {
        match self.word_within(beginning, LONG) {
            Some(words) => words,
            None => panic!("worker {} never said `{beginning}`, only {:?}", self.child.id(), self.unread),
        }
    }

    pub fn word_within(&mut self, beginning: &str, limit: Duration) -> Option<Words> {
        let until = Instant::now() + limit;
        let mut looked = 0;
        loop {
            // The test harness may have begun the line with words of its own.
            if let Some(at) = self.unread.iter().skip(looked).position(|line| line.contains(beginning)) {
                let line = self.unread.remove(looked + at).unwrap_or_default();
                let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
                return Some(Words(pairs.map(|(key, value)| (key.into(), value.into())).collect()));
            }
            looked = self.unread.len();
            self.unread.push_back(self.lines.recv_deadline(until).ok()?);
        }
    }

    /// Has so many threads call at once; `got` waits for what came of it.
    pub fn get(&mut self, tag: &str, threads: usize, within: Duration) {
        self.order(&format!("get {tag} {threads} {}", within.as_millis()));
    }

    pub fn got(&mut self, tag: &str) -> Words {
        self.word(&format!("got tag={tag} "))
    }

    /// Has the next call that comes to this point wait there.
    pub fn arm(&mut self, point: &str) {
        self.order(&format!("arm {point}"));
        self.word(&format!("armed {point}"));
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
        // Both fail only if it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a signal to a worker");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
