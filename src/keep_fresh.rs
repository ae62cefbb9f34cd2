//! `keep_fresh`: one thread that stays subscribed, so that this process follows every commit and nobody ever waits.

use crate::clock::{self, Moment};
use crate::decide::{self, Serve};
use crate::error::{Error, ErrorKind};
use crate::flight::run::{self, CallingThread, Need};
use crate::flight::settle;
use crate::fork::PerProcess;
use crate::policy::{KEEP_FRESH_BACKOFF, STOP_POLL};
use crate::state::State;
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
pub fn keep(state: Arc<State>) -> Result<FreshGuard, Error> {
    let (stop, stopped) = bounded(0);
    let threads = state.threads.clone();
    let keeper = move || Keeper::new(state, stopped).run();
    match threads::spawn("tkm-fresh", &threads, keeper) {
        Ok(()) => Ok(FreshGuard { _stop: PerProcess::new(stop) }),
        Err(error) => Err(Error::new(ErrorKind::Config, format!("no thread for keep_fresh: {error}"))),
    }
}

/// The highest generations that were announced: hints, which anybody may forge and nobody acts on without the store's word.
#[derive(Default, PartialEq)]
struct Announced {
    committed: u64,
    doubted: u64,
    invalidated: u64,
}

impl Announced {
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
    state: Arc<State>,
    /// Disconnected when the guard is dropped.
    stopped: Receiver<()>,
    subscription: Option<Box<dyn Subscription>>,
    announced: Announced,
    /// When the store was inspected; `None` to inspect it as soon as `inspect_after` allows.
    inspected_at: Option<Moment>,
    inspect_after: Moment,
    flight_after: Moment,
    /// How often in a row the store could not be followed, and how many flights from here have failed.
    errors: u32,
    failures: u32,
    /// Whether the last announcement meant nothing to this process.
    was_noise: bool,
    /// The generation that the store held when it was last followed, if this process held it too.
    confirmed: Option<u64>,
}

impl Keeper {
    fn new(state: Arc<State>, stopped: Receiver<()>) -> Keeper {
        let now = Moment::now();
        Keeper {
            state,
            stopped,
            subscription: None,
            announced: Announced::default(),
            inspected_at: None,
            inspect_after: now,
            flight_after: now,
            errors: 0,
            failures: 0,
            was_noise: false,
            confirmed: None,
        }
    }

    fn run(&mut self) {
        while !self.stopped_within(Duration::ZERO) {
            let inspected = self.inspect_if_due();
            self.note_errors(inspected);
            self.refresh_if_needed();
            let reacted = self.wait_and_react();
            self.note_errors(reacted);
        }
    }

    /// Lets some time pass, ever more, before the next inspection of a store that gave trouble.
    fn note_errors(&mut self, done: Result<(), StoreError>) {
        let Err(error) = done else { return };
        log::debug!(target: "token_manager", "{}: keep_fresh tries again: {error}", self.state.settings.name);
        self.inspected_at = None;
        self.inspect_after = self.backoff(self.errors);
        self.errors += 1;
    }

    fn backoff(&self, round: u32) -> Moment {
        Moment::now().after(decide::backoff(round, KEEP_FRESH_BACKOFF, self.state.fraction(u64::from(round))))
    }

    fn inspect_if_due(&mut self) -> Result<(), StoreError> {
        let now = Moment::now();
        let life = self.state.slot.peek().map(|(token, _)| now.until(token.expires_at()));
        let is_recent = self.inspected_at.is_some_and(|at| now.since(at) < decide::store_check(life));
        if is_recent || !now.reached(self.inspect_after) {
            return Ok(());
        }
        self.inspected_at = Some(now);
        let was_subscribed = self.subscription.is_some();
        // Where events are forbidden there are inspections.
        let subscribed = self.subscribe();
        self.compare(was_subscribed)?;
        subscribed?;
        if was_subscribed {
            self.errors = 0;
        }
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), StoreError> {
        if self.subscription.is_none() {
            self.subscription = Some(self.state.settings.store.subscribe(&self.state.settings.name)?);
        }
        Ok(())
    }

    /// Notices what no event told: a token that the store has and this process does not, and one that the store has lost.
    fn compare(&mut self, was_subscribed: bool) -> Result<(), StoreError> {
        let held = self.state.slot.peek().map(|(token, _)| token.generation());
        let committed = settle::commit_kept(&self.state);
        let stored = self.inspect()?;
        self.check()?;
        // The announcement of what was found has come before the answer to the check.
        let is_news = stored > self.state.slot.seen() && self.state.slot.accepts(stored);
        let missed_commit = is_news && was_subscribed && self.announced.committed < stored;
        // What came after the answer, or was invalidated by it, is not to be compared with it.
        let held = held.filter(|generation| self.state.slot.holds(*generation));
        match held.map(|held| stored.cmp(&held)) {
            Some(Ordering::Equal) => self.confirmed = held.filter(|_| self.subscription.is_some()),
            Some(Ordering::Less) if committed.is_ok() => self.restore()?,
            _ if is_news => self.take_over()?,
            _ => {}
        }
        if missed_commit {
            self.subscription = None;
            return Err(StoreError::new(StoreErrorKind::Other, "the subscription told nothing of a commit"));
        }
        committed
    }

