//! Two stores for one fleet: its own, and while that is away the one of the host, where the processes of the host meet meanwhile.
//!
//! Each verb asks the fleet's store first. Once that cannot be reached nobody but one thread at a time tries it again; all else
//! goes to the host's. A lease belongs to the store that granted it. What was fetched under one of the host's is told to the fleet's
//! store when that is back, by the process that fetched it, as a late commit: doubt settles which token is the last.

use super::{
    Change, Claim, Claimed, Committed, Failure, Follow, Grant, Inspection, Lease, Pause, Presence, Store, StoreError,
    StoreErrorKind, Stored, Subscription, TokenName,
};
use crate::clock::{self, Moment};
use crate::decide;
use crate::fork::PerProcess;
use crate::locks::Mutex;
use crate::policy::{self, AWAY_BACKOFF, Budget};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Answer<T> = Result<T, StoreError>;

pub struct WhenAway(Arc<Stores>);

struct Stores {
    fleet: Box<dyn Store>,
    host: Box<dyn Store>,
    /// What a fetch is charged to in the host's store.
    budget: Budget,
    own: PerProcess<Mutex<Own>>,
}

/// What one process knows.
#[derive(Default)]
struct Own {
    away: Option<Away>,
    /// How often the processes have begun to meet elsewhere.
    moves: u64,
    tokens: HashMap<TokenName, Known>,
}

struct Away {
    since: Instant,
    try_at: Instant,
    tries: u32,
    is_trying: bool,
}

#[derive(Default)]
struct Known {
    /// The highest generation that either store has told of, and that the host's has.
    newest: u64,
    of_host: u64,
    /// What the host's store granted to this process.
    leases: Vec<Lease>,
    /// What this process fetched under them and the fleet's store has to be told.
    untold: Option<Untold>,
    /// The highest generation that was invalidated meanwhile.
    invalidated: u64,
    /// The last token of the fleet's store.
    last: Option<(Stored, Moment)>,
    /// Whether the source hands on a secret, which two hosts must not present.
    carries: bool,
}

#[derive(Clone)]
struct Untold {
    lease: Lease,
    grant: Grant,
    at: Moment,
}

/// Whether a thread may ask the fleet's store.
enum Turn {
    /// It was well when it was last asked.
    Ask,
    /// It is away, and this thread is the one to try.
    Try,
    /// It is away.
    Leave,
}

impl WhenAway {
    pub fn new(fleet: Box<dyn Store>, host: Box<dyn Store>, budget: Budget) -> WhenAway {
        WhenAway(Arc::new(Stores { fleet, host, budget, own: PerProcess::default() }))
    }
}

/// Whether another store has to do. What the fleet's store refuses it would refuse to anybody.
fn is_away(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Unreachable | StoreErrorKind::NotWritable)
}

impl Stores {
    fn own(&self) -> &Mutex<Own> {
        self.own.get(Default::default)
    }

    fn known<T>(&self, name: &TokenName, look: impl FnOnce(&mut Known) -> T) -> T {
        look(self.own().lock().tokens.entry(name.clone()).or_default())
    }

    /// Asks the fleet's store, unless it is away and it is not this thread's turn to try.
    fn ask<T>(&self, verb: impl FnOnce(&dyn Store) -> Answer<T>) -> Answer<T> {
        match self.turn() {
            Turn::Leave => {
                Err(StoreError::new(StoreErrorKind::Unreachable, "the store is away; it is tried again soon"))
            }
            Turn::Ask => self.heed(verb(&*self.fleet)),
            Turn::Try => {
                let mut trying = Trying { stores: self, is_back: false };
                // First, so that what is granted next is above all that was granted here.
                self.tell()?;
                let answer = verb(&*self.fleet);
                trying.is_back = !answer.as_ref().is_err_and(is_away);
                drop(trying);
                answer
            }
        }
    }

    fn turn(&self) -> Turn {
        match &mut self.own().lock().away {
            None => Turn::Ask,
            Some(away) if away.is_trying || !clock::left(away.try_at).is_zero() => Turn::Leave,
            Some(away) => {
                away.is_trying = true;
                Turn::Try
            }
        }
    }

