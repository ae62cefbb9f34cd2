//! `keep_fresh`: one thread that stays subscribed, so that this process follows every commit and nobody ever waits.

use crate::clock::{self, Moment};
use crate::core::{Core, Settings};
use crate::decide::{self, AtHand};
use crate::error::{Error, ErrorKind};
use crate::fork::PerProcess;
use crate::policy::{GUARD_SLICE, KEEPER_PAUSE};
use crate::refresh;
use crate::settle;
use crate::slot::Slot;
use crate::store::{Change, Inspection, Listener, StoreError};
use crate::threads;
use crate::token::Token;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    let keeper = move || Keeper::new(core, stopped).run();
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
    /// How many subscriptions and flights have failed in a row, and until when no further flight is tried.
    failed: u32,
    wait_until: Instant,
}

impl Keeper {
    fn new(core: Arc<Core>, stopped: Receiver<()>) -> Keeper {
        Keeper { core, stopped, checked_at: None, failed: 0, wait_until: Instant::now() }
    }

    fn run(&mut self) {
        while !self.stopped_within(Duration::ZERO) {
            let Err(error) = self.follow() else { return };
            log::debug!(target: "token_manager", "{}: subscribing again: {error}", self.core.settings.name);
            self.refresh_if_needed();
            let pause = self.pause_after_failure();
            if self.stopped_within(pause) {
                return;
            }
        }
    }

    /// Follows one subscription until it is lost or the guard is dropped.
    fn follow(&mut self) -> Result<(), StoreError> {
        let mut listener = self.core.settings.store.listen(&self.core.settings.name)?;
        self.checked_at = None; // Events may have passed before the subscription stood.
        while !self.stopped_within(Duration::ZERO) {
            self.check_store(&mut *listener)?;
            self.refresh_if_needed();
            if let Some(change) = listener.wait(GUARD_SLICE)? {
                self.hear(change)?;
            }
        }
        Ok(())
    }

    /// Acts on what the store says about a change that was announced; the announcement itself proves nothing.
    fn hear(&mut self, change: Change) -> Result<(), StoreError> {
        let held = self.core.slot.look().map_or(0, |(token, _)| token.generation());
        match change {
            Change::Committed(generation) if generation > self.core.slot.seen() => refresh::take_over(&self.core),
            Change::Doubted(generation) | Change::Void(generation) if (1..=generation).contains(&held) => {
                self.inspect().map(drop)
            }
            _ => Ok(()),
        }
    }

    fn inspect(&self) -> Result<Inspection, StoreError> {
        let Settings { store, name, egress, .. } = &*self.core.settings;
        let found = store.inspect(name, egress)?;
        if found.void > 0 {
            self.core.slot.reject(found.void);
        }
        if found.doubt > 0 {
            self.core.slot.doubt(found.doubt);
        }
        Ok(found)
    }

    /// Makes sure that the subscription stands, and notices what no event told: a token that the store has and this process
    /// does not, and one that the store has lost.
    fn check_store(&mut self, listener: &mut dyn Listener) -> Result<(), StoreError> {
        let (now, held) = (Moment::now(), self.core.slot.look());
        let life = held.as_ref().map(|(token, _)| now.until(token.expires_at()));
        if self.checked_at.is_some_and(|at| now.since(at) < decide::store_check(life)) {
            return Ok(());
        }
        self.checked_at = Some(now);
        listener.check()?;
        settle::commit_kept(&self.core);
        let stored = self.inspect()?.token.map_or(0, |(generation, _)| generation);
        self.failed = 0;
        // Held before the store was asked, and not rejected by what it answered; one that came meanwhile is news to that answer.
        let Some((token, at_hand)) = held.filter(|(token, _)| self.core.slot.holds(token.generation())) else {
            return if stored > self.core.slot.seen() { refresh::take_over(&self.core) } else { Ok(()) };
        };
        match stored.cmp(&token.generation()) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => refresh::take_over(&self.core),
            Ordering::Less => self.give_back(&token, at_hand),
        }
    }

    /// Offers a token that the store once held back to it: this process has followed every change since, so it is the last one.
    /// A token that the store never had, or does not take back, is refreshed.
    fn give_back(&mut self, token: &Token, at_hand: AtHand) -> Result<(), StoreError> {
        let generation = token.generation();
        if at_hand == AtHand::Fresh && self.core.was_in_store(generation) {
            let Settings { store, name, .. } = &*self.core.settings;
            if store.offer(name, &self.core.as_stored(token))? {
                log::info!(target: "token_manager", "{name}: gave generation {generation} back to a store that had lost it");
                return Ok(());
            }
            refresh::take_over(&self.core)?;
        }
        self.refresh(|slot| slot.seen() == generation);
        Ok(())
    }

    fn refresh_if_needed(&mut self) {
        match self.core.slot.look() {
            Some((_, AtHand::Fresh | AtHand::Gone)) => {}
            Some((_, AtHand::Due)) => self.refresh(|slot| matches!(slot.look(), Some((_, AtHand::Due)))),
            None if self.core.failure().is_some() => {}
            None => self.refresh(|slot| slot.look().is_none()),
        }
    }

    /// Has a flight bring the token if it is needed, and waits for it as long as the guard lives.
    fn refresh(&mut self, needed: impl Fn(&Slot) -> bool) {
        if !needed(&self.core.slot) || !clock::left(self.wait_until).is_zero() {
            return;
        }
        let until = refresh::unhurried(&self.core);
        let number = refresh::join(&self.core, until, until, needed);
        while !self.stopped_within(Duration::ZERO) {
            match self.core.flights.wait(number, clock::deadline(GUARD_SLICE)) {
                Some(Ok(())) => return,
                Some(Err(_)) => {
                    self.wait_until = clock::deadline(self.pause_after_failure());
                    return;
                }
                None => {}
            }
        }
    }

    fn pause_after_failure(&mut self) -> Duration {
        self.failed += 1;
        decide::backoff(self.failed, KEEPER_PAUSE, self.core.fraction(u64::from(self.failed)))
    }

    fn stopped_within(&self, pause: Duration) -> bool {
        use crossbeam::channel::RecvTimeoutError::Disconnected;
        self.stopped.recv_timeout(pause) == Err(Disconnected)
    }
}
