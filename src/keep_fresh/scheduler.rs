//! One thread for all tokens of a store that are kept fresh: each has its step when it is due, or when something was told.

use super::keeper::{Keeper, Round, Stepped};
use crate::clock::{self, Moment};
use crate::decide;
use crate::events::Events;
use crate::fork::PerProcess;
use crate::locks::{Condvar, Mutex, MutexGuard};
use crate::policy::{KEEP_FRESH_BACKOFF, STOP_POLL, STORE_CHECK, fraction};
use crate::settings::Common;
use crate::threads::{self, Running};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

pub struct Scheduler {
    shared: Mutex<Shared>,
    changed: Condvar,
    /// Whose tokens these are; it also keeps the number of the scheduler from another one.
    events: Arc<Events>,
    threads: Arc<Running>,
}

#[derive(Default)]
struct Shared {
    entries: BTreeMap<u64, Entry>,
    /// When whose step is due; out of date where the entry says another time.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    numbers: u64,
    is_running: bool,
}

/// Whose step it is.
type Turn = (u64, Arc<Mutex<Keeper>>);

struct Entry {
    keeper: Arc<Mutex<Keeper>>,
    due: Instant,
    /// Whether something was told during its step.
    is_poked: bool,
    /// Dead when the guard is dropped.
    lives: Weak<()>,
}

impl Shared {
    fn set_due(&mut self, number: u64, due: Instant) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.due = due;
            self.due.push(Reverse((due, number)));
        }
    }

    /// Returns whose turn it is after this number, in a circle.
    fn after(&self, number: u64) -> Option<Turn> {
        let mut turn = self.entries.range(number + 1..).chain(&self.entries);
        turn.next().map(|(number, entry)| (*number, entry.keeper.clone()))
    }

    /// Takes the entry that is due first; an instant to wait until if none is, `None` if there is none.
    fn next(&mut self) -> Option<Result<Turn, Instant>> {
        while let Some(Reverse((due, number))) = self.due.peek().copied() {
            match self.entries.get(&number) {
                Some(entry) if entry.due == due => {
                    if !clock::left(due).is_zero() {
                        return Some(Err(due));
                    }
                    self.due.pop();
                    let entry = self.entries.get_mut(&number)?;
                    entry.is_poked = false;
                    return Some(Ok((number, entry.keeper.clone())));
                }
                _ => drop(self.due.pop()),
            }
        }
        None
    }
}

impl Scheduler {
    /// Returns this process's scheduler of the store.
    pub fn of(common: &Common) -> Arc<Scheduler> {
        static KNOWN: OnceLock<PerProcess<Mutex<Vec<Weak<Scheduler>>>>> = OnceLock::new();
        let events = common.events();
        let mut known = KNOWN.get_or_init(Default::default).get(Default::default).lock();
        known.retain(|scheduler| scheduler.strong_count() > 0);
        let found = known.iter().filter_map(Weak::upgrade).find(|scheduler| Arc::ptr_eq(&scheduler.events, events));
        found.unwrap_or_else(|| {
            let (shared, threads) = Default::default();
            let scheduler = Arc::new(Scheduler { shared, changed: Condvar::new(), events: events.clone(), threads });
            known.push(Arc::downgrade(&scheduler));
            scheduler
        })
    }