    fn heed<T>(&self, answer: Answer<T>) -> Answer<T> {
        if let Err(error) = &answer
            && is_away(error)
        {
            let mut own = self.own().lock();
            if own.away.is_none() {
                let now = Instant::now();
                own.away = Some(Away { since: now, try_at: now, tries: 0, is_trying: false });
                own.moves += 1;
                own.put_off();
                drop(own);
                let place = self.host.place();
                log::warn!(target: "token_manager", "the fleet's store is away, this host goes on by itself ({place}): {error}");
            }
        }
        answer
    }

    /// Tells the fleet's store what this process did without it.
    fn tell(&self) -> Answer<()> {
        let untold: Vec<(TokenName, u64, Option<Untold>)> = {
            let own = self.own().lock();
            let new = own.tokens.iter().filter(|(_, known)| known.untold.is_some() || known.invalidated > 0);
            new.map(|(name, known)| (name.clone(), known.invalidated, known.untold.clone())).collect()
        };
        for (name, invalidated, untold) in untold {
            if invalidated > 0 {
                self.settle(self.fleet.invalidate(&name, invalidated))?;
            }
            if let Some(untold) = &untold
                && let Some(grant) = self.still_of_use(&name, untold)
            {
                self.settle(self.fleet.commit(&name, &untold.lease, &grant).map(drop))?;
            }
            self.known(&name, |known| {
                known.untold.take_if(|now| untold.as_ref().is_some_and(|told| told.lease == now.lease));
                known.invalidated = if known.invalidated > invalidated { known.invalidated } else { 0 };
            });
        }
        Ok(())
    }

    /// Returns what the fleet's store is to be told of a fetch: nothing if its time is over, or if another process of the host has
    /// fetched since and tells of that. So each host casts doubt once, however long it was alone.
    fn still_of_use(&self, name: &TokenName, Untold { lease, grant, at }: &Untold) -> Option<Grant> {
        let left = grant.left.saturating_sub(Moment::now().since(*at));
        let newest = self.host.inspect(&alone(name), "").map_or(0, |found| found.invalidated);
        let is_last = newest <= lease.generation && (!left.is_zero() || grant.carry.is_some());
        // Its generation is a time of the host's clock, which is not to be compared with the fleet's.
        is_last.then(|| Grant { left, age: None, ..grant.clone() })
    }

