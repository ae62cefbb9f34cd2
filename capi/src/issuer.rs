//! Sources that the library brings, by the names of their kinds and settings as text.

use crate::call::{call, call_or, required, text, write};
use crate::handle;
use crate::outcome::{Code, TkmError};
use crate::source::{Callback, DestroyFn, FetchFn};
use std::error::Error as _;
use std::ffi::{c_char, c_void};
use std::ptr;
use token_manager_issuers::BuildError;
use token_manager_issuers::by_name::ByName;

/// The settings so far.
pub struct TkmIssuer {
    pub settings: ByName,
    /// Whether it calls the program.
    pub has_login: bool,
}

impl From<BuildError> for TkmError {
    fn from(error: BuildError) -> TkmError {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        TkmError::new(Code::Config, format!("{error}{cause}"))
    }
}

/// # Safety
/// `kind` is NULL or a text; `issuer` and `error` are NULL or point to places for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_issuer_new(
    kind: *const c_char,
    issuer: *mut *mut TkmIssuer,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(issuer, ptr::null_mut());
        call(error, || {
            required((!issuer.is_null()).then_some(()), "issuer")?;
            let settings = ByName::new(text(kind, "kind")?)?;
            write(issuer, handle::give(TkmIssuer { settings, has_login: false }));
            Ok(())
        })
    }
}

/// # Safety
/// `issuer` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_issuer_free(issuer: *mut TkmIssuer) {
    // SAFETY: by the caller's promise.
    call_or((), || drop(unsafe { handle::take(issuer, "tkm_issuer_free") }));
}

/// # Safety
/// `issuer` is NULL or a handle of this library that no other thread uses; `setting` and `value` are NULL or texts; `error` is NULL
/// or points to a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_issuer_set(
    issuer: *mut TkmIssuer,
    setting: *const c_char,
    value: *const c_char,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        call(error, || {
            let issuer = required(handle::borrow_mut(issuer, "tkm_issuer_set"), "issuer")?;
            Ok(issuer.settings.set(text(setting, "setting")?, text(value, "value")?)?)
        })
    }
}

/// # Safety
/// `issuer` is NULL or a handle of this library that no other thread uses; the functions may be called with `user_data` on
/// any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_issuer_login(
    issuer: *mut TkmIssuer,
    login: Option<FetchFn>,
    user_data: *mut c_void,
    destroy: Option<DestroyFn>,
) -> i32 {
    // Made first, so that the data is destroyed whatever follows.
    let callback = Callback::new(login, user_data, destroy);
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            let callback = required(callback, "login")?;
            let issuer = required(handle::borrow_mut(issuer, "tkm_issuer_login"), "issuer")?;
            issuer.settings.set_login(callback);
            issuer.has_login = true;
            Ok(())
        })
    }
}
