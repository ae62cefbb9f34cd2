//! Managers to measure: with a token that stays fresh, and with one that is due for ever.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use token_manager::store::{
    Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Secret, StoreError, StoreErrorKind, Stored,
    Subscription, TokenName,
};
use token_manager::{Attempt, Budget, FetchError, Fetched, Store, TokenManager};

/// A text as long as the tokens of many issuers.
pub fn secret() -> String {
    "x".repeat(800)
}

const HOUR: Duration = Duration::from_secs(3600);

/// Makes a manager whose token stays fresh for as long as any bench runs.
///
/// # Panics
/// If the manager refuses its settings.
pub fn fresh_manager() -> TokenManager {
    let source = |_: &Attempt| Ok(Fetched::new(secret(), HOUR));
    TokenManager::builder("fresh").store(Fixed::default()).source(source).build().expect("valid settings")
}

/// Makes a manager whose first token comes at once and is due at once, and whose refreshes take as long as `fetch` does.
///
/// # Panics
/// If the manager refuses its settings.
pub fn due_manager(fetch: impl Fn() + Send + Sync + 'static) -> TokenManager {
    let calls = AtomicU64::new(0);
    let source = move |_: &Attempt| -> Result<Fetched, FetchError> {
        if calls.fetch_add(1, Ordering::Relaxed) > 0 {
            fetch();
        }
        Ok(Fetched::new(secret(), HOUR))
    };
    let builder = TokenManager::builder("due").store(Fixed { doubted: true, ..Fixed::default() }).source(source);
    builder.fetch_limit(HOUR).budget(Budget::per_minute(60_000)).build().expect("valid settings")
}

/// A store without memory: it grants every claim, and doubts every token if told so.
#[derive(Default)]
pub struct Fixed {
    pub doubted: bool,
    /// Answers every claim with a token instead of granting it.
    pub stocked: bool,
    generation: AtomicU64,
}

impl Fixed {
    /// Makes a store that has a token for everyone.
    pub fn stocked() -> Fixed {
        Fixed { stocked: true, ..Fixed::default() }
    }
}

impl Store for Fixed {
    fn claim(&self, _: &TokenName, _: &Claim<'_>) -> Result<Claimed, StoreError> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        if self.stocked {
            let value = Secret::new(secret());
            return Ok(Claimed::Token(Stored { generation, value, left: HOUR, life: HOUR, doubted: self.doubted }));
        }
        Ok(Claimed::Granted { generation, carry: None })
    }

    fn renew(&self, _: &TokenName, _: &Lease, _: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn commit(&self, _: &TokenName, _: &Lease, _: &Grant) -> Result<Committed, StoreError> {
        Ok(Committed::Written { doubted: self.doubted })
    }

    fn record_failure(&self, _: &TokenName, _: &Lease, _: &Failure<'_>) -> Result<Option<Pause>, StoreError> {
        Ok(None)
    }

    fn lift_pause(&self, _: &TokenName, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn invalidate(&self, _: &TokenName, _: u64) -> Result<(), StoreError> {
        Ok(())
    }

    fn inspect(&self, _: &TokenName, _: &str) -> Result<Inspection, StoreError> {
        Ok(Inspection::default())
    }

    fn subscribe(&self, _: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        Err(StoreError::new(StoreErrorKind::Unreachable, "this store has nothing to tell"))
    }

    fn timeout(&self) -> Duration {
        Duration::ZERO
    }
}
