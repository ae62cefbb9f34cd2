//! `keep_fresh`: one thread that stays subscribed, so that this process follows every commit and nobody ever waits.

use crate::clock::{self, Moment};
use crate::core::Core;
use crate::decide::{self, AtHand};
use crate::error::{Error, ErrorKind};
use crate::fork::PerProcess;
use crate::policy::{GUARD_SLICE, POLL};
use crate::refresh;
use crate::slot::Slot;
use crate::store::{Change, StoreError};
use crate::threads;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::time::Duration;

/// Keeps the process's token fresh until it is dropped. Made by [`TokenManager::keep_fresh`](crate::TokenManager::keep_fresh).
///
/// Dropping it waits for nothing; its thread ends within a tenth of a second, or with the store call it is in.
#[must_use = "dropping the guard ends its thread"]
pub struct FreshGuard {
    _stop: PerProcess<Sender<()>>,
}

/// Starts the thread.
pub fn keep(core: Arc<Core>) -> Result<FreshGuard, Error> {
    let (stop, stopped) = bounded(0);
    let running = core.running.clone();
    let keeper = move || Keeper { core, stopped, checked_at: None }.run();
    match threads::spawn("tkm-fresh", &running, keeper) {
        Ok(()) => Ok(FreshGuard { _stop: PerProcess::new(stop) }),
        Err(error) => Err(Error::new(ErrorKind::Config, format!("no thread for keep_fresh: {error}"))),
    }
}

struct Keeper {
    core: Arc<Core>,
    /// Disconnected when the guard is dropped.
    stopped: Receiver<()>,
    checked_at: Option<Moment>,
}

impl Keeper {
    fn run(&mut self) {
        let mut pause = POLL.0;
        while !self.stopped_within(Duration::ZERO) {
            match self.follow() {
                Ok(()) => pause = POLL.0,
                Err(error) => {
                    log::debug!(target: "token_manager", "{}: subscribing again: {error}", self.core.settings.name);
                    self.refresh_if_needed();
                    if self.stopped_within(pause) {
                        return;
                    }
                    pause = (pause * 2).min(POLL.1);
                }
            }
        }
    }

    /// Follows one subscription until it is lost or the guard is dropped.
    fn follow(&mut self) -> Result<(), StoreError> {
        let mut listener = self.core.settings.store.listen(&self.core.settings.name)?;
        self.checked_at = None; // Events may have passed before the subscription stood.
        while !self.stopped_within(Duration::ZERO) {
            self.check_store()?;
            self.refresh_if_needed();
            match listener.wait(GUARD_SLICE)? {
                Some(Change::Committed(generation)) => self.refresh(|slot| slot.seen() < generation),
                Some(Change::Doubted(generation)) => self.core.slot.doubt(generation),
                Some(Change::Void(generation)) => drop(self.core.slot.reject(generation)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Notices a token that the store has and this process does not, and one that the store has lost.
    fn check_store(&mut self) -> Result<(), StoreError> {
        let now = Moment::now();
        let held = self.core.slot.look();
        let every = decide::store_check(held.as_ref().map(|(token, _)| now.until(token.expires_at())));
        if self.checked_at.is_some_and(|at| now.since(at) < every) {
            return Ok(());
        }
        self.checked_at = Some(now);
        let found = self.core.settings.store.inspect(&self.core.settings.name, &self.core.settings.egress)?;
        if found.void > 0 {
            self.core.slot.reject(found.void);
        }
        if found.doubt > 0 {
            self.core.slot.doubt(found.doubt);
        }
        let stored = found.token.map_or(0, |(generation, _)| generation);
        if let Some((token, _)) = held.filter(|(token, _)| token.generation() != stored) {
            self.refresh(|slot| slot.seen() == token.generation());
        }
        Ok(())
    }

    fn refresh_if_needed(&self) {
        match self.core.slot.look() {
            Some((_, AtHand::Fresh | AtHand::Gone)) => {}
            Some((_, AtHand::Due)) if self.core.refreshing() => {}
            Some((_, AtHand::Due)) => self.refresh(|slot| matches!(slot.look(), Some((_, AtHand::Due)))),
            None if self.core.failure().is_some() => {}
            None => self.refresh(|slot| slot.look().is_none()),
        }
    }

    /// Has a flight bring the token if it is needed, and waits for it as long as the guard lives.
    fn refresh(&self, needed: impl Fn(&Slot) -> bool) {
        if !needed(&self.core.slot) {
            return;
        }
        let until = refresh::unhurried(&self.core);
        let number = refresh::join(&self.core, until, until, needed);
        while !self.stopped_within(Duration::ZERO) {
            if self.core.flights.wait(number, clock::deadline(GUARD_SLICE)).is_some() {
                return;
            }
        }
    }

    fn stopped_within(&self, pause: Duration) -> bool {
        use crossbeam::channel::RecvTimeoutError::Disconnected;
        self.stopped.recv_timeout(pause) == Err(Disconnected)
    }
}
