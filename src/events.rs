//! One subscription of a store for all of a process's tokens: a thread reads it, and tells whoever follows a token. It starts with
//! the first who does, and ends a while after the last.

use crate::clock;
use crate::decide;
use crate::fork::PerProcess;
use crate::locks::{Condvar, Mutex};
use crate::policy::{FEED_LINGER, POLL, STOP_POLL, fraction};
use crate::store::{Change, Feed, Heard, Store, StoreError, StoreErrorKind, Subscription, TokenName, Topic, Tuner};
use crate::threads::{self, Running};
use mailbox::{Mailbox, Told};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

mod mailbox;

pub use mailbox::Poke;

/// The events of one store in this process.
pub struct Events {
    store: Arc<dyn Store>,
    shared: Mutex<Shared>,
    /// What the thread waits for while it has no feed, and who pings for the answer.
    changed: Condvar,
    threads: Arc<Running>,
}

#[derive(Default)]
struct Shared {
    topics: HashMap<Topic, Followed>,
    /// How many confirmations of a topic are still to come: only the last one is of those who follow it now.
    asked: HashMap<Topic, u32>,
    tuner: Option<Arc<dyn Tuner>>,
    is_running: bool,
    /// Whether the thread is to end as soon as nobody follows anything.
    is_resting: bool,
    /// How many pings were sent and answered on this feed.
    pings: u64,
    pongs: u64,
    /// The number of the feed; one that did not answer a ping is given up.
    feed: u64,
    given_up: u64,
    /// How often in a row no feed was to be had, and until when none is tried.
    failures: u32,
    refusing: Option<(Instant, StoreErrorKind, String)>,
}

impl Shared {
    /// Counts an answer to a wish to follow; returns whether no other one is to come.
    fn is_last_answer(&mut self, topic: &Topic) -> bool {
        let Some(asked) = self.asked.get_mut(topic) else { return false };
        *asked -= 1;
        let is_last = *asked == 0;
        if is_last {
            self.asked.remove(topic);
        }
        is_last
    }
}

#[derive(Default)]
struct Followed {
    followers: Vec<Weak<Mailbox>>,
    is_followed: bool,
}

