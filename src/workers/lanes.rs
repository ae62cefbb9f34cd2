//! In which order flights begin: two lanes, in each of which the groups take turns. Pure.

use std::collections::{HashMap, VecDeque};
use std::iter;
use std::sync::Arc;

/// What waits, by number.
pub struct Lanes<J> {
    max_of_group: usize,
    /// How many of a group are under way.
    running: HashMap<Arc<str>, usize>,
    waiting: HashMap<u64, Waiting<J>>,
    urgent: Lane,
    later: Lane,
}

struct Waiting<J> {
    group: Arc<str>,
    job: J,
    is_urgent: bool,
}

/// Numbers in order within a group, of which some may not wait any more.
#[derive(Default)]
struct Lane {
    turns: VecDeque<Arc<str>>,
    numbers: HashMap<Arc<str>, VecDeque<u64>>,
}

impl<J> Lanes<J> {
    /// Makes empty lanes from which so many of one group may be under way at once.
    pub fn new(max_of_group: usize) -> Lanes<J> {
        let (running, waiting, urgent, later) = Default::default();
        Lanes { max_of_group, running, waiting, urgent, later }
    }

    /// Adds a job that is not urgent.
    pub fn add(&mut self, number: u64, group: &Arc<str>, job: J) {
        self.later.add(group, number);
        self.waiting.insert(number, Waiting { group: group.clone(), job, is_urgent: false });
    }

    /// Makes a job urgent if it waits.
    pub fn hurry(&mut self, number: u64) {
        if let Some(Waiting { group, is_urgent, .. }) = self.waiting.get_mut(&number)
            && !*is_urgent
        {
            *is_urgent = true;
            self.urgent.add(group, number);
        }
    }

    /// Takes the job whose turn it is, of a group that has not its share yet.
    pub fn take_next(&mut self) -> Option<(u64, Arc<str>, J)> {
        let Lanes { max_of_group, running, waiting, urgent, later } = self;
        let may_run = |group: &Arc<str>| running.get(group).is_none_or(|running| *running < *max_of_group);
        let is_waiting = |number: &u64| waiting.contains_key(number);
        let number = urgent.take_next(may_run, is_waiting).or_else(|| later.take_next(may_run, is_waiting))?;
        let Waiting { group, job, .. } = waiting.remove(&number)?;
        *running.entry(group.clone()).or_default() += 1;
        Some((number, group, job))
    }

    /// Notes that one of a group is over.
    pub fn release(&mut self, group: &Arc<str>) {
        if let Some(running) = self.running.get_mut(group) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(group);
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

    fn take_next(&mut self, may_run: impl Fn(&Arc<str>) -> bool, is_waiting: impl Fn(&u64) -> bool) -> Option<u64> {
        for _ in 0..self.turns.len() {
            let group = self.turns.pop_front()?;
            if !may_run(&group) {
                self.turns.push_back(group);
                continue;
            }
            let numbers = self.numbers.get_mut(&group)?;
            let number = iter::from_fn(|| numbers.pop_front()).find(&is_waiting);
            if numbers.is_empty() {
                self.numbers.remove(&group);
            } else {
                self.turns.push_back(group);
            }
            if number.is_some() {
                return number;
            }
        }
        None
    }
}
