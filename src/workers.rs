//! Who runs the flights of many tokens, and whose turn it is: so many at once, those first that a caller waits for, the groups one
//! after the other, and of one group no more than its share.

use crate::clock;
use crate::locks::{Condvar, Mutex};
use crate::threads::{self, Running};
use lanes::Lanes;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

mod lanes;

/// A flight needs a thread for itself and one for its source.
pub const OF_FLIGHT: usize = 2;
/// How long a thread without work waits for some before it ends.
const LINGER: Duration = Duration::from_millis(50);

/// The threads of the flights of many tokens, and of their sources. They are started when they are needed.
pub struct Workers {
    max: usize,
    max_of_group: usize,
    shared: Mutex<Shared>,
    changed: Condvar,
    threads: Arc<Running>,
}

struct Shared {
    waiting: Lanes<Job>,
    /// How many flights may begin now.
    free: usize,
    threads: usize,
    idle: usize,
    /// What the next thread that is free is to do.
    tasks: VecDeque<Task>,
}

type Task = Box<dyn FnOnce() + Send>;

/// A flight that is to be run; it keeps its place until all is over that it began.
pub type Job = Box<dyn FnOnce(Place) + Send>;

/// The right to run one flight and its source. When the last clone is dropped another flight has it.
#[derive(Clone)]
pub struct Place(Option<Arc<Held>>);

struct Held {
    workers: Weak<Workers>,
    group: Arc<str>,
}

impl Place {
    /// Returns a place where nobody counts them.
    pub fn uncounted() -> Place {
        Place(None)
    }

    /// Runs something on another thread.
    ///
    /// # Errors
    /// When the system has no thread left; `run` is dropped.
    pub fn spawn(&self, name: &str, threads: &Arc<Running>, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        match self.0.as_ref().and_then(|held| held.workers.upgrade()) {
            Some(workers) => workers.have_done(Box::new(run)),
            None => threads::spawn(name, threads, run),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.upgrade() {
            workers.release(&self.group);
            workers.start_all();
        }
    }
}

impl Workers {
    /// Lets so many threads run flights and sources, and so many of them those of one group.
    pub fn new(max: usize, max_of_group: usize) -> Workers {
        let (waiting, free) = (Lanes::new(max_of_group / OF_FLIGHT), max / OF_FLIGHT);
        let shared = Mutex::new(Shared { waiting, free, threads: 0, idle: 0, tasks: VecDeque::new() });
        Workers { max, max_of_group, shared, changed: Condvar::new(), threads: Arc::default() }
    }

    /// Makes those of a forked child, which has none of its parent's flights.
    pub fn forked(&self) -> Workers {
        Workers::new(self.max, self.max_of_group)
    }

    /// Counts their threads.
    pub fn threads(&self) -> &Arc<Running> {
        &self.threads
    }

    /// Has a flight run when it is its turn, of which each number has one at a time; false if it was its turn and the system had no
    /// thread left.
    pub fn run(self: &Arc<Self>, number: u64, group: &Arc<str>, job: Job) -> bool {
        self.shared.lock().waiting.add(number, group, job);
        !self.start_all().contains(&number)
    }

    /// Lets a waiting flight go before those that no caller waits for.
    pub fn hurry(&self, number: u64) {
        self.shared.lock().waiting.hurry(number);
    }

    /// Starts whatever may start now; returns the numbers of those for which there was no thread, and which are lost.
    fn start_all(self: &Arc<Self>) -> Vec<u64> {
        let mut lost = Vec::new();
        while let Some((number, group, job)) = self.next() {
            let held = Arc::new(Held { workers: Arc::downgrade(self), group });
            let place = Place(Some(held.clone()));
            if self.have_done(Box::new(move || job(place))).is_err()
                && let Some(mut held) = Arc::into_inner(held)
            {
                // Not by dropping it, which would come back here.
                held.workers = Weak::new();
                self.release(&held.group);
                lost.push(number);
            }
        }
        lost
    }

    fn next(&self) -> Option<(u64, Arc<str>, Job)> {
        let mut shared = self.shared.lock();
        let next = (shared.free > 0).then(|| shared.waiting.take_next()).flatten()?;
        shared.free -= 1;
        Some(next)
    }

    fn release(&self, group: &Arc<str>) {
        let mut shared = self.shared.lock();
        shared.free += 1;
        shared.waiting.release(group);
    }

    /// Has a thread do this; there is always one, or will be at once, for as many places as there are.
    fn have_done(self: &Arc<Self>, task: Task) -> io::Result<()> {
        let mut shared = self.shared.lock();
        if shared.idle <= shared.tasks.len() && shared.threads < self.max {
            shared.threads += 1;
            drop(shared);
            let own = self.clone();
            let started = threads::spawn("tkm-worker", &self.threads, move || own.work(task));
            if started.is_err() {
                self.shared.lock().threads -= 1;
            }
            return started;
        }
        shared.tasks.push_back(task);
        drop(shared);
        self.changed.notify_one();
        Ok(())
    }

    fn work(&self, first: Task) {
        let mut next = Some(first);
        while let Some(task) = next {
            // The library's own panics end a task, not its thread.
            let _ = catch_unwind(AssertUnwindSafe(task));
            next = self.wait_for_task();
        }
    }

    /// Returns what to do next; `None` to end.
    fn wait_for_task(&self) -> Option<Task> {
        let until = clock::deadline(LINGER);
        let mut shared = self.shared.lock();
        loop {
            if let Some(task) = shared.tasks.pop_front() {
                return Some(task);
            }
            if clock::left(until).is_zero() {
                shared.threads -= 1;
                return None;
            }
            shared.idle += 1;
            self.changed.wait_until(&mut shared, until);
            shared.idle -= 1;
        }
    }
}
