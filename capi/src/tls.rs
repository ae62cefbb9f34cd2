//! What `rediss://` needs beyond the URL.

use crate::call::{text, text_of};
use crate::outcome::TkmError;
use crate::store::{TkmRedisOptions, set_redis};
use std::ffi::c_char;
use token_manager::Tls;

/// Changes what is set for TLS.
///
/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
unsafe fn set(options: *mut TkmRedisOptions, change: impl FnOnce(Tls) -> Result<Tls, TkmError>) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        set_redis(options, |options| {
            options.tls = Some(change(options.tls.clone().unwrap_or_default())?);
            Ok(())
        })
    }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; `path` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_ca_file(options: *mut TkmRedisOptions, path: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set(options, |tls| Ok(tls.ca_file(text(path, "path")?))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; `pem` points to so many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_ca_pem(
    options: *mut TkmRedisOptions,
    pem: *const c_char,
    length: usize,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set(options, |tls| Ok(tls.ca_pem(text_of(pem, length, "pem")?))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; the others are texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_identity_files(
    options: *mut TkmRedisOptions,
    certificates: *const c_char,
    key: *const c_char,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set(options, |tls| Ok(tls.identity_files(text(certificates, "certificates")?, text(key, "key")?))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; `name` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_server_name(options: *mut TkmRedisOptions, name: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set(options, |tls| Ok(tls.server_name(text(name, "name")?))) }
}
