//! `keep_fresh`: one thread that stays subscribed, so that this process follows every commit and nobody ever waits.

use crate::clock::{self, Moment};
use crate::core::{Core, Settings};
use crate::decide::{self, AtHand};
use crate::error::{Error, ErrorKind};
use crate::fork::PerProcess;
use crate::policy::{KEEP_FRESH_BACKOFF, STOP_POLL};
use crate::refresh;
use crate::settle;
use crate::slot::Slot;
use crate::store::{Change, StoreError, StoreErrorKind, Subscription};
use crate::threads;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::cmp::Ordering;
use std::mem;
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
    let keeper = move || Keeper::new(core, stopped).run();
    match threads::spawn("tkm-fresh", &running, keeper) {
        Ok(()) => Ok(FreshGuard { _stop: PerProcess::new(stop) }),
        Err(error) => Err(Error::new(ErrorKind::Config, format!("no thread for keep_fresh: {error}"))),
    }
}

/// The highest generations that were announced: hints, which anybody may forge and nobody acts on without the store's word.
#[derive(Default, PartialEq)]
struct Heard {
    committed: u64,
    doubted: u64,
    invalidated: u64,
}

impl Heard {
    fn note(&mut self, change: Change) {
        let (highest, generation) = match change {
            Change::Committed(generation) => (&mut self.committed, generation),
            Change::Doubted(generation) => (&mut self.doubted, generation),
            Change::Invalidated(generation) => (&mut self.invalidated, generation),
            Change::Failed(_) => return,
        };
        *highest = generation.max(*highest);
    }
}

struct Keeper {
    core: Arc<Core>,
    /// Disconnected when the guard is dropped.
    stopped: Receiver<()>,
    listener: Option<Box<dyn Subscription>>,
    heard: Heard,
    /// When the store was looked at; `None` to look as soon as `look_after` allows.
    looked_at: Option<Moment>,
    look_after: Moment,
    fly_after: Moment,
    /// How often in a row the store could not be followed, and how many flights from here have failed.
    troubles: u32,
    failures: u32,
    /// Whether the last announcement meant nothing to this process.
    misled: bool,
    /// The generation that the store held when it was last followed, if this process held it too.
    confirmed: Option<u64>,
}

impl Keeper {
    fn new(core: Arc<Core>, stopped: Receiver<()>) -> Keeper {
        let now = Moment::now();
        Keeper {
            core,
            stopped,
            listener: None,
            heard: Heard::default(),
            looked_at: None,
            look_after: now,
            fly_after: now,
            troubles: 0,
            failures: 0,
            misled: false,
            confirmed: None,
        }
    }

    fn run(&mut self) {
        while !self.stopped_within(Duration::ZERO) {
            let looked = self.look_if_needed();
            self.trouble(looked);
            self.refresh_if_needed();
            let heard = self.hear();
            self.trouble(heard);
        }
    }

    /// Lets some time pass, ever more, before the next look at a store that gave trouble.
    fn trouble(&mut self, done: Result<(), StoreError>) {
        let Err(error) = done else { return };
        log::debug!(target: "token_manager", "{}: keep_fresh looks again: {error}", self.core.settings.name);
        self.looked_at = None;
        self.look_after = self.backoff(self.troubles);
        self.troubles += 1;
    }

    fn backoff(&self, round: u32) -> Moment {
        Moment::now().after(decide::backoff(round, KEEP_FRESH_BACKOFF, self.core.fraction(u64::from(round))))
    }

    fn look_if_needed(&mut self) -> Result<(), StoreError> {
        let now = Moment::now();
        let life = self.core.slot.look().map(|(token, _)| now.until(token.expires_at()));
        let rests = self.looked_at.is_some_and(|at| now.since(at) < decide::store_check(life));
        if rests || !now.reached(self.look_after) {
            return Ok(());
        }
        self.looked_at = Some(now);
        let stood = self.listener.is_some();
        // Where events are forbidden there are looks.
        let subscribed = self.subscribe();
        self.look(stood)?;
        subscribed?;
        if stood {
            self.troubles = 0;
        }
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), StoreError> {
        if self.listener.is_none() {
            self.listener = Some(self.core.settings.store.subscribe(&self.core.settings.name)?);
        }
        Ok(())
    }

    /// Notices what no event told: a token that the store has and this process does not, and one that the store has lost.
    fn look(&mut self, stood: bool) -> Result<(), StoreError> {
        let held = self.core.slot.look().map(|(token, _)| token.generation());
        let committed = settle::commit_kept(&self.core);
        let stored = self.inspect()?;
        self.check()?;
        // The announcement of what was found has come before the answer to the check.
        let is_news = stored > self.core.slot.seen() && self.core.slot.wants(stored);
        let deaf = is_news && stood && self.heard.committed < stored;
        // What came after the answer, or was rejected by it, is not to be compared with it.
        let held = held.filter(|generation| self.core.slot.holds(*generation));
        match held.map(|held| stored.cmp(&held)) {
            Some(Ordering::Equal) => self.confirmed = held.filter(|_| self.listener.is_some()),
            Some(Ordering::Less) if committed.is_ok() => self.give_back()?,
            _ if is_news => self.take_over()?,
            _ => {}
        }
        if deaf {
            self.listener = None;
            return Err(StoreError::new(StoreErrorKind::Other, "the subscription told nothing of a commit"));
        }
        committed
    }