    /// Takes over what the store says of invalidated and doubted generations; returns the one that it has, 0 if none.
    fn inspect(&self) -> Result<u64, StoreError> {
        let found = self.state.settings.inspect_store()?;
        if found.invalidated > 0 {
            self.state.slot.invalidate(found.invalidated);
        }
        if found.doubted > 0 {
            self.state.slot.doubt(found.doubted);
        }
        Ok(found.token.map_or(0, |(generation, _)| generation))
    }

    /// Makes sure that the subscription stands, and takes in what it has told so far.
    fn check(&mut self) -> Result<(), StoreError> {
        if let Some(subscription) = &mut self.subscription
            && let Err(error) = subscription.check()
        {
            self.subscription = None;
            return Err(error);
        }
        self.receive_all()
    }

    /// Takes in all that have come already; a flood must not hold the thread.
    fn receive_all(&mut self) -> Result<(), StoreError> {
        let until = clock::deadline(STOP_POLL);
        while self.receive(Duration::ZERO)? && !clock::left(until).is_zero() {}
        Ok(())
    }

    /// Waits for an announcement; true if one came.
    fn receive(&mut self, at_most: Duration) -> Result<bool, StoreError> {
        let Some(subscription) = &mut self.subscription else {
            self.stopped_within(at_most);
            return Ok(false);
        };
        match subscription.wait(at_most) {
            Ok(change) => {
                change.into_iter().for_each(|change| self.announced.note(change));
                Ok(change.is_some())
            }
            Err(error) => {
                self.subscription = None;
                Err(error)
            }
        }
    }

    /// Waits for an announcement, and asks the store about what would change something here.
    fn wait_and_react(&mut self) -> Result<(), StoreError> {
        // A true announcement is acted on at once; after one that meant nothing, several cost one inspection.
        let came = self.announced != Announced::default() || self.receive(STOP_POLL)?;
        if came && self.was_noise {
            self.receive_all()?;
        }
        let before = self.state.slot.version();
        let Announced { committed, doubted, invalidated } = mem::take(&mut self.announced);
        if committed > self.state.slot.seen() {
            self.take_over()?;
        }
        let Some((token, _)) = self.state.slot.peek() else { return Ok(()) };
        if token.generation() == committed {
            self.confirmed = Some(committed);
        }
        let is_due = Moment::now().reached(token.refresh_at());
        if token.generation() <= invalidated || (token.generation() <= doubted && !is_due) {
            self.inspect()?;
        }
        self.was_noise = came && self.state.slot.version() == before;
        Ok(())
    }

    fn take_over(&mut self) -> Result<(), StoreError> {
        let before = self.state.slot.seen();
        run::take_over(&self.state)?;
        let seen = self.state.slot.seen();
        if seen > before && self.subscription.is_some() {
            self.confirmed = Some(seen);
        }
        Ok(())
    }

    /// Offers a token that the store has lost back to it, if this process followed every change up to the loss; otherwise has
    /// it refreshed.
    fn restore(&mut self) -> Result<(), StoreError> {
        let Some((token, _)) = self.state.slot.peek() else { return Ok(()) };
        let generation = token.generation();
        if self.confirmed == Some(generation) && !Moment::now().reached(token.refresh_at()) {
            let (store, name) = (&self.state.settings.store, &self.state.settings.name);
            if store.offer(name, &self.state.as_stored(&token))? {
                log::info!(target: "token_manager", "{name}: gave generation {generation} back to a store that had lost it");
                return Ok(());
            }
            self.confirmed = None;
            self.take_over()?;
        }
        self.refresh(Need::Replacement(generation));
        Ok(())
    }

    fn refresh_if_needed(&mut self) {
        match self.state.slot.peek() {
            Some((_, Serve::Now | Serve::Wait)) => {}
            Some((_, Serve::NowAndRefresh)) => self.refresh(Need::Refresh),
            None if self.state.failures.last().is_some() => {}
            None => self.refresh(Need::Token),
        }
    }

    /// Has a flight bring the token if it is needed, and waits for it as long as the guard lives.
    fn refresh(&mut self, need: Need) {
        if !need.stands(&self.state.slot) || !Moment::now().reached(self.flight_after) {
            return;
        }
        let deadline = run::default_flight_deadline(&self.state);
        let number = run::join(&self.state, need, deadline, CallingThread::LentUntil(deadline));
        while !self.stopped_within(Duration::ZERO) {
            match self.state.flights.wait(number, clock::deadline(STOP_POLL)) {
                Some(Ok(())) => {
                    self.failures = 0;
                    return;
                }
                Some(Err(_)) => {
                    self.flight_after = self.backoff(self.failures);
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
