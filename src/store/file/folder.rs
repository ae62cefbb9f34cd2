//! A folder of tokens: a file for each grant and each egress, read without a lock, changed under those of the files concerned.

use crate::clock;
use crate::fork::PerProcess;
use crate::locks::RwLock;
use crate::store::file::host;
use crate::store::file::locks::{Locked, Locks};
use crate::store::file::record::{Announced, GrantRecord, Owner, decode_egress, encode_egress};
use crate::store::file::slots::{self, Fault, NEW_LENGTH, Place, Stamp, Value, checksum};
use crate::store::rules::{EgressState, GrantState};
use crate::store::{Change, Step, StoreError, StoreErrorKind, TokenName};
use nix::libc;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a lock is waited for; nobody holds one for longer than it takes to write two files.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// After so long without a change a file is removed if nothing in it binds anybody any more.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// What file names end with.
const ENDING: &str = "tkm";

pub struct Folder {
    path: PathBuf,
    locks: PerProcess<RwLock<Option<Arc<Locks>>>>,
}

/// One file of the folder, whose name tells whose it is.
struct DataFile {
    path: PathBuf,
    /// The byte that locks it.
    byte: u32,
}

/// What was read of a file, and the file.
struct Opened {
    file: File,
    place: Place,
    stamp: Stamp,
    bytes: Vec<u8>,
}

