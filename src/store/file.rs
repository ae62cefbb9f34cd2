//! The store of one host: files in a folder, changed by the same rules under a short lock, for processes without a server.

#[cfg(unix)]
mod backend;
#[cfg(unix)]
mod folder;
#[cfg(not(unix))]
#[path = "file/elsewhere.rs"]
mod folder;
#[cfg(unix)]
mod host;
#[cfg(unix)]
mod locks;
#[cfg(unix)]
mod record;
#[cfg(unix)]
mod slots;
#[cfg(unix)]
mod watches;

#[cfg(target_os = "linux")]
pub use host::remote_kind;

use super::state_store::StateStore;
use super::{
    Claim, Claimed, Committed, Failure, Grant, Inspection, Lease, Pause, Store, StoreError, Stored, Subscription,
    TokenName,
};
use folder::Folder;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Keeps tokens in a folder of this host, for all processes of one user, with no server. Clones share it, and forked children go on
/// with it.
///
/// Secrets lie there in clear, in files that this user alone may read. Whoever dies at any step leaves the last state or the next,
/// and no lock. The folder must be on a disk of this host: a remote file system is refused. Unix only.
#[derive(Clone)]
pub struct FileStore(StateStore<Arc<Folder>>);

impl FileStore {
    /// Opens a folder, which is made, for this user alone, if it is not there. Each set of tokens has to have a folder to itself.
    ///
    /// # Errors
    /// [`Denied`](super::StoreErrorKind::Denied) if it belongs to another user, or others may write there;
    /// [`Other`](super::StoreErrorKind::Other) if it is on a remote file system, or this is no Unix; the message tells what to do.
    pub fn open(folder: impl AsRef<Path>) -> Result<FileStore, StoreError> {
        Ok(FileStore(StateStore(Arc::new(Folder::open(folder.as_ref())?))))
    }

    fn folder(&self) -> &Folder {
        &self.0.0
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileStore").field(&self.folder().path()).finish()
    }
}

/// What changes nothing takes no lock.
impl Store for FileStore {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        // Who may not be granted anything is told what there is.
        let asked = Claim { budget: None, ..*claim };
        let look = |now, grant: &mut super::rules::GrantState, egress: &mut _| {
            grant.token(name, |token| token.claim(now, &asked, egress))
        };
        match self.folder().look(name, Some(claim.egress), look)? {
            Claimed::Limited { .. } if claim.budget.is_some() => self.0.claim(name, claim),
            Claimed::Granted { .. } => self.0.claim(name, claim),
            answer => Ok(answer),
        }
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        self.0.renew(name, lease, length)
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        self.0.commit(name, lease, grant)
    }

    fn record_failure(
        &self,
        name: &TokenName,
        lease: &Lease,
        failure: &Failure<'_>,
    ) -> Result<Option<Pause>, StoreError> {
        self.0.record_failure(name, lease, failure)
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError> {
        self.0.invalidate(name, generation)
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
        self.0.offer(name, token)
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Result<(), StoreError> {
        self.0.lift_pause(name, egress)
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
        self.folder()
            .look(name, Some(egress), |now, grant, egress| grant.token(name, |token| token.inspect(now, egress)))
    }

    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        self.0.subscribe(name)
    }

    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        self.folder().look(name, None, |now, grant, _| grant.token(name, |token| token.has_updater(now)))
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn timeout(&self) -> Duration {
        self.0.timeout()
    }
}
