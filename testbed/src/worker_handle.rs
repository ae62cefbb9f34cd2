//! The parent's side of a worker: starts it, gives it orders and reads what it says.

use crate::child::Dialogue;
use crate::worker::SETTINGS;
use std::collections::HashMap;
use std::time::Duration;

/// So large that the system keeps none of a thread that ended, and has to find room for each new one. For those only that ask for it
/// (`stacks=large`): glibc may crash where such a thread ends while it is detached (its bug 19951).
const LARGE_STACK: usize = 64 << 20;

/// A worker process; dropping it kills it.
pub struct Worker(Dialogue);

/// What a worker said, by key.
pub struct Words(HashMap<String, String>);

impl Words {
    fn parse(line: &str) -> Words {
        let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
        Words(pairs.map(|(key, value)| (key.into(), value.into())).collect())
    }

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
        let stack = LARGE_STACK.to_string();
        let variables = [(SETTINGS, settings), ("RUST_MIN_STACK", stack.as_str())];
        let count = if settings.contains("stacks=large") { 2 } else { 1 };
        let mut worker = Worker(Dialogue::start(args, &variables[..count]));
        worker.word("ready");
        worker
    }

    /// Gives an order. One to a dead worker goes nowhere.
    pub fn order(&mut self, order: &str) {
        self.0.process.tell(order);
    }

    /// Waits for the next line with these words and returns those behind them.
    pub fn word(&mut self, mark: &str) -> Words {
        Words::parse(&self.0.expect(mark))
    }

    /// As [`word`](Worker::word); `None` if it does not come in time.
    pub fn word_within(&mut self, mark: &str, limit: Duration) -> Option<Words> {
        self.0.expect_within(mark, limit).map(|line| Words::parse(&line))
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
        self.0.process.pid()
    }

    pub fn stop(&self) {
        self.0.process.stop();
    }

    pub fn resume(&self) {
        self.0.process.resume();
    }

    /// Has it end by itself, as a program does that leaves `main`, whatever its threads are doing.
    pub fn end(&mut self) {
        self.0.process.hang_up();
        let _ = self.0.process.wait(); // fails only if it has ended already
    }

    /// Kills it as the kernel's out-of-memory killer would.
    pub fn kill(&mut self) {
        self.0.process.kill();
    }
}
