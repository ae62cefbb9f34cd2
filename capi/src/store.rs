//! Stores, and the numbers of one in Redis.

use crate::call::{call, call_or, required, text, write};
use crate::handle;
use crate::outcome::TkmError;
use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;
use token_manager::store::{Keyring, SealedStore};
use token_manager::{MemoryStore, RedisOptions, RedisStore, Store};

/// A store that several managers may share.
pub struct TkmStore(pub Arc<dyn Store>);

fn give(store: impl Store) -> *mut TkmStore {
    handle::give(TkmStore(Arc::new(store)))
}

/// The numbers of a Redis store that were set.
#[derive(Default)]
pub struct TkmRedisOptions {
    connect_timeout: Option<Duration>,
    io_timeout: Option<Duration>,
    pool_timeout: Option<Duration>,
    pool_size: Option<u32>,
    threadless: bool,
    replicas: Option<(u32, Duration)>,
    synced: Option<(u32, Duration)>,
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
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_wait_replicas(
    options: *mut TkmRedisOptions,
    count: u32,
    limit_ms: u64,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_redis(options, |options| options.replicas = Some((count, Duration::from_millis(limit_ms)))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_wait_aof(options: *mut TkmRedisOptions, count: u32, limit_ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_redis(options, |options| options.synced = Some((count, Duration::from_millis(limit_ms)))) }
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
                redis = set.replicas.into_iter().fold(redis, |redis, (count, limit)| redis.wait_replicas(count, limit));
                redis = set.synced.into_iter().fold(redis, |redis, (count, limit)| redis.wait_aof(count, limit));
                redis = if set.threadless { redis.without_thread() } else { redis };
            }
            write(store, give(redis.open()?));
            Ok(())
        })
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn tkm_store_memory() -> *mut TkmStore {
    call_or(ptr::null_mut(), || give(MemoryStore::new()))
}

/// # Safety
/// `store` is a handle of this library, `keys_file` a text; `sealed` and `error` are NULL or point to places for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_store_sealed(
    store: *const TkmStore,
    keys_file: *const c_char,
    accept_unsealed: i32,
    sealed: *mut *mut TkmStore,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(sealed, ptr::null_mut());
        call(error, || {
            required((!sealed.is_null()).then_some(()), "sealed")?;
            let inner = required(handle::borrow(store, "tkm_store_sealed"), "store")?.0.clone();
            let seals = SealedStore::new(inner, Keyring::file(text(keys_file, "keys_file")?));
            write(sealed, give(if accept_unsealed == 0 { seals } else { seals.accept_unsealed() }));
            Ok(())
        })
    }
}

/// # Safety
/// `store` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_store_free(store: *mut TkmStore) {
    // SAFETY: by the caller's promise.
    call_or((), || drop(unsafe { handle::take(store, "tkm_store_free") }));
}
