//! A step of a keeper: what is due for its token is done.

use super::keeper::{Announced, Keeper, Round, Stepped};
use crate::clock::{self, Moment};
use crate::decide::{self, Serve};
use crate::flight::run::{self, CallingThread, Need};
use crate::flight::settle;
use crate::policy::{KEEP_FRESH_BACKOFF, LONGEST_REST, OFFERS, STOP_POLL};
use crate::state::State;
use crate::store::{StoreError, StoreErrorKind};
use std::cmp::Ordering;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A step of a keeper.
struct Step<'a> {
    keeper: &'a mut Keeper,
    state: Arc<State>,
    round: &'a Round,
    stepped: Stepped,
}

impl Keeper {
    /// Does what is due; `None` if nothing will be any more.
    pub fn step(&mut self, round: &Round) -> Option<Stepped> {
        let state = self.state.upgrade().filter(|_| self.lives.strong_count() > 0)?;
        let mut step = Step { keeper: self, state, round, stepped: Stepped::default() };
        step.run();
        step.stepped.next = step.next();
        step.stepped.look_again = step.look_interval(Moment::now());
        Some(step.stepped)
    }
}

impl Deref for Step<'_> {
    type Target = Keeper;

    fn deref(&self) -> &Keeper {
        self.keeper
    }
}

impl DerefMut for Step<'_> {
    fn deref_mut(&mut self) -> &mut Keeper {
        self.keeper
    }
}