    /// Takes over what the store says of invalid and doubted generations; returns the one that it has, 0 if none.
    fn inspect(&self) -> Result<u64, StoreError> {
        let Settings { store, name, egress, .. } = &*self.core.settings;
        let found = store.inspect(name, egress)?;
        if found.invalidated > 0 {
            self.core.slot.reject(found.invalidated);
        }
        if found.doubted > 0 {
            self.core.slot.doubt(found.doubted);
        }
        Ok(found.token.map_or(0, |(generation, _)| generation))
    }

    /// Makes sure that the subscription stands, and takes in what it has told so far.
    fn check(&mut self) -> Result<(), StoreError> {
        if let Some(listener) = &mut self.listener
            && let Err(error) = listener.check()
        {
            self.listener = None;
            return Err(error);
        }
        self.take_in_all()
    }

    /// Takes in all that have come already; a flood must not hold the thread.
    fn take_in_all(&mut self) -> Result<(), StoreError> {
        let until = clock::deadline(STOP_POLL);
        while self.take_in(Duration::ZERO)? && !clock::left(until).is_zero() {}
        Ok(())
    }

    /// Waits for an announcement; true if one came.
    fn take_in(&mut self, at_most: Duration) -> Result<bool, StoreError> {
        let Some(listener) = &mut self.listener else {
            self.stopped_within(at_most);
            return Ok(false);
        };
        match listener.wait(at_most) {
            Ok(change) => {
                change.into_iter().for_each(|change| self.heard.note(change));
                Ok(change.is_some())
            }
            Err(error) => {
                self.listener = None;
                Err(error)
            }
        }
    }

    /// Waits for an announcement, and asks the store about what would change something here.
    fn hear(&mut self) -> Result<(), StoreError> {
        // A true announcement is acted on at once; after one that meant nothing, several cost one look.
        let came = self.heard != Heard::default() || self.take_in(STOP_POLL)?;
        if came && self.misled {
            self.take_in_all()?;
        }
        let before = self.core.slot.state();
        let Heard { committed, doubted, invalidated } = mem::take(&mut self.heard);
        if committed > self.core.slot.seen() {
            self.take_over()?;
        }
        let Some((token, _)) = self.core.slot.look() else { return Ok(()) };
        if token.generation() == committed {
            self.confirmed = Some(committed);
        }
        let is_due = Moment::now().reached(token.refresh_at());
        if token.generation() <= invalidated || (token.generation() <= doubted && !is_due) {
            self.inspect()?;
        }
        self.misled = came && self.core.slot.state() == before;
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), StoreError> {
        let before = self.core.slot.seen();
        refresh::take_over(&self.core)?;
        let seen = self.core.slot.seen();
        if seen > before && self.listener.is_some() {
            self.confirmed = Some(seen);
        }
        Ok(())
    }

    /// Offers a token that the store has lost back to it, if this process followed every change up to the loss; otherwise has
    /// it refreshed.
    fn give_back(&mut self) -> Result<(), StoreError> {
        let Some((token, _)) = self.core.slot.look() else { return Ok(()) };
        let generation = token.generation();
        if self.confirmed == Some(generation) && !Moment::now().reached(token.refresh_at()) {
            let Settings { store, name, .. } = &*self.core.settings;
            if store.offer(name, &self.core.as_stored(&token))? {
                log::info!(target: "token_manager", "{name}: gave generation {generation} back to a store that had lost it");
                return Ok(());
            }
            self.confirmed = None;
            self.take_over()?;
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
        if !needed(&self.core.slot) || !Moment::now().reached(self.fly_after) {
            return;
        }
        let until = refresh::unhurried(&self.core);
        let number = refresh::join(&self.core, until, until, needed);
        while !self.stopped_within(Duration::ZERO) {
            match self.core.flights.wait(number, clock::deadline(STOP_POLL)) {
                Some(Ok(())) => {
                    self.failures = 0;
                    return;
                }
                Some(Err(_)) => {
                    self.fly_after = self.backoff(self.failures);
                    self.failures += 1;
                    return;
                }
                None => {}
            }
        }
    }

    fn stopped_within(&self, pause: Duration) -> bool {
        use crossbeam::channel::RecvTimeoutError::Disconnected;
        self.stopped.recv_timeout(pause) == Err(Disconnected)
    }
}
