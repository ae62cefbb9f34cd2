//! Stores, and the settings of a manager before it is made.

use crate::call::{call, call_or, required, text};
use crate::callee::{Origin, Source};
use crate::handle;
use crate::outcome::Code;
#[cfg(feature = "issuers")]
use crate::outcome::TkmError;
use crate::source::{Callback, DestroyFn, FetchFn, UserData};
use crate::store::TkmStore;
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use token_manager::{Budget, Builder, Execution, Portion, TokenManager};

/// The settings so far.
pub struct TkmOptions {
    /// Always there but while a setting is changed.
    pub builder: Option<Builder>,
    pub source: Option<Source>,
    pub each: Option<Each>,
    pub keyed: Keyed,
    /// Disconnects `gone` when every source has been destroyed, and this.
    pub alive: Sender<()>,
    pub gone: Receiver<()>,
}

pub type EachFn = unsafe extern "C" fn(user_data: *mut c_void, key: *const c_char, options: *mut TkmOptions);

/// The callback that changes the settings of some keys.
pub struct Each {
    pub change: EachFn,
    pub data: UserData,
    /// Disconnects after the data is destroyed: fields are dropped in this order.
    pub alive: Sender<()>,
}

/// The settings of many tokens that were set.
#[derive(Default)]
pub struct Keyed {
    pub max_keys: Option<usize>,
    pub forget_after: Option<Duration>,
    pub workers: Option<usize>,
    pub workers_per_group: Option<usize>,
}

/// # Safety
/// `name` is NULL or a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_new(name: *const c_char) -> *mut TkmOptions {
    // SAFETY: by the caller's promise.
    let name = || unsafe { text(name, "name") };
    call_or(ptr::null_mut(), || match name() {
        Ok(name) => {
            let (builder, (alive, gone)) = (Some(TokenManager::builder(name)), channel());
            handle::give(TkmOptions { builder, source: None, each: None, keyed: Keyed::default(), alive, gone })
        }
        Err(_) => ptr::null_mut(),
    })
}

/// # Safety
/// `options` is NULL or a handle of this library that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_free(options: *mut TkmOptions) {
    // SAFETY: by the caller's promise.
    call_or((), || drop(unsafe { handle::take(options, "tkm_options_free") }));
}

/// Changes one setting.
///
/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
unsafe fn set(options: *mut TkmOptions, change: impl FnOnce(Builder) -> Builder) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { change_with(options, |options| options.builder = options.builder.take().map(change)) }
}

/// As [`set`], for what is no builder's.
///
/// # Safety
/// As for [`set`].
unsafe fn change_with(options: *mut TkmOptions, change: impl FnOnce(&mut TkmOptions)) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            change(required(handle::borrow_mut(options, "tkm_options"), "options")?);
            Ok(())
        })
    }
}

/// # Safety
/// `options` and `store` are handles of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_store(options: *mut TkmOptions, store: *const TkmStore) -> i32 {
    // SAFETY: by the caller's promise.
    let Some(store) = (unsafe { handle::borrow(store, "tkm_options_store") }) else { return Code::Null as i32 };
    // SAFETY: by the caller's promise.
    unsafe { set(options, |builder| builder.store(store.0.clone())) }
}

/// # Safety
/// `options` and `store` are handles of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_when_away(
    options: *mut TkmOptions,
    store: *const TkmStore,
    per_minute: u32,
    burst: u32,
) -> i32 {
    // SAFETY: by the caller's promise.
    let Some(store) = (unsafe { handle::borrow(store, "tkm_options_when_away") }) else { return Code::Null as i32 };
    let budget = Budget::per_minute(per_minute).burst(burst);
    // SAFETY: by the caller's promise.
    unsafe { set(options, |builder| builder.when_away(store.0.clone(), budget)) }
}

/// Defines a setter that takes a text.
macro_rules! text_setter {
    ($function:ident, $setter:ident) => {
        /// # Safety
        /// `options` is a handle of this library that no other thread uses; `value` is a text.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function(options: *mut TkmOptions, value: *const c_char) -> i32 {
            // SAFETY: by the caller's promise.
            match unsafe { text(value, "value") } {
                // SAFETY: by the caller's promise.
                Ok(value) => unsafe { set(options, |builder| builder.$setter(value)) },
                Err(error) => error.code(),
            }
        }
    };
}
text_setter!(tkm_options_namespace, namespace);
text_setter!(tkm_options_group, group);
text_setter!(tkm_options_grant, grant);
text_setter!(tkm_options_egress, egress);
text_setter!(tkm_options_journal, journal);

