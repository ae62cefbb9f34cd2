//! Stores behind pointers are stores.

use super::{
    Claim, Claimed, Committed, Failure, Feed, Follow, Grant, Inspection, Lease, Pause, Presence, Store, StoreError,
    Stored, Subscription, TokenName,
};
use std::sync::Arc;
use std::time::Duration;

/// Writes the methods of a [`Store`] that pass everything on to another one.
macro_rules! forward {
    ($store:ident => $inner:expr) => {
        fn claim(&$store, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
            $inner.claim(name, claim)
        }

        fn read(&$store, names: &[TokenName]) -> Result<Vec<Option<Stored>>, StoreError> {
            $inner.read(names)
        }

        fn commit(&$store, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
            $inner.commit(name, lease, grant)
        }

        fn offer(&$store, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
            $inner.offer(name, token)
        }

        $crate::store::forward::forward_unsealed!($store => $inner);
    };
}

/// Writes those in which nothing secret passes.
macro_rules! forward_unsealed {
    ($store:ident => $inner:expr) => {
        fn renew(&$store, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
            $inner.renew(name, lease, length)
        }

        fn record_failure(
            &$store,
            name: &TokenName,
            lease: &Lease,
            failure: &Failure<'_>,
        ) -> Result<Option<Pause>, StoreError> {
            $inner.record_failure(name, lease, failure)
        }

        fn invalidate(&$store, name: &TokenName, generation: u64) -> Result<(), StoreError> {
            $inner.invalidate(name, generation)
        }

        fn lift_pause(&$store, name: &TokenName, egress: &str) -> Result<(), StoreError> {
            $inner.lift_pause(name, egress)
        }

        fn inspect(&$store, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
            $inner.inspect(name, egress)
        }

        fn subscribe(&$store, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
            $inner.subscribe(name)
        }

        fn has_feed(&$store) -> bool {
            $inner.has_feed()
        }

        fn feed(&$store) -> Result<Box<dyn Feed>, StoreError> {
            $inner.feed()
        }

        fn number(&$store) -> Option<u64> {
            $inner.number()
        }

        fn has_updater(&$store, name: &TokenName) -> Result<bool, StoreError> {
            $inner.has_updater(name)
        }

        fn show_presence(
            &$store,
            name: &TokenName,
            lease: &Lease,
            length: Duration,
            follow: Option<Follow<'_>>,
        ) -> Result<Option<Box<dyn Send>>, StoreError> {
            $inner.show_presence(name, lease, length, follow)
        }

        fn presence(&$store, name: &TokenName, missed: Option<&Lease>) -> Result<Presence, StoreError> {
            $inner.presence(name, missed)
        }

        fn place(&$store) -> String {
            $inner.place()
        }

        fn timeout(&$store) -> Duration {
            $inner.timeout()
        }
    };
}
pub(super) use {forward, forward_unsealed};

impl<S: Store + ?Sized> Store for Box<S> {
    forward!(self => (**self));
}

impl<S: Store + ?Sized> Store for Arc<S> {
    forward!(self => (**self));
}
