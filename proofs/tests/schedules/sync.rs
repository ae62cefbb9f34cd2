//! The explorer's locks in parking_lot's shape, and a time that stands still until a test moves it.

use shuttle::sync as explored;
pub use shuttle::sync::atomic::{AtomicU64, Ordering};
pub use shuttle::thread_local;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::{OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// As parking_lot's, it knows no poison: a guard dropped by a panic leaves the lock as any other does.
pub struct Mutex<T>(explored::Mutex<T>);

pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: Option<explored::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(explored::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)) }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("the lock is held outside of a wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("the lock is held outside of a wait")
    }
}

#[derive(Default)]
pub struct RwLock<T>(explored::RwLock<T>);

impl<T> RwLock<T> {
    pub fn read(&self) -> explored::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn try_read(&self) -> Option<explored::RwLockReadGuard<'_, T>> {
        self.0.try_read().ok() // nobody panics under it
    }

    pub fn write(&self) -> explored::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits, and until when it is: one lock for both, so that no wake-up and no end of time falls between two looks.
#[derive(Default)]
struct World {
    now: u64,
    tickets: u64,
    /// The waits that nobody has ended yet: condition variable and ticket.
    waits: BTreeSet<(usize, u64)>,
}

shuttle::lazy_static! {
    static ref WORLD: (explored::Mutex<World>, explored::Condvar) = Default::default();
}

fn world() -> explored::MutexGuard<'static, World> {
    // Each execution has a world of its own, and none of its threads outlives it.
    let world: &'static (explored::Mutex<World>, explored::Condvar) = &WORLD;
    world.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the instant so many ticks after the start.
pub fn tick(number: u64) -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_secs(number)
}

pub fn far() -> Instant {
    tick(1_000_000)
}

pub fn now() -> u64 {
    world().now
}

/// Moves the time on and ends the waits that are over.
pub fn advance(to: u64) {
    let mut world = world();
    world.now = world.now.max(to);
    drop(world);
    WORLD.1.notify_all();
}

#[derive(Default)]
pub struct Condvar(());

pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub fn new() -> Condvar {
        Condvar(())
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        let mut world = world();
        world.tickets += 1;
        let wait = (self.id(), world.tickets);
        world.waits.insert(wait);
        guard.held = None;
        while world.waits.contains(&wait) && tick(world.now) < deadline {
            world = WORLD.1.wait(world).unwrap_or_else(PoisonError::into_inner);
        }
        let timed_out = world.waits.remove(&wait);
        drop(world);
        guard.held = guard.mutex.lock().held;
        WaitTimeoutResult(timed_out)
    }

    pub fn notify_all(&self) {
        let id = self.id();
        world().waits.retain(|(waited_for, _)| *waited_for != id);
        WORLD.1.notify_all();
    }

    pub fn notify_one(&self) {
        let mut world = world();
        let first = world.waits.iter().find(|(waited_for, _)| *waited_for == self.id()).copied();
        first.map(|wait| world.waits.remove(&wait));
        drop(world);
        WORLD.1.notify_all();
    }
}
