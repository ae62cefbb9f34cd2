//! What a system without the locks and modes of Unix has of it: a word that says so.

use crate::store::rules::{EgressState, GrantState};
use crate::store::{StateBackend, Step, StoreError, StoreErrorKind, TokenName};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub enum Folder {}

impl Folder {
    pub fn open(_: &Path) -> Result<Folder, StoreError> {
        let message = "the store in files needs a Unix; meet in Redis, or in a store of your own (StateBackend)";
        Err(StoreError::new(StoreErrorKind::Other, message))
    }

    pub fn path(&self) -> &Path {
        match *self {}
    }

    pub fn look<T>(
        &self,
        _: &TokenName,
        _: Option<&str>,
        _: impl FnOnce(u64, &mut GrantState, &mut EgressState) -> T,
    ) -> Result<T, StoreError> {
        match *self {}
    }
}

impl StateBackend for Arc<Folder> {
    fn update(&self, _: &TokenName, _: Option<&str>, _: &mut Step<'_>) -> Result<(), StoreError> {
        match **self {}
    }

    fn timeout(&self) -> Duration {
        match **self {}
    }
}