/// Defines a setter that takes milliseconds.
macro_rules! millis_setter {
    ($function:ident, $setter:ident) => {
        /// # Safety
        /// `options` is a handle of this library that no other thread uses.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function(options: *mut TkmOptions, ms: u64) -> i32 {
            // SAFETY: by the caller's promise.
            unsafe { set(options, |builder| builder.$setter(Duration::from_millis(ms))) }
        }
    };
}
millis_setter!(tkm_options_fetch_limit_ms, fetch_limit);
millis_setter!(tkm_options_lease_ms, lease);
millis_setter!(tkm_options_deadline_ms, deadline);
millis_setter!(tkm_options_refresh_before_ms, refresh_before);
millis_setter!(tkm_options_margin_ms, margin);
millis_setter!(tkm_options_serve_stale_ms, serve_stale);

/// Defines a setter that takes a share of the token's life.
macro_rules! share_setter {
    ($function:ident, $setter:ident) => {
        /// # Safety
        /// `options` is a handle of this library that no other thread uses.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function(options: *mut TkmOptions, share: f64) -> i32 {
            // SAFETY: by the caller's promise.
            unsafe { set(options, |builder| builder.$setter(Portion::Share(share))) }
        }
    };
}
share_setter!(tkm_options_refresh_before_share, refresh_before);
share_setter!(tkm_options_margin_share, margin);

/// # Safety
/// `options` is a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_budget(options: *mut TkmOptions, per_minute: u32, burst: u32) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { set(options, |builder| builder.budget(Budget::per_minute(per_minute).burst(burst))) }
}

/// # Safety
/// `options` is a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_execution(options: *mut TkmOptions, execution: i32) -> i32 {
    let execution = match execution {
        0 => Execution::Background,
        1 => Execution::Inline,
        _ => return Code::Config as i32,
    };
    // SAFETY: by the caller's promise.
    unsafe { set(options, |builder| builder.execution(execution)) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; the functions may be called with
/// `user_data` on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_source(
    options: *mut TkmOptions,
    fetch: Option<FetchFn>,
    user_data: *mut c_void,
    destroy: Option<DestroyFn>,
) -> i32 {
    // Made first, so that the data is destroyed whatever follows.
    let Some(callback) = Callback::new(fetch, user_data, destroy) else { return Code::Null as i32 };
    let set = |options: &mut TkmOptions| {
        options.source = Some(Source::new(Origin::Callback(callback), Some(options.alive.clone())));
    };
    // SAFETY: by the caller's promise.
    unsafe { change_with(options, set) }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; `issuer` is NULL or a handle of this library that is
/// not used again; `error` is NULL or points to a place for a pointer.
#[cfg(feature = "issuers")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_issuer(
    options: *mut TkmOptions,
    issuer: *mut crate::issuer::TkmIssuer,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        call(error, || {
            // Taken whatever follows.
            let issuer = required(handle::take(issuer, "tkm_options_issuer"), "issuer")?;
            let options = required(handle::borrow_mut(options, "tkm_options_issuer"), "options")?;
            let alive = issuer.has_login.then(|| options.alive.clone());
            options.source = Some(Source::new(Origin::Issuer(issuer.settings.build()?), alive));
            Ok(())
        })
    }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; `each` and `destroy` may be called with `user_data` on any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_options_each(
    options: *mut TkmOptions,
    each: Option<EachFn>,
    user_data: *mut c_void,
    destroy: Option<DestroyFn>,
) -> i32 {
    // Made first, so that the data is destroyed whatever follows.
    let data = UserData::new(user_data, destroy);
    let Some(change) = each else { return Code::Null as i32 };
    let set = |options: &mut TkmOptions| options.each = Some(Each { change, data, alive: options.alive.clone() });
    // SAFETY: by the caller's promise.
    unsafe { change_with(options, set) }
}

/// Defines a setter of many tokens.
macro_rules! keyed_setter {
    ($function:ident, $field:ident, $value:ident: $type:ty, $kept:expr) => {
        /// # Safety
        /// `options` is NULL or a handle of this library that no other thread uses.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function(options: *mut TkmOptions, $value: $type) -> i32 {
            // SAFETY: by the caller's promise.
            unsafe { change_with(options, |options| options.keyed.$field = Some($kept)) }
        }
    };
}
keyed_setter!(tkm_options_max_keys, max_keys, count: usize, count);
keyed_setter!(tkm_options_forget_after_ms, forget_after, ms: u64, Duration::from_millis(ms));
keyed_setter!(tkm_options_workers, workers, threads: u32, threads as usize);
keyed_setter!(tkm_options_workers_per_group, workers_per_group, threads: u32, threads as usize);
