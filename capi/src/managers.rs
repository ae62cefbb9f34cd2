//! The tokens of many keys: get, invalidate, keep fresh, a manager of one, free.

use crate::call::{call, call_or, required, text, write};
use crate::callee::{self, Gone, Source};
use crate::handle;
use crate::manager::{TkmFresh, TkmManager};
use crate::options::{Each, Keyed, TkmOptions};
use crate::outcome::{Code, TkmError};
use crate::token::{self, TkmToken};
use std::any::Any;
use std::ffi::{CString, c_char};
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use token_manager::{Attempt, Builder, Error, KeyedBuilder, Token, TokenManagers};

pub struct TkmManagers {
    pub managers: TokenManagers,
    gone: Gone,
}

/// What of the program's they may call.
struct Callees {
    source: Source,
    each: Option<Each>,
}

impl TkmManagers {
    fn new(options: TkmOptions) -> Result<TkmManagers, TkmError> {
        let TkmOptions { builder, source, each, keyed, gone, .. } = options;
        let no_source = "no source is set; call tkm_options_source or tkm_options_issuer";
        let source = source.ok_or_else(|| TkmError::new(Code::Config, no_source))?;
        let callees = Arc::new(Callees { source, each });
        let called: Arc<dyn Any + Send + Sync> = callees.clone();
        let gone = Gone::new(gone, Some(Arc::downgrade(&called)));
        let changing = callees.clone();
        let made = required(builder, "options")?.keyed(move |key, attempt| callees.source.ask(Some(key), attempt));
        let change = move |key: &str, builder| match &changing.each {
            Some(each) => changed(each, key, builder),
            None => builder,
        };
        Ok(TkmManagers { managers: keyed.set(made.each(change)).build()?, gone })
    }
}

/// Lets the program change the settings of this key.
fn changed(Each { change, data, alive }: &Each, key: &str, builder: Builder) -> Builder {
    // A key came from C, and has no NUL.
    let text = CString::new(key).unwrap_or_default();
    let (keyed, (_, gone)) = (Keyed::default(), channel());
    let own = TkmOptions { builder: Some(builder), source: None, each: None, keyed, alive: alive.clone(), gone };
    let options = handle::give(own);
    // SAFETY: the program gave both together; the header demands that it neither frees nor keeps the options.
    let changed = unsafe {
        change(data.pointer, text.as_ptr(), options);
        handle::take(options, "tkm_options_each")
    };
    let TkmOptions { builder, source, .. } = changed.expect("a handle that is not NULL");
    let builder = builder.expect("there is one but while a setting is changed");
    let key = key.to_owned();
    let ask = |source: Source| move |attempt: &Attempt| source.ask(Some(&key), attempt);
    source.map(ask).into_iter().fold(builder, Builder::source)
}

impl TkmManagers {
    /// Drops the managers and waits until nothing can call the program any more, unless it has managers of single keys; false if that took
    /// longer than this.
    fn end(self, within: Duration) -> bool {
        let TkmManagers { managers, gone } = self;
        gone.end(managers, within, TokenManagers::quiesce)
    }
}

impl Keyed {
    fn set(self, builder: KeyedBuilder) -> KeyedBuilder {
        let builder = self.max_keys.into_iter().fold(builder, KeyedBuilder::max_keys);
        let builder = self.forget_after.into_iter().fold(builder, KeyedBuilder::forget_after);
        let builder = self.workers.into_iter().fold(builder, KeyedBuilder::workers);
        self.workers_per_group.into_iter().fold(builder, KeyedBuilder::workers_per_group)
    }
}

/// # Safety
/// `options` is NULL or a handle that is not used again; `managers` and `error` are NULL or point to places for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_new(
    options: *mut TkmOptions,
    managers: *mut *mut TkmManagers,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(managers, ptr::null_mut());
        call(error, || {
            let options = required(handle::take(options, "tkm_managers_new"), "options")?;
            required((!managers.is_null()).then_some(()), "managers")?;
            write(managers, handle::give(TkmManagers::new(options)?));
            Ok(())
        })
    }
}

/// # Safety
/// `managers` is NULL or a handle that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_free(managers: *mut TkmManagers, wait_ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { callee::free(managers, "tkm_managers_free", wait_ms, TkmManagers::end) }
}

