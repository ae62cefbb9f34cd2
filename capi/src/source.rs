//! The fetch callback: what it is told, and the setters by which it answers.

use crate::call::{call, call_or, required, text, text_of, write};
use crate::handle;
use crate::outcome::TkmError;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::time::Duration;
use token_manager::{Attempt, FetchError, Fetched, TokenSource};

pub type FetchFn = unsafe extern "C" fn(user_data: *mut c_void, attempt: *const TkmAttempt, reply: *mut TkmReply);
pub type DestroyFn = unsafe extern "C" fn(user_data: *mut c_void);

/// The data of a callback, destroyed once, with the last manager or thread that could call it.
pub struct UserData {
    pub pointer: *mut c_void,
    destroy: Option<DestroyFn>,
}

// SAFETY: the header demands that callbacks and their data may be used on any thread; it says which ones several at a time.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    pub fn new(pointer: *mut c_void, destroy: Option<DestroyFn>) -> UserData {
        UserData { pointer, destroy }
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the program gave both together, and this is the one call.
            unsafe { destroy(self.pointer) };
        }
    }
}

/// The program's callback.
pub struct Callback {
    fetch: FetchFn,
    data: UserData,
}

impl Callback {
    /// Takes the program's data; without a function it is destroyed at once.
    pub fn new(fetch: Option<FetchFn>, user_data: *mut c_void, destroy: Option<DestroyFn>) -> Option<Callback> {
        let data = UserData::new(user_data, destroy);
        Some(Callback { fetch: fetch?, data })
    }
}

pub struct TkmAttempt {
    key: Option<CString>,
    generation: u64,
    deadline: std::time::Instant,
    owner: CString,
    carry: Option<String>,
    presented: Option<Duration>,
}

pub struct TkmReply(Option<Result<Fetched, FetchError>>);

impl Callback {
    /// Asks for a token, of this key if there are many.
    pub fn ask(&self, key: Option<&str>, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let told = TkmAttempt {
            key: key.map(|key| CString::new(key).unwrap_or_default()),
            generation: attempt.generation(),
            deadline: std::time::Instant::now() + attempt.remaining(),
            owner: CString::new(attempt.owner()).unwrap_or_default(),
            carry: attempt.carry().map(str::to_owned),
            presented: attempt.presented(),
        };
        let (told, reply) = (handle::give(told), handle::give(TkmReply(None)));
        // SAFETY: both handles live until the callback has returned.
        unsafe { (self.fetch)(self.data.pointer, told, reply) };
        // SAFETY: they were made above, and the header forbids their use after the return.
        let (_, reply) =
            unsafe { (handle::take(told, "the fetch callback"), handle::take(reply, "the fetch callback")) };
        let nothing = || Err(FetchError::unknown_outcome("the fetch callback set no reply"));
        reply.and_then(|reply| reply.0).unwrap_or_else(nothing)
    }
}

impl TokenSource for Callback {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        self.ask(None, attempt)
    }
}

/// # Safety
/// `attempt` is NULL or what the running callback was given; `length` is NULL or points to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_attempt_key(attempt: *const TkmAttempt, length: *mut usize) -> *const c_char {
    // SAFETY: by the caller's promise.
    let attempt = || unsafe { handle::borrow(attempt, "tkm_attempt_key") };
    call_or(ptr::null(), || {
        let key = attempt().and_then(|attempt| attempt.key.as_deref());
        // SAFETY: by the caller's promise.
        unsafe { write(length, key.map_or(0, |key| key.count_bytes())) };
        key.map_or(ptr::null(), CStr::as_ptr)
    })
}

/// # Safety
/// `attempt` is NULL or what the running callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_attempt_remaining_ms(attempt: *const TkmAttempt) -> u64 {
    // SAFETY: by the caller's promise.
    let attempt = || unsafe { handle::borrow(attempt, "tkm_attempt_remaining_ms") };
    call_or(0, || {
        attempt().map_or(0, |attempt| {
            attempt.deadline.saturating_duration_since(std::time::Instant::now()).as_millis() as u64
        })
    })
}

/// # Safety
/// `attempt` is NULL or what the running callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_attempt_generation(attempt: *const TkmAttempt) -> u64 {
    // SAFETY: by the caller's promise.
    call_or(0, || unsafe { handle::borrow(attempt, "tkm_attempt_generation") }.map_or(0, |attempt| attempt.generation))
}

/// # Safety
/// `attempt` is NULL or what the running callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_attempt_owner(attempt: *const TkmAttempt) -> *const c_char {
    // SAFETY: by the caller's promise.
    let attempt = || unsafe { handle::borrow(attempt, "tkm_attempt_owner") };
    call_or(c"".as_ptr(), || attempt().map_or(c"".as_ptr(), |attempt| attempt.owner.as_ptr()))
}

