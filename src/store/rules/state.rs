//! What a store keeps: of one token, and of one egress. Times are microseconds since 1970 by the store's clock.

use crate::error::FailureClass;
use crate::store::{Lease, TokenName};
use crate::token::Secret;
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

/// What a store keeps of the tokens of one [grant](crate::Builder::grant), which nearly always is one. Changed as one value;
/// [`encode`](GrantState::encode) writes it down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrantState {
    /// The token of the grant's own name, and what all of its tokens share: the updater, the carried secret, the pause.
    pub grant: TokenState,
    /// The other tokens by their names, without what they share.
    pub others: BTreeMap<Arc<str>, TokenState>,
}

/// What a store keeps of one token. The verbs change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokenState {
    /// The token, until it expires.
    pub token: Option<StoredToken>,
    /// The process that fetches, until its lease ends.
    pub updater: Option<Updater>,
    /// What outlives tokens and updaters.
    pub meta: Meta,
    /// The secret for the next fetch.
    pub carry: Option<Carry>,
}

/// A token in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredToken {
    /// The number of its grant.
    pub generation: u64,
    /// The secret text.
    pub value: Secret,
    /// The whole life that the issuer gave it.
    pub life: Duration,
    /// When it must not be served any more.
    pub expires_at: u64,
}

/// The process that fetches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Updater {
    /// The proof that it holds.
    pub lease: Lease,
    /// How long the lease lasts.
    pub span: Span,
}

/// What is known of generations and failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meta {
    /// The last generation granted; 0 if none.
    pub granted: u64,
    /// The highest invalidated generation; 0 if none.
    pub invalidated: u64,
    /// The highest doubted generation; 0 if none.
    pub doubted: u64,
    /// The last generation granted to any token of the grant; 0 if none.
    pub latest: u64,
    /// The fleet's pause.
    pub pause: Option<FleetPause>,
    /// How many fetches have failed in a row.
    pub fails: u64,
}

/// The pause of the fleet after a failed fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FleetPause {
    /// How long it lasts.
    pub span: Span,
    /// How the fetch failed.
    pub class: FailureClass,
    /// The generation that it was to bring.
    pub generation: u64,
}

/// A secret for the next fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Carry {
    /// The secret text.
    pub secret: Secret,
    /// When it is dropped; `None` for never.
    pub expires_at: Option<u64>,
    /// The fetch that left it.
    pub generation: u64,
    /// Whether it has been presented to the issuer since, as far as is known.
    pub presented: Option<Presented>,
}

/// The presentation of a carried secret, which may have consumed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Presented {
    /// The only fetch that did it; `None` if there were several.
    pub by: Option<Lease>,
    /// When the first one was granted.
    pub at: u64,
}

/// What a store keeps of one egress, for all tokens of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EgressState {
    /// The budget that is spent: until its theoretical arrival time, at most as long as a whole burst takes.
    pub spent: Option<Span>,
    /// The pause that the issuer imposed on it.
    pub pause: Option<Span>,
}

/// A span of time with its end and its length: a clock that is set back draws out what is left of it, but never beyond its
/// length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// When it ends.
    pub ends_at: u64,
    /// How long it was when it began.
    pub length: Duration,
}

impl Span {
    pub(super) fn new(now: u64, length: Duration) -> Span {
        Span { ends_at: after(now, length), length }
    }

    /// Returns the span as it stands now, `None` when it has ended.
    fn at(self, now: u64) -> Option<Span> {
        Some(Span { ends_at: self.ends_at.min(after(now, self.length)), ..self }).filter(|span| span.ends_at > now)
    }

    pub(super) fn left(self, now: u64) -> Duration {
        Duration::from_micros(self.ends_at.saturating_sub(now))
    }
}

pub(super) fn after(now: u64, span: Duration) -> u64 {
    now.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

impl GrantState {
    /// Has a verb change the state of this token, to which the grant lends what its tokens share.
    pub fn token<T>(&mut self, name: &TokenName, verb: impl FnOnce(&mut TokenState) -> T) -> T {
        if name.name == name.grant {
            return verb(&mut self.grant);
        }
        let token = self.others.entry(name.name.clone()).or_default();
        token.swap_shared(&mut self.grant);
        let answer = verb(token);
        token.swap_shared(&mut self.grant);
        answer
    }

    /// Returns whether nothing is left that anybody could ask for, so that a store may forget it; forgets the tokens of which
    /// that is true. What it still knows of generations is then made up for: a late commit brings doubt.
    pub fn is_forgettable(&mut self, now: u64) -> bool {
        self.others.retain(|_, token| !token.is_forgettable(now));
        self.others.is_empty() && self.grant.is_forgettable(now)
    }
}

impl TokenState {
    /// Exchanges what the tokens of a grant share with another one of them.
    fn swap_shared(&mut self, other: &mut TokenState) {
        mem::swap(&mut self.updater, &mut other.updater);
        mem::swap(&mut self.carry, &mut other.carry);
        mem::swap(&mut self.meta.latest, &mut other.meta.latest);
        mem::swap(&mut self.meta.pause, &mut other.meta.pause);
        mem::swap(&mut self.meta.fails, &mut other.meta.fails);
    }

    /// Forgets what has ended by `now`, as Redis does by itself, and cuts what a clock that was set back has drawn out.
    pub(super) fn expire(&mut self, now: u64) {
        if let Some(token) = &mut self.token {
            token.expires_at = token.expires_at.min(after(now, token.life));
        }
        self.token.take_if(|token| token.expires_at <= now);
        if let Some(updater) = self.updater.take() {
            self.updater = updater.span.at(now).map(|span| Updater { span, ..updater });
        }
        if let Some(pause) = self.meta.pause.take() {
            self.meta.pause = pause.span.at(now).map(|span| FleetPause { span, ..pause });
        }
        self.carry.take_if(|carry| carry.expires_at.is_some_and(|at| at <= now));
    }

    fn is_forgettable(&mut self, now: u64) -> bool {
        self.expire(now);
        self.token.is_none() && self.updater.is_none() && self.meta.pause.is_none() && self.carry.is_none()
    }
}

impl Carry {
    /// Takes the presentation by this lease back: it did not consume the secret.
    pub(super) fn withdraw(&mut self, lease: &Lease) {
        self.presented.take_if(|presented| presented.by.as_ref() == Some(lease));
    }
}

impl EgressState {
    pub(super) fn expire(&mut self, now: u64) {
        self.spent = self.spent.and_then(|spent| spent.at(now));
        self.pause = self.pause.and_then(|pause| pause.at(now));
    }

    /// Returns whether nothing of it binds anybody any more, so that a store may forget it.
    pub fn is_forgettable(&mut self, now: u64) -> bool {
        self.expire(now);
        *self == EgressState::default()
    }
}