    /// Adds a keeper, which is given its number, for as long as this lives.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn add(self: &Arc<Self>, lives: Weak<()>, keeper: impl FnOnce(u64) -> Keeper) -> io::Result<()> {
        let mut shared = self.shared.lock();
        shared.numbers += 1;
        let (number, due) = (shared.numbers, Instant::now());
        let keeper = Arc::new(Mutex::new(keeper(number)));
        shared.entries.insert(number, Entry { keeper, due, is_poked: false, lives });
        shared.set_due(number, due);
        let starts = !std::mem::replace(&mut shared.is_running, true);
        drop(shared);
        self.changed.notify_all();
        if starts {
            let own = self.clone();
            if let Err(error) = threads::spawn("tkm-fresh", &self.threads, move || own.run()) {
                let mut shared = self.shared.lock();
                shared.is_running = false;
                let entry = shared.entries.remove(&number);
                drop(shared);
                drop(entry);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has a keeper take its step at once.
    pub fn poke(&self, number: u64) {
        let mut shared = self.shared.lock();
        if let Some(entry) = shared.entries.get_mut(&number) {
            entry.is_poked = true;
        }
        shared.set_due(number, Instant::now());
        drop(shared);
        self.changed.notify_all();
    }

    /// Lets go of keepers whose guard was dropped.
    pub fn forget_dead(&self) {
        let mut shared = self.shared.lock();
        let numbers: Vec<u64> = shared
            .entries
            .iter()
            .filter(|(_, entry)| entry.lives.strong_count() == 0)
            .map(|(number, _)| *number)
            .collect();
        let dead: Vec<Entry> = numbers.iter().filter_map(|number| shared.entries.remove(number)).collect();
        drop(shared);
        drop(dead);
        self.changed.notify_all();
    }

    fn run(self: Arc<Self>) {
        let (mut suspected_at, mut down) = (None::<Moment>, Down::default());
        let mut look = Look { at: Instant::now(), last: 0 };
        loop {
            let mut shared = self.shared.lock();
            if shared.entries.is_empty() {
                shared.is_running = false;
                shared.due = BinaryHeap::new();
                return;
            }
            let looks = clock::left(look.at).is_zero();
            let chosen = if looks { shared.after(look.last).map(Ok) } else { shared.next() };
            let (number, keeper) = match chosen {
                Some(Ok(due)) => due,
                Some(Err(until)) => {
                    self.changed.wait_until(&mut shared, until.min(look.at));
                    continue;
                }
                None => {
                    self.changed.wait_until(&mut shared, clock::deadline(STOP_POLL));
                    continue;
                }
            };
            if looks {
                look = Look { at: clock::deadline(STORE_CHECK.1), last: number };
            }
            if !clock::left(down.until).is_zero() && shared.entries.len() > 1 {
                shared.set_due(number, down.until);
                continue;
            }
            let tokens = shared.entries.len();
            drop(shared);
            let listen = if self.events.pokes() {
                Duration::ZERO
            } else {
                STOP_POLL / u32::try_from(tokens).unwrap_or(u32::MAX)
            };
            let stepped = keeper.lock().step(&Round { tokens: if looks { 1 } else { tokens }, suspected_at, listen });
            if let (true, Some(stepped)) = (looks, &stepped) {
                look.at = clock::deadline(stepped.look_again);
            }
            drop(keeper);
            let shared = self.shared.lock();
            self.note(shared, number, stepped, &mut suspected_at, &mut down);
        }
    }

    fn note(
        &self,
        mut shared: MutexGuard<'_, Shared>,
        number: u64,
        stepped: Option<Stepped>,
        suspected_at: &mut Option<Moment>,
        down: &mut Down,
    ) {
        let Some(Stepped { next, store_is_down, store_is_well, found_loss, .. }) = stepped else {
            let entry = shared.entries.remove(&number);
            drop(shared);
            return drop(entry);
        };
        if store_is_down {
            down.pause();
        } else if store_is_well {
            *down = Down::default();
        }
        let is_poked = shared.entries.get(&number).is_some_and(|entry| entry.is_poked);
        shared.set_due(number, clock::deadline(if is_poked { Duration::ZERO } else { next }));
        let now = Moment::now();
        if found_loss && suspected_at.is_none_or(|at| now.since(at) >= RESUSPECT) {
            // What has lost one token may have lost them all.
            *suspected_at = Some(now);
            let numbers: Vec<u64> = shared.entries.keys().copied().collect();
            numbers.into_iter().for_each(|number| shared.set_due(number, Instant::now()));
        }
    }
}

/// How soon a store is suspected again of having lost everything.
const RESUSPECT: Duration = Duration::from_secs(10);

/// The look at the store that one token has for all, in turn: when the next is, and whose the last was.
struct Look {
    at: Instant,
    last: u64,
}

/// How a store that cannot be asked is left alone: 20 ms, doubling, by one keeper after the other.
struct Down {
    until: Instant,
    times: u32,
}

impl Default for Down {
    fn default() -> Down {
        Down { until: Instant::now(), times: 0 }
    }
}

impl Down {
    fn pause(&mut self) {
        let spread = fraction(crate::identity::identity().seed() ^ u64::from(self.times));
        self.until = clock::deadline(decide::backoff(self.times, KEEP_FRESH_BACKOFF, spread));
        self.times += 1;
    }
}
