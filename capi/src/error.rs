//! Errors as values that C owns.

use crate::call::call_or;
use crate::handle;
use crate::outcome::{Code, TkmError};
use std::ffi::c_char;

/// # Safety
/// `error` is NULL or a handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_error_code(error: *const TkmError) -> i32 {
    // SAFETY: by the caller's promise.
    call_or(Code::Panic as i32, || {
        unsafe { handle::borrow(error, "tkm_error_code") }.map_or(Code::Ok as i32, TkmError::code)
    })
}

/// # Safety
/// `error` is NULL or a handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_error_message(error: *const TkmError) -> *const c_char {
    // SAFETY: by the caller's promise.
    call_or(c"".as_ptr(), || {
        unsafe { handle::borrow(error, "tkm_error_message") }.map_or(c"".as_ptr(), |error| error.message().as_ptr())
    })
}

/// # Safety
/// `error` is NULL or a handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_error_retry_after_ms(error: *const TkmError) -> i64 {
    // SAFETY: by the caller's promise.
    let error = || unsafe { handle::borrow(error, "tkm_error_retry_after_ms") };
    call_or(-1, || error().and_then(TkmError::retry_after).map_or(-1, |pause| pause.as_millis() as i64))
}

/// # Safety
/// `error` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_error_free(error: *mut TkmError) {
    // SAFETY: by the caller's promise.
    call_or((), || drop(unsafe { handle::take(error, "tkm_error_free") }));
}
