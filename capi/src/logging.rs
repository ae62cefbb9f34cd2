//! The log callback, and the version. This library has a logger of its own, apart from any other Rust in the program.

use crate::outcome::Code;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use token_manager::internals::PerProcess;

pub type LogFn = unsafe extern "C" fn(user_data: *mut c_void, level: i32, message: *const c_char);

struct Sink {
    log: LogFn,
    user_data: *mut c_void,
}

/// What is called now, or NULL. A forked child takes it over.
static SINK: AtomicPtr<Sink> = AtomicPtr::new(ptr::null_mut());

/// Read while a message is given out, written while the sink is changed. A child has one of its own: a thread that does
/// not exist there may hold the parent's for good.
static GATE: OnceLock<PerProcess<RwLock<()>>> = OnceLock::new();

struct Forward;

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // At this level the HTTP client writes every byte that it sends, secrets too; sources refuse to send while anybody takes it.
        let holds_secrets = metadata.level() == Level::Trace && metadata.target().starts_with("ureq");
        metadata.level() <= log::max_level() && !holds_secrets
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(gate) = GATE.get() else { return };
        let _open = gate.get(RwLock::default).read().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: it is freed behind the closed gate only, after another one took its place.
        if let Some(sink) = unsafe { SINK.load(Ordering::Acquire).as_ref() } {
            let message = CString::new(record.args().to_string().replace('\0', " ")).unwrap_or_default();
            // SAFETY: the program gave both together; the message lives during the call.
            unsafe { (sink.log)(sink.user_data, record.level() as i32, message.as_ptr()) };
        }
    }

    fn flush(&self) {}
}

/// # Safety
/// `log` may be called with `user_data` on any thread, until another one is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_set_log(log: Option<LogFn>, user_data: *mut c_void, most: i32) -> i32 {
    let level = match most {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        5 => LevelFilter::Trace,
        _ => return Code::Config as i32,
    };
    let sink = log.map_or(ptr::null_mut(), |log| Box::into_raw(Box::new(Sink { log, user_data })));
    let gate = GATE.get_or_init(PerProcess::default).get(RwLock::default);
    let closed = gate.write().unwrap_or_else(PoisonError::into_inner);
    let last = SINK.swap(sink, Ordering::AcqRel);
    if !last.is_null() {
        // SAFETY: it came from a box, nothing points to it any more, and the closed gate says that nobody reads it.
        drop(unsafe { Box::from_raw(last) });
    }
    drop(closed);
    // Fails from the second call on, when the logger is this one already.
    let _ = log::set_logger(&Forward);
    log::set_max_level(level);
    Code::Ok as i32
}

#[unsafe(no_mangle)]
pub extern "C" fn tkm_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
