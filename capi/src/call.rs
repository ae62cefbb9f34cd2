//! What every entry point does: nothing unwinds into C, texts are checked, and an outcome becomes a code and an error.

use crate::handle;
use crate::outcome::{Code, TkmError};
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs an entry point and turns what it returns into a code; the error goes to `error` unless that is NULL.
///
/// # Safety
/// `error` is NULL or points to a place for a pointer.
pub unsafe fn call(error: *mut *mut TkmError, body: impl FnOnce() -> Result<(), TkmError>) -> i32 {
    // Boxed where it arises, so that a success is one word to hand on: a hit passes here.
    let body = || body().map_err(Box::new);
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| Err(TkmError::panicked().into()));
    let code = outcome.as_ref().map_or_else(|error| error.code(), |()| Code::Ok as i32);
    if !error.is_null() {
        let told = outcome.err().map_or(std::ptr::null_mut(), handle::give);
        // SAFETY: by the caller's promise it points to a place for a pointer.
        unsafe { error.write(told) };
    }
    code
}

/// Runs an entry point that cannot fail but for a bug; returns `otherwise` then.
pub fn call_or<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Returns the argument, or the error that names the one that is NULL.
pub fn required<T>(argument: Option<T>, name: &str) -> Result<T, TkmError> {
    argument.ok_or_else(|| TkmError::null(name))
}

/// Writes a result to where C wants it.
///
/// # Safety
/// `out` is NULL or points to a place for a `T`.
pub unsafe fn write<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: by the caller's promise.
        unsafe { out.write(value) };
    }
}

/// Reads a text that ends with a NUL.
///
/// # Safety
/// `text` is NULL or points to a text that ends with a NUL and lives during the call.
pub unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, TkmError> {
    if text.is_null() {
        return Err(TkmError::null(name));
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| TkmError::not_utf8(name))
}

/// Reads a text of this length.
///
/// # Safety
/// `text` is NULL or points to so many bytes that live during the call.
pub unsafe fn text_of<'a>(text: *const c_char, length: usize, name: &str) -> Result<&'a str, TkmError> {
    if text.is_null() {
        return Err(TkmError::null(name));
    }
    // SAFETY: by the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    std::str::from_utf8(bytes).map_err(|_| TkmError::not_utf8(name))
}
