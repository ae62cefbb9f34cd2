//! The manager: get, invalidate, keep fresh, look, free.

use crate::call::{call, call_or, required, write};
use crate::callee::{self, Gone};
use crate::handle;
use crate::options::TkmOptions;
use crate::outcome::TkmError;
use crate::token::{self, TkmToken};
use std::ffi::{CString, c_char};
use std::ptr;
use std::time::Duration;
use token_manager::{Builder, Error, FreshGuard, Token, TokenManager};

pub struct TkmManager {
    pub manager: TokenManager,
    gone: Option<Gone>,
}

impl TkmManager {
    /// Takes a manager; without news of its source, that is the library's own.
    pub fn of(manager: TokenManager, gone: Option<Gone>) -> TkmManager {
        TkmManager { manager, gone }
    }

    /// Drops the manager and waits until nothing can call the program any more; false if that took longer than this.
    fn end(self, within: Duration) -> bool {
        let TkmManager { manager, gone } = self;
        match gone {
            Some(gone) => gone.end(manager, within, TokenManager::quiesce),
            None => manager.quiesce(within),
        }
    }
}

pub struct TkmFresh(#[allow(dead_code, reason = "held for its drop")] pub FreshGuard);

/// # Safety
/// `options` is NULL or a handle that is not used again; `manager` and `error` are NULL or point to places for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_new(
    options: *mut TkmOptions,
    manager: *mut *mut TkmManager,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(manager, ptr::null_mut());
        call(error, || {
            let options = required(handle::take(options, "tkm_manager_new"), "options")?;
            required((!manager.is_null()).then_some(()), "manager")?;
            let TkmOptions { builder, source, gone, .. } = options;
            let builder = required(builder, "options")?;
            let built = source.into_iter().fold(builder, Builder::source).build()?;
            write(manager, handle::give(TkmManager::of(built, Some(Gone::new(gone, None)))));
            Ok(())
        })
    }
}

/// # Safety
/// `manager` is NULL or a handle that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_free(manager: *mut TkmManager, wait_ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { callee::free(manager, "tkm_manager_free", wait_ms, TkmManager::end) }
}

/// # Safety
/// `manager` is NULL or a handle of this library; `token` and `error` are NULL or point to places for pointers.
unsafe fn get(
    manager: *const TkmManager,
    token: *mut *mut TkmToken,
    error: *mut *mut TkmError,
    ask: impl FnOnce(&TokenManager) -> Result<Token, Error>,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(token, ptr::null_mut());
        call(error, || {
            let manager = required(handle::borrow(manager, "tkm_manager_get"), "manager")?;
            required((!token.is_null()).then_some(()), "token")?;
            write(token, token::give(ask(&manager.manager)?));
            Ok(())
        })
    }
}

/// # Safety
/// As for all functions of a manager: handles of this library, and places for the results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_get(
    manager: *const TkmManager,
    token: *mut *mut TkmToken,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { get(manager, token, error, TokenManager::get) }
}

/// # Safety
/// As for all functions of a manager.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_get_within(
    manager: *const TkmManager,
    ms: u64,
    token: *mut *mut TkmToken,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { get(manager, token, error, |manager| manager.get_within(Duration::from_millis(ms))) }
}

/// # Safety
/// As for all functions of a manager.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_invalidate(manager: *const TkmManager, token: *const TkmToken) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            let manager = required(handle::borrow(manager, "tkm_manager_invalidate"), "manager")?;
            let invalidate = |token: &Token| manager.manager.invalidate(token);
            required(token::with(token, "tkm_manager_invalidate", invalidate), "token")
        })
    }
}

/// # Safety
/// As for all functions of a manager.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_keep_fresh(
    manager: *const TkmManager,
    fresh: *mut *mut TkmFresh,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(fresh, ptr::null_mut());
        call(error, || {
            let manager = required(handle::borrow(manager, "tkm_manager_keep_fresh"), "manager")?;
            required((!fresh.is_null()).then_some(()), "fresh")?;
            write(fresh, handle::give(TkmFresh(manager.manager.keep_fresh()?)));
            Ok(())
        })
    }
}

/// # Safety
/// `fresh` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_fresh_free(fresh: *mut TkmFresh) {
    // SAFETY: by the caller's promise.
    call_or((), || drop(unsafe { handle::take(fresh, "tkm_fresh_free") }));
}

/// # Safety
/// As for all functions of a manager.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_lift_pause(manager: *const TkmManager, error: *mut *mut TkmError) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        call(error, || {
            let manager = required(handle::borrow(manager, "tkm_manager_lift_pause"), "manager")?;
            Ok(manager.manager.lift_pause()?)
        })
    }
}

/// # Safety
/// As for all functions of a manager; `owner` has room for 37 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_owner(manager: *const TkmManager, owner: *mut c_char) -> i32 {
    // SAFETY: by the caller's promise; a UUID as text has 36 bytes, and one NUL follows.
    unsafe {
        call(ptr::null_mut(), || {
            let manager = required(handle::borrow(manager, "tkm_manager_owner"), "manager")?;
            required((!owner.is_null()).then_some(()), "owner")?;
            let text = CString::new(manager.manager.owner()).unwrap_or_default();
            ptr::copy_nonoverlapping(text.as_ptr(), owner, text.as_bytes_with_nul().len());
            Ok(())
        })
    }
}

/// # Safety
/// `issuer` is NULL or a handle of this library that no other thread uses; `parent` is NULL or a handle of this library.
#[cfg(feature = "issuers")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_issuer_parent(issuer: *mut crate::issuer::TkmIssuer, parent: *const TkmManager) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            let issuer = required(handle::borrow_mut(issuer, "tkm_issuer_parent"), "issuer")?;
            let parent = required(handle::borrow(parent, "tkm_issuer_parent"), "parent")?;
            issuer.settings.set_parent(parent.manager.clone());
            Ok(())
        })
    }
}
