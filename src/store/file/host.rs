//! What a folder and its host must be like: a local file system, and nobody else who may write there.

use crate::clock;
use crate::store::file::slots::{Stamp, checksum};
use crate::store::{StoreError, StoreErrorKind};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// Names this start of the machine; 0 where the system has no name for it.
pub fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| fs::read("/proc/sys/kernel/random/boot_id").map_or(0, |id| checksum(&id)))
}

/// Returns the time at which the next value is written. Within one start of the machine it passes evenly, asleep too, so that no
/// wall clock that is set back draws anything out; across a restart it goes on from where it was. A wall clock that is ahead of it
/// is followed: what ends too early costs a fetch, what ends too late a refused call.
pub fn next_stamp(last: Stamp) -> Stamp {
    let (boot, since_boot, wall) = (boot(), clock::since_boot_micros(), clock::wall_micros());
    let passed = if last.boot == boot { since_boot.saturating_sub(last.since_boot) } else { 0 };
    // Where no clock counts through sleep the wall clock has to do: to keep up the last time would stop it.
    let now = if since_boot == 0 { wall } else { wall.max(last.now.saturating_add(passed)) };
    Stamp { now, since_boot, boot }
}

/// Checks a folder that may have been there before.
pub fn check_folder(folder: &Path) -> Result<(), StoreError> {
    if let Some(what) = remote(folder)? {
        let message = format!(
            "{folder:?} is on {what}, on which locks and changes do not reach every process; use a folder on a local disk"
        );
        return Err(StoreError::new(StoreErrorKind::Other, message));
    }
    let found = fs::metadata(folder)?;
    check_user(found.uid(), folder)?;
    if found.mode() & 0o022 != 0 {
        let message = format!("{folder:?} may be written by other users; chmod 700 it, or name another folder");
        return Err(StoreError::new(StoreErrorKind::Denied, message));
    }
    Ok(())
}

/// Refuses what another user has put there.
pub fn check_file(file: &File, path: &Path) -> Result<fs::Metadata, StoreError> {
    let found = file.metadata()?;
    check_user(found.uid(), path)?;
    Ok(found)
}

fn check_user(user: u32, path: &Path) -> Result<(), StoreError> {
    let own = rustix::process::geteuid().as_raw();
    if user == own {
        return Ok(());
    }
    let message = format!("{path:?} belongs to user {user} and this process to {own}; use a folder for each user");
    Err(StoreError::new(StoreErrorKind::Denied, message))
}

/// Names the file system if it is none of this host's own disks, by the numbers of statfs(2).
#[cfg(target_os = "linux")]
fn remote(folder: &Path) -> io::Result<Option<&'static str>> {
    let kind = rustix::fs::statfs(folder)?.f_type as u64 & 0xffff_ffff;
    Ok(remote_kind(kind))
}

/// Names a file system whose locks or changes do not reach every process.
#[cfg(target_os = "linux")]
pub fn remote_kind(kind: u64) -> Option<&'static str> {
    Some(match kind {
        0x6969 => "NFS",
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => "SMB",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9P",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x00c3_6400 => "Ceph",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x786f_4256 => "a folder shared by VirtualBox",
        _ => return None,
    })
}

#[cfg(target_vendor = "apple")]
fn remote(folder: &Path) -> io::Result<Option<&'static str>> {
    const MNT_LOCAL: u32 = 0x1000; // sys/mount.h
    let is_local = rustix::fs::statfs(folder)?.f_flags & MNT_LOCAL != 0;
    Ok((!is_local).then_some("a remote file system"))
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn remote(_: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}