/// # Safety
/// `attempt` is NULL or what the running callback was given; `length` is NULL or points to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_attempt_carry(attempt: *const TkmAttempt, length: *mut usize) -> *const c_char {
    // SAFETY: by the caller's promise.
    let attempt = || unsafe { handle::borrow(attempt, "tkm_attempt_carry") };
    call_or(ptr::null(), || {
        let carry = attempt().and_then(|attempt| attempt.carry.as_deref());
        // SAFETY: by the caller's promise.
        unsafe { write(length, carry.map_or(0, str::len)) };
        carry.map_or(ptr::null(), |carry| carry.as_ptr().cast())
    })
}

/// # Safety
/// `attempt` is NULL or what the running callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_attempt_presented_ms(attempt: *const TkmAttempt) -> i64 {
    // SAFETY: by the caller's promise.
    let attempt = || unsafe { handle::borrow(attempt, "tkm_attempt_presented_ms") };
    call_or(-1, || attempt().and_then(|attempt| attempt.presented).map_or(-1, |age| age.as_millis() as i64))
}

/// # Safety
/// `reply` is NULL or what the running callback was given.
unsafe fn answer(reply: *mut TkmReply, with: impl FnOnce(&mut TkmReply) -> Result<(), TkmError>) -> i32 {
    // SAFETY: by the caller's promise; no error is asked for.
    unsafe { call(ptr::null_mut(), || with(required(handle::borrow_mut(reply, "tkm_reply"), "reply")?)) }
}

/// # Safety
/// `reply` is what the running callback was given; `secret` points to so many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_reply_token(
    reply: *mut TkmReply,
    secret: *const c_char,
    length: usize,
    life_ms: u64,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        answer(reply, |reply| {
            let fetched = Fetched::new(text_of(secret, length, "secret")?, Duration::from_millis(life_ms));
            reply.0 = Some(Ok(fetched));
            Ok(())
        })
    }
}

/// # Safety
/// `reply` is what the running callback was given; `secret` points to so many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_reply_carry(
    reply: *mut TkmReply,
    secret: *const c_char,
    length: usize,
    life_ms: u64,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        answer(reply, |reply| {
            let secret = text_of(secret, length, "secret")?;
            let fetched = match reply.0.take() {
                Some(Ok(fetched)) => fetched.carry(secret),
                other => {
                    reply.0 = other;
                    return Err(TkmError::new(crate::outcome::Code::Config, "call tkm_reply_token first"));
                }
            };
            let lives = if life_ms == 0 { fetched } else { fetched.carry_lifetime(Duration::from_millis(life_ms)) };
            reply.0 = Some(Ok(lives));
            Ok(())
        })
    }
}

/// # Safety
/// `reply` is what the running callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_reply_throttled(reply: *mut TkmReply, retry_after_ms: i64) -> i32 {
    let pause = u64::try_from(retry_after_ms).ok().map(Duration::from_millis);
    // SAFETY: by the caller's promise.
    unsafe { failed(reply, FetchError::throttled(pause)) }
}

/// # Safety
/// `reply` is what the running callback was given.
unsafe fn failed(reply: *mut TkmReply, error: FetchError) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        answer(reply, |reply| {
            reply.0 = Some(Err(error));
            Ok(())
        })
    }
}

/// Changes the failure that was reported.
///
/// # Safety
/// `reply` is NULL or what the running callback was given.
unsafe fn amend(reply: *mut TkmReply, change: impl FnOnce(FetchError) -> FetchError) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        answer(reply, |reply| match reply.0.take() {
            Some(Err(error)) => {
                reply.0 = Some(Err(change(error)));
                Ok(())
            }
            other => {
                reply.0 = other;
                Err(TkmError::new(crate::outcome::Code::Config, "report a failure first"))
            }
        })
    }
}

/// # Safety
/// `reply` is what the running callback was given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_reply_retry_after(reply: *mut TkmReply, ms: u64) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { amend(reply, |error| error.retry_after(Duration::from_millis(ms))) }
}

/// # Safety
/// `reply` is what the running callback was given; `message` is a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_reply_because(reply: *mut TkmReply, message: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        let cause = cause(message);
        amend(reply, |error| error.because(cause))
    }
}

/// # Safety
/// `message` is NULL or a text that ends with a NUL.
unsafe fn cause(message: *const c_char) -> String {
    // SAFETY: by the caller's promise.
    unsafe { text(message, "message") }.unwrap_or("the fetch callback gave no reason").to_owned()
}

/// # Safety
/// `reply` is what the running callback was given; `message` is NULL or a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_reply_unavailable(reply: *mut TkmReply, message: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { failed(reply, FetchError::unavailable(cause(message))) }
}

/// # Safety
/// `reply` is what the running callback was given; `message` is NULL or a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_reply_credentials_rejected(reply: *mut TkmReply, message: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { failed(reply, FetchError::credentials_rejected(cause(message))) }
}

/// # Safety
/// `reply` is what the running callback was given; `message` is NULL or a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_reply_unknown_outcome(reply: *mut TkmReply, message: *const c_char) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { failed(reply, FetchError::unknown_outcome(cause(message))) }
}
