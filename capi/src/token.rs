//! Tokens that C holds. A handle is the token's own pointer: nothing is allocated for it.

use crate::call::{call_or, write};
use crate::handle;
use std::ffi::c_char;
use std::mem;
use std::ptr;
use token_manager::Token;

/// What C sees of a token.
pub struct TkmToken {
    _private: [u8; 0],
}

const _: () = assert!(mem::size_of::<Token>() == mem::size_of::<*mut TkmToken>());

/// Gives a token to C.
pub fn give(token: Token) -> *mut TkmToken {
    // SAFETY: `Token` is a transparent wrapper of one counted pointer, of the same size; `take` turns it back.
    let token: *mut TkmToken = unsafe { mem::transmute::<Token, *mut TkmToken>(token) };
    handle::note(token.cast_const().cast());
    token
}

/// Borrows a token that C holds; `None` for NULL.
///
/// # Safety
/// The handle is NULL or was made by [`give`] and is not freed during the call.
pub unsafe fn with<T>(token: *const TkmToken, function: &str, body: impl FnOnce(&Token) -> T) -> Option<T> {
    if token.is_null() {
        return None;
    }
    handle::check(token.cast(), function);
    // SAFETY: by the caller's promise; `ManuallyDrop` leaves the count to the handle.
    let token = unsafe { mem::transmute::<*const TkmToken, mem::ManuallyDrop<Token>>(token) };
    Some(body(&token))
}

/// # Safety
/// `token` is NULL or a handle of this library; `length` is NULL or points to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_token_secret(token: *const TkmToken, length: *mut usize) -> *const c_char {
    // SAFETY: by the caller's promise; the text lives as long as the handle.
    call_or(ptr::null(), || unsafe {
        let secret = with(token, "tkm_token_secret", |token| (token.secret().as_ptr().cast(), token.secret().len()));
        let (secret, count) = secret.unwrap_or((ptr::null(), 0));
        write(length, count);
        secret
    })
}

/// # Safety
/// `token` is NULL or a handle of this library; `buffer` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_token_copy_secret(token: *const TkmToken, buffer: *mut c_char, size: usize) -> usize {
    // SAFETY: by the caller's promise.
    call_or(0, || unsafe {
        with(token, "tkm_token_copy_secret", |token| {
            let secret = token.secret().as_bytes();
            if !buffer.is_null() && size > secret.len() {
                ptr::copy_nonoverlapping(secret.as_ptr().cast(), buffer, secret.len());
                buffer.add(secret.len()).write(0);
            } else if !buffer.is_null() && size > 0 {
                buffer.write(0);
            }
            secret.len()
        })
        .unwrap_or(0)
    })
}

/// # Safety
/// `token` is NULL or a handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_token_generation(token: *const TkmToken) -> u64 {
    // SAFETY: by the caller's promise.
    call_or(0, || unsafe { with(token, "tkm_token_generation", Token::generation) }.unwrap_or(0))
}

/// # Safety
/// `token` is NULL or a handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_token_expires_in_ms(token: *const TkmToken) -> u64 {
    // SAFETY: by the caller's promise.
    let left = || unsafe { with(token, "tkm_token_expires_in_ms", Token::expires_in) };
    call_or(0, || left().map_or(0, |left| left.as_millis() as u64))
}

/// # Safety
/// `token` is NULL or a handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_token_is_stale(token: *const TkmToken) -> i32 {
    // SAFETY: by the caller's promise.
    let is_stale = || unsafe { with(token, "tkm_token_is_stale", Token::is_stale) };
    call_or(-1, || is_stale().map_or(-1, i32::from))
}

/// # Safety
/// `token` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_token_free(token: *mut TkmToken) {
    if token.is_null() {
        return;
    }
    handle::forget(token.cast_const().cast(), "tkm_token_free");
    // SAFETY: by the caller's promise it was made by `give` and is not used again.
    call_or((), || drop(unsafe { mem::transmute::<*mut TkmToken, Token>(token) }));
}