impl Followed {
    fn followers(&self) -> Vec<Arc<Mailbox>> {
        self.followers.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Tells followers something; no lock is held.
fn tell(followers: Vec<Arc<Mailbox>>, say: impl Fn(&mut Told)) {
    followers.iter().for_each(|follower| follower.tell(&say));
}

/// The events of all stores that have a number, by that number.
type Registry = PerProcess<Mutex<HashMap<u64, Weak<Events>>>>;

impl Events {
    /// Returns the events of this store, the same for all its clones that say so.
    pub fn of(store: &Arc<dyn Store>) -> Arc<Events> {
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        let make = || {
            Arc::new(Events {
                store: store.clone(),
                shared: Mutex::default(),
                changed: Condvar::new(),
                threads: Arc::default(),
            })
        };
        let Some(number) = store.number() else { return make() };
        let mut known = REGISTRY.get_or_init(Default::default).get(Default::default).lock();
        if let Some(events) = known.get(&number).and_then(Weak::upgrade) {
            return events;
        }
        known.retain(|_, events| events.strong_count() > 0);
        let events = make();
        known.insert(number, Arc::downgrade(&events));
        events
    }

    /// Returns whether the store tells of many tokens at once, so that followers are poked.
    pub fn pokes(&self) -> bool {
        self.store.has_feed()
    }

    /// Subscribes to a token's changes, through the store's one feed if it has any; the listener is subscribed when it is returned.
    ///
    /// # Errors
    /// When the store cannot be asked, or refuses.
    pub fn subscribe(
        self: &Arc<Self>,
        name: &TokenName,
        poke: Option<Poke>,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        if !self.store.has_feed() {
            return self.store.subscribe(name);
        }
        Ok(Box::new(self.follow(Topic::Changes(name.of_grant()), poke)?))
    }

    /// Has the store's feed follow this until what is returned is dropped; it does when this returns.
    ///
    /// # Errors
    /// When the store cannot be asked, or refuses.
    pub fn follow(self: &Arc<Self>, topic: Topic, poke: Option<Poke>) -> Result<Follower, StoreError> {
        let follower = Follower { events: self.clone(), topic, mailbox: Arc::new(Mailbox::new(poke)) };
        self.add(&follower)?;
        follower.mailbox.wait_until_followed(clock::deadline(3 * self.store.timeout()))?;
        Ok(follower)
    }

    fn add(self: &Arc<Self>, Follower { topic, mailbox, .. }: &Follower) -> Result<(), StoreError> {
        let mut shared = self.shared.lock();
        if let Some((until, kind, message)) = &shared.refusing
            && !clock::left(*until).is_zero()
        {
            return Err(StoreError::new(*kind, message.clone()));
        }
        let followed = shared.topics.entry(topic.clone()).or_default();
        let is_new = followed.followers.is_empty();
        followed.followers.push(Arc::downgrade(mailbox));
        if followed.is_followed {
            mailbox.note_followed();
        }
        if let Some(tuner) = shared.tuner.clone().filter(|_| is_new) {
            *shared.asked.entry(topic.clone()).or_default() += 1;
            tuner.follow(topic);
        }
        let starts = !std::mem::replace(&mut shared.is_running, true);
        drop(shared);
        self.changed.notify_all();
        if starts {
            let events = self.clone();
            if let Err(error) = threads::spawn("tkm-events", &self.threads, move || events.run()) {
                self.shared.lock().is_running = false;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Ends the feed if nobody follows anything, and waits for its thread; false if that takes longer than this.
    pub fn rest(&self, deadline: Instant) -> bool {
        let mut shared = self.shared.lock();
        while shared.is_running && shared.topics.is_empty() {
            shared.is_resting = true;
            // What reads the feed hears the answer, and looks up.
            shared.tuner.iter().for_each(|tuner| tuner.ping());
            self.changed.notify_all();
            if self.changed.wait_until(&mut shared, deadline).timed_out() {
                return false;
            }
        }
        let is_used = shared.is_running;
        drop(shared);
        is_used || self.threads.wait_until_none(deadline)
    }

    fn run(self: Arc<Self>) {
        let mut feed: Option<Box<dyn Feed>> = None;
        let mut unused_since = Instant::now();
        loop {
            let mut shared = self.shared.lock();
            let is_kept = unused_since.elapsed() < FEED_LINGER && !shared.is_resting && Arc::strong_count(&self) > 1;
            if !shared.topics.is_empty() {
                (unused_since, shared.is_resting) = (Instant::now(), false);
            } else if !is_kept {
                (shared.is_running, shared.is_resting, shared.tuner) = (false, false, None);
                drop(shared);
                self.changed.notify_all();
                return;
            } else if feed.is_none() {
                self.changed.wait_until(&mut shared, clock::deadline(STOP_POLL));
                continue;
            }
            if feed.is_some() && shared.given_up == shared.feed {
                feed = None;
                self.lose_all(
                    shared,
                    &StoreError::new(StoreErrorKind::Unreachable, "the subscription gave no sign of life"),
                );
                continue;
            }
            drop(shared);
            match &mut feed {
                None => feed = self.connect(),
                Some(own) => match own.wait(STOP_POLL) {
                    Ok(heard) => heard.into_iter().for_each(|heard| self.deliver(heard)),
                    Err(error) => {
                        feed = None;
                        self.lose_all(self.shared.lock(), &error);
                    }
                },
            }
        }
    }

    fn connect(&self) -> Option<Box<dyn Feed>> {
        let feed = match self.store.feed() {
            Ok(feed) => feed,
            Err(error) => {
                self.lose_all(self.shared.lock(), &error);
                return None;
            }
        };
        let tuner = feed.tuner();
        let mut shared = self.shared.lock();
        shared.tuner = Some(tuner.clone());
        (shared.feed, shared.pings, shared.pongs) = (shared.feed + 1, 0, 0);
        shared.asked = shared.topics.keys().map(|topic| (topic.clone(), 1)).collect();
        shared.topics.keys().for_each(|topic| tuner.follow(topic));
        Some(feed)
    }

    fn deliver(&self, heard: Heard) {
        let mut shared = self.shared.lock();
        match heard {
            Heard::Pong => {
                shared.pongs += 1;
                drop(shared);
                self.changed.notify_all();
            }
            Heard::Following(topic) => {
                (shared.failures, shared.refusing) = (0, None);
                if shared.is_last_answer(&topic)
                    && let Some(followed) = shared.topics.get_mut(&topic)
                {
                    followed.is_followed = true;
                    let followers = followed.followers();
                    drop(shared);
                    tell(followers, |told| told.is_followed = true);
                }
            }
            Heard::Refused(topic, error) => {
                shared.is_last_answer(&topic);
                // Whoever wishes it next asks anew.
                let refused = shared.topics.remove(&topic).unwrap_or_default();
                drop(shared);
                tell(refused.followers(), |told| told.lost = Some((error.kind(), error.to_string())));
            }
            Heard::Changed(grant, change) => {
                let followers = shared.topics.get(&Topic::Changes(grant)).map(Followed::followers);
                drop(shared);
                tell(followers.unwrap_or_default(), |told| told.take_in(change));
            }
        }
    }

    /// Tells all followers that the feed is lost: each follows anew when it likes, and meets a new feed, after a pause.
    fn lose_all(&self, mut shared: crate::locks::MutexGuard<'_, Shared>, error: &StoreError) {
        let lost = (error.kind(), error.to_string());
        let spread = fraction(crate::identity::identity().seed() ^ u64::from(shared.failures));
        // No longer than flights poll: whoever keeps tokens fresh comes back ever more rarely by itself.
        let pause = decide::backoff(shared.failures, POLL.1, spread);
        shared.failures += 1;
        shared.refusing = Some((clock::deadline(pause), lost.0, lost.1.clone()));
        shared.tuner = None;
        let topics = std::mem::take(&mut shared.topics);
        drop(shared);
        self.changed.notify_all();
        tell(topics.values().flat_map(Followed::followers).collect(), |told| told.lost = Some(lost.clone()));
    }

    /// Makes sure that the feed stands, and that all that happened before has been told.
    fn check(&self) -> Result<(), StoreError> {
        let gone = || StoreError::new(StoreErrorKind::Unreachable, "the subscription was lost");
        let mut shared = self.shared.lock();
        let (Some(tuner), feed) = (shared.tuner.clone(), shared.feed) else { return Err(gone()) };
        // Under the lock, so that their order on the line is that of the count.
        tuner.ping();
        shared.pings += 1;
        let (ping, until) = (shared.pings, clock::deadline(self.store.timeout()));
        while shared.feed == feed && shared.tuner.is_some() {
            if shared.pongs >= ping {
                return Ok(());
            }
            if self.changed.wait_until(&mut shared, until).timed_out() && shared.pongs < ping {
                shared.given_up = feed;
                return Err(gone());
            }
        }
        Err(gone())
    }
}

/// One follower's subscription; it ends when this is dropped.
pub struct Follower {
    events: Arc<Events>,
    topic: Topic,
    mailbox: Arc<Mailbox>,
}

impl Subscription for Follower {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Change>, StoreError> {
        self.mailbox.next(at_most)
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.events.check()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut shared = self.events.shared.lock();
        let own = Arc::as_ptr(&self.mailbox);
        let Some(followed) = shared.topics.get_mut(&self.topic) else { return };
        followed.followers.retain(|follower| follower.as_ptr() != own);
        if followed.followers.is_empty() {
            shared.topics.remove(&self.topic);
            // Under the lock, so that it comes before whatever the next follower asks.
            shared.tuner.iter().for_each(|tuner| tuner.unfollow(&self.topic));
        }
    }
}