impl Folder {
    pub fn open(path: &Path) -> Result<Folder, StoreError> {
        let mut made = DirBuilder::new();
        made.recursive(true).mode(0o700).create(path).map_err(|error| failed("make", path, error))?;
        let path = path.canonicalize().map_err(|error| failed("find", path, error))?;
        host::check_folder(&path)?;
        let folder = Folder { path, locks: PerProcess::default() };
        folder.locks()?;
        folder.sweep();
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where the file of the token's grant is, made if it is not there.
    pub fn grant_file(&self, name: &TokenName) -> Result<PathBuf, StoreError> {
        let data = self.data_file("grant", grant_owner(name));
        if !data.path.exists() {
            let _locked = self.lock(&[&data])?;
            self.open_or_make(&data)?;
        }
        Ok(data.path)
    }

    /// Shows the states as they are, with no lock, and with the time that it is for them.
    pub fn look<T>(
        &self,
        name: &TokenName,
        egress: Option<&str>,
        look: impl FnOnce(u64, &mut GrantState, &mut EgressState) -> T,
    ) -> Result<T, StoreError> {
        let (mut record, stamp) = self.read_grant(name)?;
        let (mut pauses, mut last) = (EgressState::default(), stamp);
        if let Some(egress) = egress {
            let owner = [&*name.namespace, &*name.group, egress];
            let (bytes, stamp) = self.read(&self.data_file("egress", owner))?;
            pauses = decode_egress(&bytes, owner)?;
            last = later(last, stamp);
        }
        Ok(look(host::next_stamp(last).now, &mut record.state, &mut pauses))
    }

    /// Returns the changes announced so far, and whether an updater is at work.
    pub fn announced(&self, name: &TokenName) -> Result<(Announced, bool), StoreError> {
        let (record, _) = self.read_grant(name)?;
        Ok((record.announced, record.state.grant.updater.is_some()))
    }

    /// Changes the states in one step, as [`StateBackend::update`](crate::store::StateBackend::update).
    pub fn update(&self, name: &TokenName, egress: Option<&str>, step: &mut Step<'_>) -> Result<(), StoreError> {
        let owner = grant_owner(name);
        let grant = self.data_file("grant", owner);
        let Some(egress) = egress else {
            let _locked = self.lock(&[&grant])?;
            return self.change_grant(&grant, owner, Stamp::default(), |now, state| {
                Ok(step(now, state, &mut EgressState::default()))
            });
        };
        let egress_owner = [&*name.namespace, &*name.group, egress];
        let data = self.data_file("egress", egress_owner);
        let _locked = self.lock(&[&grant, &data])?;
        let opened = self.open_or_make(&data)?;
        let mut pauses = decode_egress(&opened.bytes, egress_owner)?;
        self.change_grant(&grant, owner, opened.stamp, |now, state| {
            let changes = step(now, state, &mut pauses);
            // First, so that whoever dies in between has spent a fetch of the budget and never gained one.
            let stamp = Stamp { now, ..host::next_stamp(opened.stamp) };
            self.write(&data, &opened, &encode_egress(&pauses, egress_owner), stamp, false)?;
            Ok(changes)
        })
    }

    fn change_grant(
        &self,
        data: &DataFile,
        owner: Owner<'_>,
        other: Stamp,
        mut change: impl FnMut(u64, &mut GrantState) -> Result<Vec<Change>, StoreError>,
    ) -> Result<(), StoreError> {
        let opened = self.open_or_make(data)?;
        let mut record = GrantRecord::decode(&opened.bytes, owner)?;
        let stamp = host::next_stamp(later(opened.stamp, other));
        let had_carry = record.state.grant.carry.is_some();
        let changes = change(stamp.now, &mut record.state)?;
        record.announced.add(changes);
        // A secret that was issued once cannot be had again: neither it nor its end may be lost with the power.
        let is_synced = had_carry || record.state.grant.carry.is_some();
        self.write(data, &opened, &record.encode(owner), stamp, is_synced)
    }

    /// Writes what has changed.
    fn write(
        &self,
        data: &DataFile,
        opened: &Opened,
        bytes: &[u8],
        stamp: Stamp,
        is_synced: bool,
    ) -> Result<(), StoreError> {
        if bytes == opened.bytes {
            return Ok(());
        }
        let written = slots::write(&opened.file, opened.place, bytes, stamp, is_synced);
        // The file may be new: then its name has to reach the disk as well.
        let written = written.and_then(|()| if is_synced { File::open(&self.path)?.sync_all() } else { Ok(()) });
        written.map_err(|error| failed("write", &data.path, error))
    }

    fn read_grant(&self, name: &TokenName) -> Result<(GrantRecord, Stamp), StoreError> {
        let owner = grant_owner(name);
        let (bytes, stamp) = self.read(&self.data_file("grant", owner))?;
        Ok((GrantRecord::decode(&bytes, owner)?, stamp))
    }

    fn read(&self, data: &DataFile) -> Result<(Vec<u8>, Stamp), StoreError> {
        let file = match options().read(true).open(&data.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            file => file.map_err(|error| failed("read", &data.path, error))?,
        };
        host::check_file(&file, &data.path)?;
        let Value { bytes, stamp, .. } = value(&file, &data.path)?;
        Ok((bytes, stamp))
    }

    /// Opens a file to change it; its lock is held.
    fn open_or_make(&self, data: &DataFile) -> Result<Opened, StoreError> {
        let path = &data.path;
        let file = options().read(true).write(true).create(true).mode(0o600).open(path);
        let file = file.map_err(|error| failed("write", path, error))?;
        let length = host::check_file(&file, path)?.len();
        if length < NEW_LENGTH as u64 {
            let rest = vec![0; NEW_LENGTH - length as usize];
            file.write_all_at(&rest, length).map_err(|error| failed("make", path, error))?;
        }
        let Value { place, stamp, bytes } = value(&file, path)?;
        Ok(Opened { file, place, stamp, bytes })
    }

    fn lock(&self, files: &[&DataFile]) -> Result<Locked, StoreError> {
        let bytes: Vec<u32> = files.iter().map(|data| data.byte).collect();
        let locked = self.locks()?.lock(&bytes, clock::deadline(LOCK_TIMEOUT));
        let locked = locked.map_err(|error| failed("lock", &self.path, error))?;
        locked.ok_or_else(|| {
            let message = format!("another process holds the lock of {:?}; is it stopped?", files[0].path);
            StoreError::new(StoreErrorKind::Exhausted, message)
        })
    }

    fn locks(&self) -> Result<Arc<Locks>, StoreError> {
        let own = self.locks.get(Default::default);
        if let Some(locks) = own.read().as_ref().filter(|locks| !locks.is_removed()) {
            return Ok(locks.clone());
        }
        let path = self.path.join("lock");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path).and_then(|()| Locks::of(&path));
        let locks = made.map_err(|error| failed("lock", &path, error))?;
        *own.write() = Some(locks.clone());
        Ok(locks)
    }