impl Step<'_> {
    fn run(&mut self) {
        self.note_flight();
        if self.flight.is_some() {
            // What is told meanwhile waits: than what it took over, the flight would ask for a newer one.
            let received = self.receive_all();
            return self.note_errors(received);
        }
        let inspected = self.inspect_if_due();
        if let Err(error) = &inspected {
            self.stepped.store_is_down = decide::concerns_all(error.kind());
        }
        self.note_errors(inspected);
        self.refresh_if_needed();
        if self.flight.is_some() {
            return;
        }
        let reacted = self.wait_and_react();
        self.note_errors(reacted);
    }

    /// Returns how long nothing is to be done, unless something is told.
    fn next(&self) -> Duration {
        let (now, pokes) = (Moment::now(), self.state.settings.events().pokes());
        if self.flight.is_some() {
            return LONGEST_REST; // its end pokes
        }
        if !pokes {
            return Duration::ZERO; // it listens in its steps
        }
        let Some((token, _)) = self.state.slot.peek() else { return STOP_POLL };
        let look = match self.inspected_at {
            Some(at) => at.after(self.look_interval(now)),
            None => self.inspect_after,
        };
        let refresh = token.refresh_at();
        // A refresh that is due already has been put off.
        let refresh = if now.reached(refresh) { STOP_POLL } else { now.until(refresh) };
        now.until(look).min(refresh).clamp(Duration::from_millis(1), LONGEST_REST)
    }

    fn look_interval(&self, now: Moment) -> Duration {
        let life = self.state.slot.peek().map(|(token, _)| now.until(token.expires_at()));
        decide::store_check(life, self.round.tokens)
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
        let (interval, suspected_at) = (self.look_interval(now), self.round.suspected_at);
        let counts = |at: Moment| suspected_at.is_none_or(|suspected_at| at.reached(suspected_at));
        let is_recent = self.inspected_at.is_some_and(|at| now.since(at) < interval && counts(at));
        if is_recent || !now.reached(self.inspect_after) {
            return Ok(());
        }
        // While all are looked at because of one loss, those that are found on the way are no news.
        let would_be_news = suspected_at.is_none() || self.inspected_at.is_some_and(counts);
        self.inspected_at = Some(now);
        let was_subscribed = self.subscription.is_some();
        // Where events are forbidden there are inspections.
        let subscribed = self.subscribe();
        let compared = self.compare(was_subscribed);
        self.stepped.found_loss &= would_be_news;
        compared?;
        subscribed?;
        self.stepped.store_is_well = true;
        if was_subscribed {
            self.errors = 0;
        }
        Ok(())
    }

    fn subscribe(&mut self) -> Result<(), StoreError> {
        if self.subscription.is_none() {
            let settings = &self.state.settings;
            let subscription = settings.events().subscribe(&settings.name, Some(self.poke.clone()))?;
            self.keeper.subscription = Some(subscription);
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
            // Also if it came just now: its event may have passed before the subscription stood.
            _ if self.state.slot.holds(stored) => {
                (self.confirmed, self.lost) = (Some(stored).filter(|_| self.subscription.is_some()), None);
            }
            Some(Ordering::Less) if committed.is_ok() => {
                self.stepped.found_loss = true;
                self.restore()?;
            }
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
            // What it has told before it was lost counts.
            let _ = self.receive_all();
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
            thread::sleep(at_most);
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
        let came = self.announced != Announced::default() || self.receive(self.round.listen)?;
        // Nobody pokes once more for what a step leaves unread, be it that the subscription is lost.
        let is_poked = self.state.settings.events().pokes();
        let received = if came && (self.was_noise || is_poked) { self.receive_all() } else { Ok(()) };
        let before = self.state.slot.version();
        let Announced { committed, doubted, invalidated } = mem::take(&mut self.announced);
        if committed > self.state.slot.seen() {
            self.take_over()?;
        }
        let Some((token, _)) = self.state.slot.peek() else { return received };
        if token.generation() == committed {
            self.confirmed = Some(committed);
        }
        let is_due = Moment::now().reached(token.refresh_at());
        if token.generation() <= invalidated || (token.generation() <= doubted && !is_due) {
            self.inspect()?;
        }
        self.was_noise = came && self.state.slot.version() == before;
        received
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

    /// Offers a token that the store has lost back to it, if this process followed every change up to the loss; otherwise leaves that
    /// to those who did for a while, and then has it refreshed.
    fn restore(&mut self) -> Result<(), StoreError> {
        let Some((token, _)) = self.state.slot.peek() else { return Ok(()) };
        let generation = token.generation();
        let Announced { committed, doubted, invalidated } = self.announced;
        let is_confirmed = self.confirmed == Some(generation) || committed == generation;
        let is_refuted = generation <= doubted.max(invalidated);
        let now = Moment::now();
        let lost_since = self.lost.filter(|(lost, _)| *lost == generation).map_or(now, |(_, since)| since);
        if is_confirmed && !is_refuted && !now.reached(token.refresh_at()) {
            let (store, name) = (&self.state.settings.store, &self.state.settings.name);
            if store.offer(name, &self.state.as_stored(&token))? {
                log::info!(target: "token_manager", "{name}: gave generation {generation} back to a store that had lost it");
                return Ok(());
            }
            self.confirmed = None;
            self.take_over()?;
        } else if !is_refuted && now.since(lost_since) < OFFERS {
            self.lost = Some((generation, lost_since));
            (self.inspected_at, self.inspect_after) = (None, now.after(OFFERS));
            return Ok(());
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

    /// Has a flight bring the token if it is needed.
    fn refresh(&mut self, need: Need) {
        if self.flight.is_some() || !need.stands(&self.state.slot) || !Moment::now().reached(self.flight_after) {
            return;
        }
        let deadline = run::default_flight_deadline(&self.state);
        let number = run::join(&self.state, need, deadline, CallingThread::LentUntil(deadline));
        self.flight = Some(number);
        let poke = self.poke.clone();
        self.state.flights.when_finished(number, Box::new(move || poke()));
    }

    /// Notes how the flight ended, if it has.
    fn note_flight(&mut self) {
        let Some(outcome) = self.flight.and_then(|number| self.state.flights.outcome(number)) else { return };
        self.flight = None;
        if outcome.is_ok() {
            self.failures = 0;
        } else {
            self.flight_after = self.backoff(self.failures);
            self.failures += 1;
        }
    }
}
