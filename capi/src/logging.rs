//! The log callback, and the version. This library has a logger of its own, apart from any other Rust in the program.

use crate::error::Code;
use log::{LevelFilter, Log, Metadata, Record};
use std::ffi::{CString, c_char, c_void};
use std::sync::{PoisonError, RwLock};

pub type LogFn = unsafe extern "C" fn(user_data: *mut c_void, level: i32, message: *const c_char);

struct Sink {
    log: LogFn,
    user_data: *mut c_void,
}

// SAFETY: the header demands that the callback may be called on any thread.
unsafe impl Send for Sink {}
// SAFETY: as above, also by several threads at a time.
unsafe impl Sync for Sink {}

static SINK: RwLock<Option<Sink>> = RwLock::new(None);

struct Forward;

impl Log for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(sink) = &*SINK.read().unwrap_or_else(PoisonError::into_inner) {
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
    *SINK.write().unwrap_or_else(PoisonError::into_inner) = log.map(|log| Sink { log, user_data });
    // Fails from the second call on, when the logger is this one already.
    let _ = log::set_logger(&Forward);
    log::set_max_level(level);
    Code::Ok as i32
}

#[unsafe(no_mangle)]
pub extern "C" fn tkm_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
