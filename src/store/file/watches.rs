//! How a process learns that a file was changed: one inotify instance for all of its waiting threads, of which one at a time
//! listens for all; where there is none to be had, they look again and again.

use std::path::Path;
use std::time::{Duration, Instant};

/// What a wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is time to look: the file may have been changed, or the deadline has passed.
    Look,
    /// The file was removed.
    Gone,
}

/// One thread's watch of one file. Dropping it ends it.
pub struct Watch(Option<hub::Listener>);

impl Watch {
    pub fn of(path: &Path) -> Watch {
        Watch(hub::listen(path).ok())
    }

    /// Waits for news. Where nobody tells of any, waits for the time between two looks.
    pub fn wait(&mut self, deadline: Instant, between_looks: Duration) -> Heard {
        match &mut self.0 {
            Some(listener) => listener.wait(deadline),
            None => {
                std::thread::sleep(between_looks.min(crate::clock::left(deadline)));
                Heard::Look
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod hub {
    use super::Heard;
    use crate::clock;
    use crate::fork::PerProcess;
    use crate::locks::{Condvar, Mutex, MutexGuard};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use std::collections::{HashMap, VecDeque};
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::ptr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, LazyLock};
    use std::time::Instant;

    static HUB: LazyLock<PerProcess<Mutex<Hub>>> = LazyLock::new(PerProcess::default);

    #[derive(Default)]
    struct Hub {
        inotify: Option<Arc<OwnedFd>>,
        /// By the numbers that inotify gave the files.
        watches: HashMap<i32, Vec<Arc<Ear>>>,
        /// Whether a thread listens, and who waits to be told by it or to follow it.
        is_listening: bool,
        waiting: VecDeque<Arc<Ear>>,
    }

    /// What one listener has been told. Written under the hub's lock.
    #[derive(Default)]
    struct Ear {
        has_news: AtomicBool,
        is_gone: AtomicBool,
        told: Condvar,
    }

    pub struct Listener {
        /// That of the process that made it.
        hub: &'static Mutex<Hub>,
        watch: i32,
        ear: Arc<Ear>,
    }

    fn hub() -> &'static Mutex<Hub> {
        HUB.get(Default::default)
    }

    pub fn listen(path: &Path) -> io::Result<Listener> {
        let (hub, ear) = (hub(), Arc::new(Ear::default()));
        let mut open = hub.lock();
        let inotify = match &open.inotify {
            Some(inotify) => inotify.clone(),
            None => {
                let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
                open.inotify.insert(Arc::new(inotify)).clone()
            }
        };
        // Writers close the file after each change; its end as a name comes as a change of its attributes.
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let watch = inotify::add_watch(&inotify, path, flags)?;
        open.watches.entry(watch).or_default().push(ear.clone());
        Ok(Listener { hub, watch, ear })
    }

    impl Listener {
        pub fn wait(&mut self, deadline: Instant) -> Heard {
            let mut hub = self.hub.lock();
            let heard = loop {
                if self.ear.is_gone.load(Ordering::Relaxed) {
                    break Heard::Gone;
                }
                if self.ear.has_news.swap(false, Ordering::Relaxed) {
                    break Heard::Look;
                }
                let left = clock::left(deadline);
                if left.is_zero() {
                    break Heard::Look;
                }
                match &hub.inotify {
                    Some(inotify) if !hub.is_listening => {
                        let inotify = inotify.clone();
                        hub.is_listening = true;
                        drop(hub);
                        let timeout = Timespec::try_from(left).ok();
                        // A signal, or an error, is a look in vain.
                        let _ = poll(&mut [PollFd::new(&*inotify, PollFlags::IN)], timeout.as_ref());
                        hub = self.hub.lock();
                        hub.is_listening = false;
                        hub.read(&inotify);
                    }
                    _ => {
                        hub.waiting.push_back(self.ear.clone());
                        self.ear.told.wait_until(&mut hub, deadline);
                        hub.waiting.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
                    }
                }
            };
            hand_over(hub);
            heard
        }
    }

    /// Has another thread listen, if there is one and nobody does.
    fn hand_over(hub: MutexGuard<'_, Hub>) {
        if !hub.is_listening
            && let Some(next) = hub.waiting.front()
        {
            next.told.notify_all();
        }
    }

    impl Hub {
        fn read(&mut self, inotify: &OwnedFd) {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(inotify, &mut buffer);
            while let Ok(event) = events.next() {
                let (number, kinds) = (event.wd(), event.events());
                if kinds.contains(ReadFlags::QUEUE_OVERFLOW) {
                    self.watches.values().flatten().for_each(|ear| ear.tell(&ear.has_news));
                } else if kinds.contains(ReadFlags::IGNORED) {
                    self.watches.remove(&number).into_iter().flatten().for_each(|ear| ear.tell(&ear.is_gone));
                } else {
                    self.watches.get(&number).into_iter().flatten().for_each(|ear| ear.tell(&ear.has_news));
                }
            }
        }
    }

    impl Ear {
        fn tell(&self, what: &AtomicBool) {
            what.store(true, Ordering::Relaxed);
            self.told.notify_all();
        }
    }

    impl Drop for Listener {
        fn drop(&mut self) {
            // A forked child leaves its parent's alone: a thread that it does not have may hold the lock.
            if !ptr::eq(self.hub, hub()) {
                return;
            }
            let mut hub = self.hub.lock();
            let Some(ears) = hub.watches.get_mut(&self.watch) else { return };
            ears.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
            if ears.is_empty() {
                hub.watches.remove(&self.watch);
                // It fails where the file is gone, and then the watch is too.
                let _ = hub.inotify.as_ref().map(|inotify| inotify::remove_watch(&**inotify, self.watch));
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod hub {
    use super::Heard;
    use std::io;
    use std::path::Path;
    use std::time::Instant;

    pub enum Listener {}

    pub fn listen(_: &Path) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    impl Listener {
        pub fn wait(&mut self, _: Instant) -> Heard {
            match *self {}
        }
    }
}