/// # Safety
/// `managers` is NULL or a handle of this library; `key` is NULL or a text; `token` and `error` are NULL or point to places for
/// pointers.
unsafe fn get(
    managers: *const TkmManagers,
    key: *const c_char,
    token: *mut *mut TkmToken,
    error: *mut *mut TkmError,
    ask: impl FnOnce(&TokenManagers, &str) -> Result<Token, Error>,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(token, ptr::null_mut());
        call(error, || {
            let managers = required(handle::borrow(managers, "tkm_managers_get"), "managers")?;
            required((!token.is_null()).then_some(()), "token")?;
            write(token, token::give(ask(&managers.managers, text(key, "key")?)?));
            Ok(())
        })
    }
}

/// # Safety
/// As for all functions of managers: handles of this library, texts, and places for the results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_get(
    managers: *const TkmManagers,
    key: *const c_char,
    token: *mut *mut TkmToken,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { get(managers, key, token, error, TokenManagers::get) }
}

/// # Safety
/// As for all functions of managers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_get_within(
    managers: *const TkmManagers,
    key: *const c_char,
    ms: u64,
    token: *mut *mut TkmToken,
    error: *mut *mut TkmError,
) -> i32 {
    let within = Duration::from_millis(ms);
    // SAFETY: by the caller's promise.
    unsafe { get(managers, key, token, error, |managers, key| managers.get_within(key, within)) }
}

/// # Safety
/// As for all functions of managers; `token` is NULL or a handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_invalidate(
    managers: *const TkmManagers,
    key: *const c_char,
    token: *const TkmToken,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        call(error, || {
            let managers = required(handle::borrow(managers, "tkm_managers_invalidate"), "managers")?;
            let key = text(key, "key")?;
            let invalidate = |token: &Token| managers.managers.invalidate(key, token);
            Ok(required(token::with(token, "tkm_managers_invalidate", invalidate), "token")??)
        })
    }
}

/// # Safety
/// As for all functions of managers; `keys` is NULL or points to `count` keys, each NULL or a text; `valid` is NULL or a place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_load(
    managers: *const TkmManagers,
    keys: *const *const c_char,
    count: usize,
    valid: *mut usize,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(valid, 0);
        call(error, || {
            let managers = required(handle::borrow(managers, "tkm_managers_load"), "managers")?;
            required((!keys.is_null()).then_some(()), "keys")?;
            let keys = slice::from_raw_parts(keys, count).iter().map(|key| text(*key, "keys"));
            write(valid, managers.managers.load(keys.collect::<Result<Vec<_>, _>>()?)?);
            Ok(())
        })
    }
}

/// # Safety
/// As for all functions of managers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_manager(
    managers: *const TkmManagers,
    key: *const c_char,
    manager: *mut *mut TkmManager,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(manager, ptr::null_mut());
        call(error, || {
            let managers = required(handle::borrow(managers, "tkm_managers_manager"), "managers")?;
            required((!manager.is_null()).then_some(()), "manager")?;
            let one = managers.managers.manager(text(key, "key")?)?;
            write(manager, handle::give(TkmManager::of(one, Some(managers.gone.clone()))));
            Ok(())
        })
    }
}

/// # Safety
/// As for all functions of managers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_forget(managers: *const TkmManagers, key: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    call_or(-1, || unsafe {
        let (managers, key) = (handle::borrow(managers, "tkm_managers_forget"), text(key, "key"));
        managers.zip(key.ok()).map_or(-1, |(managers, key)| i32::from(managers.managers.forget(key)))
    })
}

/// # Safety
/// As for all functions of managers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_len(managers: *const TkmManagers) -> usize {
    // SAFETY: by the caller's promise.
    let managers = || unsafe { handle::borrow(managers, "tkm_managers_len") };
    call_or(0, || managers().map_or(0, |managers| managers.managers.len()))
}

/// # Safety
/// As for all functions of managers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_managers_keep_fresh(
    managers: *const TkmManagers,
    fresh: *mut *mut TkmFresh,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(fresh, ptr::null_mut());
        call(error, || {
            let managers = required(handle::borrow(managers, "tkm_managers_keep_fresh"), "managers")?;
            required((!fresh.is_null()).then_some(()), "fresh")?;
            write(fresh, handle::give(TkmFresh(managers.managers.keep_fresh()?)));
            Ok(())
        })
    }
}
