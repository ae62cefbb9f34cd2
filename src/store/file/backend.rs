//! The folder as a backend of the rules, and how its changes are heard of.

use crate::clock;
use crate::store::file::folder::{Folder, LOCK_TIMEOUT};
use crate::store::file::watches::{Heard, Watch};
use crate::store::{Change, StateBackend, Step, StoreError, StoreErrorKind, Subscription, TokenName};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How often who is told of nothing looks: while an updater is at work, and else.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

impl StateBackend for Arc<Folder> {
    fn update(&self, name: &TokenName, egress: Option<&str>, step: &mut Step<'_>) -> Result<(), StoreError> {
        Folder::update(self, name, egress, step)
    }

    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        let watch = Watch::of(&self.grant_file(name)?);
        let (announced, _) = self.announced(name)?;
        let (folder, name, heard) = (self.clone(), name.clone(), announced.count());
        Ok(Box::new(FileSubscription { folder, name, watch, heard, untold: VecDeque::new() }))
    }

    fn place(&self) -> String {
        format!("file:{}", self.path().display())
    }

    fn timeout(&self) -> Duration {
        LOCK_TIMEOUT
    }
}

struct FileSubscription {
    folder: Arc<Folder>,
    name: TokenName,
    watch: Watch,
    /// How many changes have been read.
    heard: u64,
    untold: VecDeque<Change>,
}

impl FileSubscription {
    /// Reads what has been announced; returns whether an updater is at work.
    fn read(&mut self) -> Result<bool, StoreError> {
        let (announced, is_fetching) = self.folder.announced(&self.name)?;
        let new = announced.after(self.heard).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Other, "changes of the token were missed, or its file began anew")
        })?;
        self.untold.extend(new);
        self.heard = announced.count();
        Ok(is_fetching)
    }
}

impl Subscription for FileSubscription {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Change>, StoreError> {
        let deadline = clock::deadline(at_most);
        while self.untold.is_empty() {
            let is_fetching = self.read()?;
            if !self.untold.is_empty() || clock::left(deadline).is_zero() {
                break;
            }
            let between_looks = if is_fetching { LOOKS.0 } else { LOOKS.1 };
            if self.watch.wait(deadline, between_looks) == Heard::Gone {
                return Err(StoreError::new(StoreErrorKind::Unreachable, "the token's file was removed"));
            }
        }
        Ok(self.untold.pop_front())
    }

    fn check(&mut self) -> Result<(), StoreError> {
        self.read().map(drop)
    }
}
