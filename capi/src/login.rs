//! The credentials callback: as whom a connection to Redis logs in, for logins that expire.

use crate::call::{call, required, text};
use crate::handle;
use crate::outcome::TkmError;
use crate::source::DestroyFn;
use crate::store::{TkmRedisOptions, set_redis};
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;
use token_manager::Login;
use token_manager::store::{StoreError, StoreErrorKind};

pub type CredentialsFn = unsafe extern "C" fn(user_data: *mut c_void, login: *mut TkmLogin);

/// What the callback answers.
pub struct TkmLogin(Option<Result<Login, String>>);

/// The program's callback and its data, destroyed once, with the last store that could call it.
pub struct Credentials {
    ask: Option<CredentialsFn>,
    user_data: *mut c_void,
    destroy: Option<DestroyFn>,
}

// SAFETY: the header demands that the callback and its data may be used on any thread, by several at a time.
unsafe impl Send for Credentials {}
// SAFETY: as above.
unsafe impl Sync for Credentials {}

impl Drop for Credentials {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the program gave both together, and this is the one call.
            unsafe { destroy(self.user_data) };
        }
    }
}

impl Credentials {
    pub fn next(&self) -> Result<Login, StoreError> {
        let login = handle::give(TkmLogin(None));
        if let Some(ask) = self.ask {
            // SAFETY: the handle lives until the callback has returned.
            unsafe { ask(self.user_data, login) };
        }
        // SAFETY: it was made above, and the header forbids its use after the return.
        let answer = unsafe { handle::take(login, "the credentials callback") }.and_then(|login| login.0);
        let failed = |message: String| Err(StoreError::new(StoreErrorKind::Denied, message));
        match answer {
            Some(Ok(login)) => Ok(login),
            Some(Err(message)) => failed(message),
            None => failed("the credentials callback gave no login".into()),
        }
    }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; callback, data and `destroy` go together.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_credentials(
    options: *mut TkmRedisOptions,
    ask: Option<CredentialsFn>,
    user_data: *mut c_void,
    destroy: Option<DestroyFn>,
) -> i32 {
    let credentials = Credentials { ask, user_data, destroy };
    // SAFETY: by the caller's promise.
    unsafe {
        set_redis(options, |options| {
            required(credentials.ask.map(drop), "credentials")?;
            options.credentials = Some(Arc::new(credentials));
            Ok(())
        })
    }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses; `path` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_credentials_file(options: *mut TkmRedisOptions, path: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        set_redis(options, |options| {
            options.credentials_file = Some(text(path, "path")?.into());
            Ok(())
        })
    }
}

/// # Safety
/// `options` is NULL or a handle of this library that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_redis_options_max_age_ms(options: *mut TkmRedisOptions, ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        set_redis(options, |options| {
            options.max_connection_age = Some(Duration::from_millis(ms));
            Ok(())
        })
    }
}

/// # Safety
/// `login` is NULL or what the running callback was given.
unsafe fn answer(login: *mut TkmLogin, with: impl FnOnce() -> Result<Result<Login, String>, TkmError>) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe {
        call(ptr::null_mut(), || {
            required(handle::borrow_mut(login, "tkm_login"), "login")?.0 = Some(with()?);
            Ok(())
        })
    }
}

/// # Safety
/// `login` is what the running callback was given; `user` is NULL or a text, `password` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_login_set(login: *mut TkmLogin, user: *const c_char, password: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        answer(login, || {
            let password = text(password, "password")?;
            match user.is_null() {
                true => Ok(Ok(Login::with_password(password))),
                false => Ok(Ok(Login::new(text(user, "user")?, password))),
            }
        })
    }
}

/// # Safety
/// `login` is what the running callback was given; `message` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_login_unavailable(login: *mut TkmLogin, message: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { answer(login, || Ok(Err(text(message, "message")?.to_owned()))) }
}
