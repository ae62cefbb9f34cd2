//! What can be seen of a manager: what it has counted, and what the store knows.

use crate::call::{call, required, write};
use crate::handle;
use crate::manager::TkmManager;
use crate::managers::TkmManagers;
use crate::outcome::TkmError;
use std::ffi::c_char;
use std::time::Duration;
use std::{mem, ptr};
use token_manager::store::Inspection;
use token_manager::{Counted, Stats, openmetrics};

/// Writes as much of a result as the program has room for, which was compiled for an older or a newer version: what the
/// library does not know is zero.
///
/// # Safety
/// `place` points to `size` bytes.
unsafe fn write_sized<T>(place: *mut T, size: usize, result: &T) {
    let known = size.min(size_of::<T>());
    // SAFETY: by the caller's promise; all fields are plain numbers, and the structures have no padding.
    unsafe {
        ptr::copy_nonoverlapping((&raw const *result).cast::<u8>(), place.cast::<u8>(), known);
        ptr::write_bytes(place.cast::<u8>().add(known), 0, size - known);
    }
}

#[repr(C)]
pub struct TkmStats {
    flights: u64,
    fetches: u64,
    failures: u64,
    adopted: u64,
    waits: u64,
    timeouts: u64,
    abandoned: u64,
    takeovers: u64,
    doubts: u64,
    limited: u64,
    invalidated: u64,
    store_errors: u64,
    /// -1 if there is no token.
    expires_in_ms: i64,
}

/// # Safety
/// As for all functions of a manager; `stats` is NULL or points to `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_stats(manager: *const TkmManager, stats: *mut TkmStats, size: usize) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            let manager = required(handle::borrow(manager, "tkm_manager_stats"), "manager")?;
            required((!stats.is_null()).then_some(()), "stats")?;
            write_sized(stats, size, &manager.manager.stats().into());
            Ok(())
        })
    }
}

impl From<Stats> for TkmStats {
    fn from(seen: Stats) -> TkmStats {
        let Stats { flights, fetches, failures, adopted, waits, timeouts, abandoned, .. } = seen;
        let Stats { takeovers, doubts, limited, invalidated, .. } = seen;
        let store_errors = seen.store_errors.iter().map(|(_, count)| count).sum();
        let expires_in_ms = seen.expires_in.map_or(-1, |left| i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
        TkmStats {
            flights,
            fetches,
            failures,
            adopted,
            waits,
            timeouts,
            abandoned,
            takeovers,
            doubts,
            limited,
            invalidated,
            store_errors,
            expires_in_ms,
        }
    }
}

/// # Safety
/// As for [`tkm_manager_stats`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_stats(managers: *const TkmManagers, stats: *mut TkmStats, size: usize) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            let managers = required(handle::borrow(managers, "tkm_managers_stats"), "managers")?;
            required((!stats.is_null()).then_some(()), "stats")?;
            write_sized(stats, size, &managers.managers.stats().into());
            Ok(())
        })
    }
}

/// Writes what one of them has counted as text.
///
/// # Safety
/// `text` is NULL or points to `size` bytes, `needed` is NULL or points to a `size_t`.
unsafe fn write_metrics(counted: &impl Counted, text: *mut c_char, size: usize, needed: *mut usize) {
    let metrics = openmetrics([counted]);
    // SAFETY: by the caller's promise; as much is written as there is room for.
    unsafe {
        write(needed, metrics.len() + 1);
        if !text.is_null() && size > 0 {
            let shown = if metrics.len() < size { metrics.as_bytes() } else { &[] };
            ptr::copy_nonoverlapping(shown.as_ptr(), text.cast(), shown.len());
            text.add(shown.len()).write(0);
        }
    }
}

/// # Safety
/// As for [`tkm_manager_openmetrics`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_openmetrics(
    managers: *const TkmManagers,
    text: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            let managers = required(handle::borrow(managers, "tkm_managers_openmetrics"), "managers")?;
            write_metrics(&managers.managers, text, size, needed);
            Ok(())
        })
    }
}

/// # Safety
/// As for all functions of a manager; `text` is NULL or points to `size` bytes, `needed` is NULL or points to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_openmetrics(
    manager: *const TkmManager,
    text: *mut c_char,
    size: usize,
    needed: *mut usize,
) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            let manager = required(handle::borrow(manager, "tkm_manager_openmetrics"), "manager")?;
            write_metrics(&manager.manager, text, size, needed);
            Ok(())
        })
    }
}

#[repr(C)]
pub struct TkmInspection {
    generation: u64,
    left_ms: u64,
    granted: u64,
    invalidated_generation: u64,
    doubted_generation: u64,
    fails: u64,
    pause_ms: u64,
    lease_left_ms: u64,
    budget_spent_ms: u64,
    carries: u32,
    updater: [u8; 84],
}

// The tests compile the same numbers against the header.
const _: () = assert!(
    size_of::<TkmStats>() == 104 && mem::offset_of!(TkmStats, expires_in_ms) == 96 && size_of::<TkmInspection>() == 160
);
const _: () = assert!(mem::offset_of!(TkmInspection, carries) == 72 && mem::offset_of!(TkmInspection, updater) == 76);

impl From<Inspection> for TkmInspection {
    fn from(seen: Inspection) -> TkmInspection {
        let millis = |span: Duration| span.as_millis() as u64;
        let (generation, left) = seen.token.unwrap_or_default();
        let (lease, lease_left) = seen.updater.unwrap_or_default();
        let mut updater = [0; 84];
        let shown = lease.len().min(updater.len() - 1);
        updater[..shown].copy_from_slice(&lease.as_bytes()[..shown]);
        TkmInspection {
            generation,
            left_ms: millis(left),
            granted: seen.granted,
            invalidated_generation: seen.invalidated,
            doubted_generation: seen.doubted,
            fails: seen.fails,
            pause_ms: seen.pause.map_or(0, |cooling| millis(cooling.retry_after)),
            lease_left_ms: millis(lease_left),
            budget_spent_ms: millis(seen.budget_spent),
            carries: u32::from(seen.carries),
            updater,
        }
    }
}

/// # Safety
/// As for all functions of a manager; `inspection` is NULL or points to `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_inspect(
    manager: *const TkmManager,
    inspection: *mut TkmInspection,
    size: usize,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        call(error, || {
            let manager = required(handle::borrow(manager, "tkm_manager_inspect"), "manager")?;
            required((!inspection.is_null()).then_some(()), "inspection")?;
            write_sized(inspection, size, &manager.manager.inspect()?.into());
            Ok(())
        })
    }
}
