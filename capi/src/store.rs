//! Stores, and the numbers of one in Redis.

use crate::call::{call, call_or, required, text, write};
use crate::handle;
use crate::outcome::TkmError;
use std::ffi::c_char;
use std::ptr;
use std::time::Duration;
use token_manager::{FileStore, MemoryStore, RedisOptions, RedisStore};

/// A store that several managers may share.
pub enum TkmStore {
    Redis(RedisStore),
    Memory(MemoryStore),
    File(FileStore),
}

/// The numbers of a Redis store that were set.
#[derive(Default)]
pub struct TkmRedisOptions {
    connect_timeout: Option<Duration>,
    io_timeout: Option<Duration>,
    pool_timeout: Option<Duration>,
    pool_size: Option<u32>,
    threadless: bool,
}

#[unsafe(no_mangle)]
pub extern "C" fn tkm_redis_options_new() -> *mut TkmRedisOptions {
    call_or(ptr::null_mut(), || handle::give(TkmRedisOptions::default()))
}

/// # Safety
/// `options` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_free(options: *mut TkmRedisOptions) {
    // SAFETY: by the caller's promise.
    call_or((), || {
        unsafe { handle::take(options, "tkm_redis_options_free") };
    });
}

/// Changes one number.
///
/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
unsafe fn set_redis(options: *mut TkmRedisOptions, change: impl FnOnce(&mut TkmRedisOptions)) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            change(required(handle::borrow_mut(options, "tkm_redis_options"), "options")?);
            Ok(())
        })
    }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_connect_ms(options: *mut TkmRedisOptions, ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_redis(options, |options| options.connect_timeout = Some(Duration::from_millis(ms))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_io_ms(options: *mut TkmRedisOptions, ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_redis(options, |options| options.io_timeout = Some(Duration::from_millis(ms))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_pool_wait_ms(options: *mut TkmRedisOptions, ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_redis(options, |options| options.pool_timeout = Some(Duration::from_millis(ms))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_pool_size(options: *mut TkmRedisOptions, size: u32) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_redis(options, |options| options.pool_size = Some(size)) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_without_thread(options: *mut TkmRedisOptions) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_redis(options, |options| options.threadless = true) }
}

/// # Safety
/// `url` is a text; `options` is NULL or a handle of this library; `store` and `error` are NULL or point to places for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_store_redis(
    url: *const c_char,
    options: *const TkmRedisOptions,
    store: *mut *mut TkmStore,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(store, ptr::null_mut());
        call(error, || {
            required((!store.is_null()).then_some(()), "store")?;
            let mut redis = RedisStore::options(text(url, "url")?);
            if let Some(set) = handle::borrow(options, "tkm_store_redis") {
                redis = set.connect_timeout.into_iter().fold(redis, RedisOptions::connect_timeout);
                redis = set.io_timeout.into_iter().fold(redis, RedisOptions::io_timeout);
                redis = set.pool_timeout.into_iter().fold(redis, RedisOptions::pool_timeout);
                redis = set.pool_size.into_iter().fold(redis, RedisOptions::pool_size);
                redis = if set.threadless { redis.without_thread() } else { redis };
            }
            write(store, handle::give(TkmStore::Redis(redis.open()?)));
            Ok(())
        })
    }
}

/// # Safety
/// `folder` is a text; `store` and `error` are NULL or point to places for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_store_file(
    folder: *const c_char,
    store: *mut *mut TkmStore,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(store, ptr::null_mut());
        call(error, || {
            required((!store.is_null()).then_some(()), "store")?;
            write(store, handle::give(TkmStore::File(FileStore::open(text(folder, "folder")?)?)));
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn tkm_store_memory() -> *mut TkmStore {
    call_or(ptr::null_mut(), || handle::give(TkmStore::Memory(MemoryStore::new())))
}

/// # Safety
/// `store` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_store_free(store: *mut TkmStore) {
    // SAFETY: by the caller's promise.
    call_or((), || drop(unsafe { handle::take(store, "tkm_store_free") }));
}
