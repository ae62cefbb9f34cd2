//! A manager from a file of settings.

use crate::call::{call, required, text, write};
use crate::handle;
use crate::manager::TkmManager;
use crate::outcome::{Code, TkmError};
use std::ffi::c_char;
use std::ptr;
use token_manager_config::{Config, ConfigError};

impl From<ConfigError> for TkmError {
    fn from(error: ConfigError) -> TkmError {
        TkmError::new(Code::Config, error.to_string())
    }
}

/// # Safety
/// `path` and `name` are NULL or texts that end with a NUL; `manager` and `error` are NULL or point to places for pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tkm_manager_from_config(
    path: *const c_char,
    name: *const c_char,
    manager: *mut *mut TkmManager,
    error: *mut *mut TkmError,
) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe {
        write(manager, ptr::null_mut());
        call(error, || {
            let (path, name) = (text(path, "path")?, text(name, "name")?);
            required((!manager.is_null()).then_some(()), "manager")?;
            let made = Config::read(path)?.manager(name)?;
            write(manager, handle::give(TkmManager::of(made, None)));
            Ok(())
        })
    }
}