    /// What the store refuses cannot be told, then or later.
    fn settle(&self, told: Answer<()>) -> Answer<()> {
        match told {
            Err(error) if is_away(&error) || error.kind() == StoreErrorKind::Exhausted => Err(error),
            Err(error) => {
                log::warn!(target: "token_manager", "what this host fetched by itself stays here: {error}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn claim_here(&self, name: &TokenName, claim: &Claim<'_>, away: StoreError) -> Answer<Claimed> {
        let (carries, last) = self.known(name, |known| (known.carries, known.last.take()));
        if carries {
            return Err(away);
        }
        if let Some((stored, at)) = last {
            let left = stored.left.saturating_sub(Moment::now().since(at));
            if !left.is_zero() && !stored.doubted {
                self.host.offer(name, &Stored { left, ..stored })?;
            }
        }
        let asked = Claim { budget: claim.budget.map(|_| self.budget), ..*claim };
        let answer = self.host.claim(name, &asked)?;
        self.known(name, |known| {
            let generation = match &answer {
                Claimed::Token(stored) => stored.generation,
                Claimed::Granted { generation, .. } => {
                    let (owner, attempt, generation) = (claim.owner.into(), claim.attempt, *generation);
                    known.leases.retain(|lease| lease.generation != generation);
                    known.leases.push(Lease { owner, attempt, generation });
                    generation
                }
                _ => 0,
            };
            known.of_host = known.of_host.max(generation);
            known.newest = known.newest.max(generation).max(claim.newer_than);
        });
        Ok(answer)
    }

    fn is_of_host(&self, name: &TokenName, lease: &Lease) -> bool {
        self.known(name, |known| known.leases.contains(lease))
    }

    fn give_back(&self, name: &TokenName, lease: &Lease) {
        self.known(name, |known| known.leases.retain(|held| held != lease));
    }
}

/// Names what is no token: under it the host's store keeps which generation was the last that the host fetched alone, as the highest
/// that is invalid. The tokens that others had from the fleet are there too, and tell nothing of that.
fn alone(name: &TokenName) -> TokenName {
    let own = format!("{} alone", name.name).into();
    TokenName { name: own, grant: format!("{} alone", name.grant).into(), ..name.clone() }
}

impl Own {
    fn put_off(&mut self) {
        if let Some(away) = &mut self.away {
            let fraction = policy::fraction(u64::from(std::process::id()) << 32 | u64::from(away.tries));
            away.try_at = clock::deadline(decide::backoff(away.tries, AWAY_BACKOFF, fraction));
            away.tries += 1;
            away.is_trying = false;
        }
    }
}

/// The turn of the one thread that tries a store that was away, ended by a panic too.
struct Trying<'a> {
    stores: &'a Stores,
    is_back: bool,
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        let mut own = self.stores.own().lock();
        if !self.is_back {
            return own.put_off();
        }
        let was = own.away.take();
        own.moves += 1;
        drop(own);
        let lasted = was.map_or(Duration::ZERO, |away| away.since.elapsed());
        log::warn!(target: "token_manager", "the fleet's store is back after {lasted:.1?}, this host is of the fleet again");
    }
}

impl Store for WhenAway {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Answer<Claimed> {
        let (stores, asked_at) = (&*self.0, Moment::now());
        match stores.ask(|fleet| fleet.claim(name, claim)) {
            Err(error) if is_away(&error) => stores.claim_here(name, claim, error),
            answer => {
                stores.known(name, |known| match &answer {
                    Ok(Claimed::Token(stored)) => {
                        known.newest = known.newest.max(stored.generation);
                        known.last = Some((stored.clone(), asked_at));
                    }
                    Ok(Claimed::Granted { carry, .. }) => known.carries |= carry.is_some(),
                    _ => {}
                });
                answer
            }
        }
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Answer<bool> {
        if self.0.is_of_host(name, lease) {
            return self.0.host.renew(name, lease, length);
        }
        self.0.ask(|fleet| fleet.renew(name, lease, length))
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Answer<Committed> {
        let (stores, at) = (&*self.0, Moment::now());
        let Grant { value, left, life, carry, .. } = grant;
        let stored =
            Stored { generation: lease.generation, value: value.clone(), left: *left, life: *life, doubted: false };
        stores.known(name, |known| known.carries |= carry.is_some());
        if stores.is_of_host(name, lease) {
            let answer = stores.host.commit(name, lease, grant)?;
            stores.give_back(name, lease);
            if grant.carry.is_none() && !matches!(answer, Committed::Written { .. }) {
                return Ok(answer); // it is of no use here, and would be of none elsewhere
            }
            if let Err(error) = stores.host.invalidate(&alone(name), lease.generation) {
                log::warn!(target: "token_manager", "{name}: this host may tell of more than its last fetch: {error}");
            }
            let untold = Untold { lease: lease.clone(), grant: grant.clone(), at };
            stores.known(name, |known| known.untold = Some(untold));
            if stores.own().lock().away.is_none() {
                // It came back meanwhile. What cannot be told now is told when it is back once more.
                drop(stores.heed(stores.tell()));
            }
            return Ok(answer);
        }
        let answer = stores.ask(|fleet| fleet.commit(name, lease, grant));
        match &answer {
            // The others of the host need not fetch what is here; whoever fetched it keeps it for the fleet's store.
            Err(error) if is_away(error) => drop(stores.host.offer(name, &stored)),
            Ok(Committed::Written { doubted: false }) => {
                stores.known(name, |known| {
                    known.newest = known.newest.max(stored.generation);
                    known.last = Some((stored, at));
                });
            }
            _ => {}
        }
        answer
    }

    fn record_failure(&self, name: &TokenName, lease: &Lease, failure: &Failure<'_>) -> Answer<Option<Pause>> {
        if self.0.is_of_host(name, lease) {
            let pause = self.0.host.record_failure(name, lease, failure)?;
            self.0.give_back(name, lease);
            return Ok(pause);
        }
        self.0.ask(|fleet| fleet.record_failure(name, lease, failure))
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Answer<()> {
        let here = self.0.host.invalidate(name, generation);
        match self.0.ask(|fleet| fleet.invalidate(name, generation)) {
            Err(error) if is_away(&error) => {
                self.0.known(name, |known| known.invalidated = known.invalidated.max(generation));
                here
            }
            answer => answer,
        }
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Answer<bool> {
        match self.0.ask(|fleet| fleet.offer(name, token)) {
            Err(error) if is_away(&error) => self.0.host.offer(name, token),
            answer => answer,
        }
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Answer<()> {
        let here = self.0.host.lift_pause(name, egress);
        match self.0.ask(|fleet| fleet.lift_pause(name, egress)) {
            Err(error) if is_away(&error) => here,
            answer => answer,
        }
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Answer<Inspection> {
        let answer = self.0.ask(|fleet| fleet.inspect(name, egress));
        let (newest, of_host) = self.0.known(name, |known| (known.newest, known.of_host));
        match answer {
            Err(error) if is_away(&error) => {
                let found = self.0.host.inspect(name, egress)?;
                // It has not lost what it never had.
                if found.token.is_some_and(|(generation, _)| generation >= newest) { Ok(found) } else { Err(error) }
            }
            Ok(found) if of_host > found.granted.max(found.invalidated) => {
                let message = "the store has not been told yet what this host fetched while it was away";
                Err(StoreError::new(StoreErrorKind::Other, message))
            }
            answer => answer,
        }
    }

    fn subscribe(&self, name: &TokenName) -> Answer<Box<dyn Subscription>> {
        // Before the question: what moves from here on ends the subscription.
        let (stores, moves) = (self.0.clone(), self.0.own().lock().moves);
        let (inner, moves) = match stores.ask(|fleet| fleet.subscribe(name)) {
            Err(error) if is_away(&error) => (stores.host.subscribe(name)?, stores.own().lock().moves.min(moves + 1)),
            answer => (answer?, moves),
        };
        let name = name.clone();
        Ok(Box::new(HereOrThere { stores, name, moves, inner }))
    }

    fn has_updater(&self, name: &TokenName) -> Answer<bool> {
        match self.0.ask(|fleet| fleet.has_updater(name)) {
            Err(error) if is_away(&error) => self.0.host.has_updater(name),
            answer => answer,
        }
    }

    fn show_presence(
        &self,
        name: &TokenName,
        lease: &Lease,
        length: Duration,
        follow: Option<Follow<'_>>,
    ) -> Answer<Option<Box<dyn Send>>> {
        if self.0.is_of_host(name, lease) {
            return self.0.host.show_presence(name, lease, length, follow);
        }
        self.0.ask(|fleet| fleet.show_presence(name, lease, length, follow))
    }

    fn presence(&self, name: &TokenName, missed: Option<&Lease>) -> Answer<Presence> {
        match self.0.ask(|fleet| fleet.presence(name, missed)) {
            Err(error) if is_away(&error) => self.0.host.presence(name, missed),
            answer => answer,
        }
    }

    fn place(&self) -> String {
        self.0.fleet.place()
    }

    fn timeout(&self) -> Duration {
        self.0.fleet.timeout().max(self.0.host.timeout())
    }
}

/// A subscription that is lost when the fleet begins to meet elsewhere.
struct HereOrThere {
    stores: Arc<Stores>,
    name: TokenName,
    moves: u64,
    inner: Box<dyn Subscription>,
}

impl HereOrThere {
    fn stay(&self) -> Answer<()> {
        if self.stores.own().lock().away.is_some() {
            // Who waits here may be the only one who would notice that the store is back.
            drop(self.stores.ask(|fleet| fleet.has_updater(&self.name)));
        }
        match self.stores.own().lock().moves == self.moves {
            true => Ok(()),
            false => Err(StoreError::new(StoreErrorKind::Other, "the fleet meets in another store now")),
        }
    }
}

impl Subscription for HereOrThere {
    fn wait(&mut self, at_most: Duration) -> Answer<Option<Change>> {
        self.stay()?;
        let change = self.inner.wait(at_most);
        match &change {
            // What was refused or doubted elsewhere is not to be offered to this host when the store is away.
            Ok(Some(Change::Invalidated(generation) | Change::Doubted(generation))) => {
                self.stores.known(&self.name, |known| known.last.take_if(|(last, _)| last.generation <= *generation));
            }
            // A cut line is no store that is away: whether it is, a question tells.
            Err(_) => drop(self.stores.ask(|fleet| fleet.has_updater(&self.name))),
            Ok(_) => {}
        }
        change
    }

    fn check(&mut self) -> Answer<()> {
        self.stay()?;
        self.inner.check()
    }
}
