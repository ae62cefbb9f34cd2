//! Whose turn it is to fly, among many tokens: so many flights at once, those first that a caller waits for, the groups in turn,
//! and of one group no more than its share.

use crate::locks::Mutex;
use crate::threads::{self, Running};
use std::collections::{HashMap, VecDeque};
use std::iter;
use std::sync::{Arc, Weak};

/// Runs the flights of many tokens, each on a thread of its own.
pub struct Workers {
    /// How many flights are under way at most, and how many of one group.
    max: usize,
    max_of_group: usize,
    shared: Mutex<Shared>,
}

/// A flight that is to be run.
pub struct Job {
    /// The same for all flights of a token, of which there is one at a time.
    pub number: u64,
    pub group: Arc<str>,
    pub threads: Arc<Running>,
    /// Runs it; it keeps its place until all is over that it began.
    pub fly: Box<dyn FnOnce(Place) + Send>,
}

#[derive(Default)]
struct Shared {
    running: usize,
    running_of: HashMap<Arc<str>, usize>,
    waiting: HashMap<u64, Waiting>,
    urgent: Lane,
    later: Lane,
}

struct Waiting {
    job: Job,
    is_urgent: bool,
}

/// Numbers of flights, of which some may not wait any more: in order within a group.
#[derive(Default)]
struct Lane {
    turns: VecDeque<Arc<str>>,
    numbers: HashMap<Arc<str>, VecDeque<u64>>,
}

/// The right to run one flight and its source. When the last clone is dropped another flight has it.
#[derive(Clone)]
pub struct Place {
    _held: Option<Arc<Held>>,
}

struct Held {
    workers: Weak<Workers>,
    group: Arc<str>,
}

impl Place {
    /// Returns a place where nobody counts them.
    pub fn uncounted() -> Place {
        Place { _held: None }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.upgrade() {
            workers.shared.lock().release(&self.group);
            workers.start_all();
        }
    }
}

impl Workers {
    /// Lets so many flights be under way at once, and so many of one group.
    pub fn new(max: usize, max_of_group: usize) -> Workers {
        Workers { max, max_of_group, shared: Mutex::default() }
    }

    /// Makes those of a forked child, which has none of its parent's flights.
    pub fn forked(&self) -> Workers {
        Workers::new(self.max, self.max_of_group)
    }

    /// Has a flight run when it is its turn; false if it was its turn and the system had no thread left.
    pub fn run(self: &Arc<Self>, job: Job) -> bool {
        let number = job.number;
        let mut shared = self.shared.lock();
        shared.later.add(&job.group, number);
        shared.waiting.insert(number, Waiting { job, is_urgent: false });
        drop(shared);
        !self.start_all().contains(&number)
    }

    /// Lets a waiting flight go before those that no caller waits for.
    pub fn hurry(&self, number: u64) {
        let Shared { waiting, urgent, .. } = &mut *self.shared.lock();
        if let Some(Waiting { job, is_urgent }) = waiting.get_mut(&number)
            && !*is_urgent
        {
            *is_urgent = true;
            urgent.add(&job.group, number);
        }
    }

    /// Starts whatever may start now; returns the numbers of those for which there was no thread, and which are lost.
    fn start_all(self: &Arc<Self>) -> Vec<u64> {
        let mut lost = Vec::new();
        while let Some(Job { number, group, threads, fly }) = self.next() {
            let held = Arc::new(Held { workers: Arc::downgrade(self), group });
            let place = Place { _held: Some(held.clone()) };
            let started = threads::spawn("tkm-flight", &threads, move || fly(place));
            if started.is_err()
                && let Some(mut held) = Arc::into_inner(held)
            {
                // Not by dropping it, which would come back here.
                held.workers = Weak::new();
                self.shared.lock().release(&held.group);
                lost.push(number);
            }
        }
        lost
    }

    fn next(&self) -> Option<Job> {
        let mut shared = self.shared.lock();
        (shared.running < self.max).then(|| shared.take_next(self.max_of_group)).flatten()
    }
}

impl Shared {
    fn take_next(&mut self, max_of_group: usize) -> Option<Job> {
        let Shared { running, running_of, waiting, urgent, later } = self;
        let may_run = |group: &Arc<str>| running_of.get(group).is_none_or(|running| *running < max_of_group);
        let mut next = |number| waiting.remove(&number).map(|Waiting { job, .. }| job);
        let job = [urgent, later].into_iter().find_map(|lane| lane.take_next(may_run, &mut next))?;
        *running += 1;
        *running_of.entry(job.group.clone()).or_default() += 1;
        Some(job)
    }

    fn release(&mut self, group: &Arc<str>) {
        self.running -= 1;
        if let Some(running) = self.running_of.get_mut(group) {
            *running -= 1;
            if *running == 0 {
                self.running_of.remove(group);
            }
        }
    }
}

impl Lane {
    fn add(&mut self, group: &Arc<str>, number: u64) {
        let numbers = self.numbers.entry(group.clone()).or_insert_with(|| {
            self.turns.push_back(group.clone());
            VecDeque::new()
        });
        numbers.push_back(number);
    }

    fn take_next(
        &mut self,
        may_run: impl Fn(&Arc<str>) -> bool,
        mut next: impl FnMut(u64) -> Option<Job>,
    ) -> Option<Job> {
        for _ in 0..self.turns.len() {
            let group = self.turns.pop_front()?;
            if !may_run(&group) {
                self.turns.push_back(group);
                continue;
            }
            let numbers = self.numbers.get_mut(&group)?;
            let job = iter::from_fn(|| numbers.pop_front()).find_map(&mut next);
            if numbers.is_empty() {
                self.numbers.remove(&group);
            } else {
                self.turns.push_back(group);
            }
            if job.is_some() {
                return job;
            }
        }
        None
    }
}
