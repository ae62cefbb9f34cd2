//! A value of which every process has its own: a forked child makes a new one and never touches the parent's, whose
//! locks a thread that does not exist in the child may hold.

use std::process;
use std::sync::OnceLock;

/// A value that is made anew in each forked child.
pub struct PerProcess<T> {
    pid: u32,
    value: Option<T>,
    child: OnceLock<Box<PerProcess<T>>>,
}

impl<T> PerProcess<T> {
    /// Wraps the value of this process.
    pub fn new(value: T) -> PerProcess<T> {
        PerProcess { pid: process::id(), value: Some(value), child: OnceLock::new() }
    }

    /// Returns this process's value, made by `make` if the process was forked since the last call. Takes no lock in a
    /// process that has its value.
    pub fn get(&self, make: impl FnOnce() -> T) -> &T {
        self.get_or_inherit(|_| make())
    }

    /// As [`get`](PerProcess::get), with the value of the nearest process above that had one, for `make` to take over what
    /// it can read without waiting for a lock.
    pub fn get_or_inherit(&self, make: impl FnOnce(&T) -> T) -> &T {
        let pid = process::id();
        let mut own = self;
        while own.pid != pid
            && let Some(child) = own.child.get()
        {
            own = child;
        }
        if own.pid != pid {
            own = own.child.get_or_init(|| Box::new(PerProcess::new(make(own.value()))));
        }
        own.value()
    }

    /// Returns this process's value or, until it has one, that of the nearest process above that had one. Makes no system call: a
    /// value that was made after the fork is in the child's memory alone.
    #[inline]
    pub fn latest(&self) -> &T {
        let mut own = self;
        while let Some(child) = own.child.get() {
            own = child;
        }
        own.value()
    }

    fn value(&self) -> &T {
        self.value.as_ref().expect("only drop takes the value")
    }
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> PerProcess<T> {
        PerProcess::new(T::default())
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        // A parent's value is leaked in the child: dropping it could wait for a lock that nobody will release.
        if self.pid != process::id() {
            std::mem::forget(self.value.take());
        }
    }
}
