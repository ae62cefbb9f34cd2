//! Stores, and the numbers of one in Redis.

use crate::call::{call, call_or, required, text, write};
use crate::handle;
use crate::login::Credentials;
use crate::outcome::TkmError;
use std::ffi::c_char;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;
use token_manager::{MemoryStore, RedisOptions, RedisStore, Store, Tls};

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
    pub max_connection_age: Option<Duration>,
    pub credentials: Option<Arc<Credentials>>,
    pub credentials_file: Option<PathBuf>,
    pub tls: Option<Tls>,
    replicas: Option<(u32, Duration)>,
    synced: Option<(u32, Duration)>,
}

impl TkmRedisOptions {
    /// Returns the options of this URL with what was set.
    fn of(&self, url: &str) -> RedisOptions {
        let mut redis = RedisStore::options(url);
        redis = self.connect_timeout.into_iter().fold(redis, RedisOptions::connect_timeout);
        redis = self.io_timeout.into_iter().fold(redis, RedisOptions::io_timeout);
        redis = self.pool_timeout.into_iter().fold(redis, RedisOptions::pool_timeout);
        redis = self.pool_size.into_iter().fold(redis, RedisOptions::pool_size);
        redis = self.max_connection_age.into_iter().fold(redis, RedisOptions::max_connection_age);
        redis = self.replicas.into_iter().fold(redis, |redis, (count, limit)| redis.wait_replicas(count, limit));
        redis = self.synced.into_iter().fold(redis, |redis, (count, limit)| redis.wait_aof(count, limit));
        redis = self.credentials_file.iter().fold(redis, RedisOptions::credentials_file);
        if let Some(credentials) = self.credentials.clone() {
            redis = redis.credentials(move || credentials.next());
        }
        redis = self.tls.iter().cloned().fold(redis, RedisOptions::tls);
        if self.threadless { redis.without_thread() } else { redis }
    }
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

/// Changes one option.
///
/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
pub unsafe fn set_redis(
    options: *mut TkmRedisOptions,
    change: impl FnOnce(&mut TkmRedisOptions) -> Result<(), TkmError>,
) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe { call(ptr::null_mut(), || change(required(handle::borrow_mut(options, "tkm_redis_options"), "options")?)) }
}

/// Changes one number.
///
/// # Safety
/// As for [`set_redis`].
unsafe fn set_number(options: *mut TkmRedisOptions, change: impl FnOnce(&mut TkmRedisOptions)) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        set_redis(options, |options| {
            change(options);
            Ok(())
        })
    }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_connect_ms(options: *mut TkmRedisOptions, ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_number(options, |options| options.connect_timeout = Some(Duration::from_millis(ms))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_io_ms(options: *mut TkmRedisOptions, ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_number(options, |options| options.io_timeout = Some(Duration::from_millis(ms))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_pool_wait_ms(options: *mut TkmRedisOptions, ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_number(options, |options| options.pool_timeout = Some(Duration::from_millis(ms))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_pool_size(options: *mut TkmRedisOptions, size: u32) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_number(options, |options| options.pool_size = Some(size)) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_without_thread(options: *mut TkmRedisOptions) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_number(options, |options| options.threadless = true) }
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
    unsafe { set_number(options, |options| options.replicas = Some((count, Duration::from_millis(limit_ms)))) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_wait_aof(options: *mut TkmRedisOptions, count: u32, limit_ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set_number(options, |options| options.synced = Some((count, Duration::from_millis(limit_ms)))) }
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
            let url = text(url, "url")?;
            let set = handle::borrow(options, "tkm_store_redis");
            let redis = set.map_or_else(|| RedisStore::options(url), |set| set.of(url));
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
            write(sealed, seal(inner, text(keys_file, "keys_file")?, accept_unsealed != 0)?);
            Ok(())
        })
    }
}

#[cfg(feature = "sealed")]
fn seal(inner: Arc<dyn Store>, keys_file: &str, accept_unsealed: bool) -> Result<*mut TkmStore, TkmError> {
    use token_manager::store::{Keyring, SealedStore};
    let sealed = SealedStore::new(inner, Keyring::file(keys_file));
    Ok(give(if accept_unsealed { sealed.accept_unsealed() } else { sealed }))
}

#[cfg(not(feature = "sealed"))]
fn seal(_: Arc<dyn Store>, _: &str, _: bool) -> Result<*mut TkmStore, TkmError> {
    Err(TkmError::new(crate::outcome::Code::Config, "this library was built without its feature `sealed`"))
}

/// # Safety
/// `store` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_store_free(store: *mut TkmStore) {
    // SAFETY: by the caller's promise.
    call_or((), || drop(unsafe { handle::take(store, "tkm_store_free") }));
}