    /// Names a file so that no two owners share one, whatever the file system takes for equal.
    fn data_file(&self, kind: &str, owner: Owner<'_>) -> DataFile {
        let mut name = owner.map(escaped).join(".");
        let hash = checksum(name.as_bytes());
        if name.len() > 200 {
            name.truncate(180);
            name = format!("{name}~{hash:016x}");
        }
        let path = self.path.join(format!("{name}.{kind}.{ENDING}"));
        let hash = hash ^ checksum(kind.as_bytes());
        // Within what an offset of 32 bits can say.
        DataFile { path, byte: (hash ^ hash >> 32) as u32 & 0x7fff_ffff }
    }

    /// Removes what nobody has changed for long and nobody could ask for any more. What it cannot read stays.
    fn sweep(&self) {
        let Ok(files) = fs::read_dir(&self.path) else { return };
        for file in files.flatten() {
            let is_data = file.path().extension().is_some_and(|extension| extension == ENDING);
            let age = |found: fs::Metadata| SystemTime::now().duration_since(found.modified().ok()?).ok();
            if is_data && file.metadata().ok().and_then(age).is_some_and(|age| age > KEPT) {
                let _ = self.remove_if_over(&file.path()); // it costs some kilobytes
            }
        }
    }

    fn remove_if_over(&self, path: &Path) -> Result<(), StoreError> {
        let file = options().read(true).open(path)?;
        host::check_file(&file, path)?;
        let bytes = value(&file, path)?.bytes;
        let Some((kind, owner)) = crate::store::file::record::owner(&bytes) else { return Ok(()) };
        let data = self.data_file(&kind, [&owner[0], &owner[1], &owner[2]]);
        let _locked = self.lock(&[&data])?;
        let (bytes, stamp) = self.read(&data)?;
        let (now, owner) = (host::next_stamp(stamp).now, [&*owner[0], &*owner[1], &*owner[2]]);
        let is_over = match &*kind {
            "grant" => GrantRecord::decode(&bytes, owner)?.state.is_forgettable(now),
            _ => decode_egress(&bytes, owner)?.is_forgettable(now),
        };
        if is_over && data.path == path {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn grant_owner(name: &TokenName) -> Owner<'_> {
    [&name.namespace, &name.group, &name.grant]
}

/// Two files of one host: the later of their times is the time of both.
fn later(one: Stamp, other: Stamp) -> Stamp {
    if other.now > one.now { other } else { one }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NOFOLLOW);
    options
}

fn value(file: &File, path: &Path) -> Result<Value, StoreError> {
    let refused = |message| StoreError::new(StoreErrorKind::Malformed, message);
    slots::read(file, host::boot()).map_err(|fault| match fault {
        Fault::Io(error) => failed("read", path, error),
        Fault::Foreign => refused(format!("{path:?} was not written by this library; move it away")),
        Fault::Newer(version) => {
            refused(format!("{path:?} has version {version}, which this library does not know; update it"))
        }
        Fault::Torn => refused(format!("{path:?} was damaged; if it carried a secret, that is lost; remove the file")),
    })
}

/// Writes what might be special, or equal to another letter, as its bytes.
fn escaped(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let byte = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
    word.bytes().map(byte).collect()
}

fn failed(doing: &str, path: &Path, error: io::Error) -> StoreError {
    use io::ErrorKind as Io;
    let (kind, advice) = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => (StoreErrorKind::NotWritable, "make room on the disk"),
        Io::ReadOnlyFilesystem => (StoreErrorKind::NotWritable, "its file system is read-only"),
        Io::FileTooLarge => (StoreErrorKind::NotWritable, "it would be too large"),
        Io::PermissionDenied => (StoreErrorKind::Denied, "it must belong to this process's user"),
        Io::NotFound | Io::NotADirectory => (StoreErrorKind::Unreachable, "is the folder there?"),
        _ if error.raw_os_error() == Some(libc::ELOOP) => (StoreErrorKind::Denied, "a link is not followed"),
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            (StoreErrorKind::Exhausted, "too many files are open")
        }
        _ => (StoreErrorKind::Unreachable, "the cause tells"),
    };
    StoreError::new(kind, format!("cannot {doing} {path:?}: {advice}")).because(error)
}
