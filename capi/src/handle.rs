//! Pointers that C holds: made, borrowed and freed here, and nowhere else. Debug builds know which are in use and end the
//! program with a message when one is freed twice or was never made here.

use std::ptr::NonNull;

/// Gives a value to C.
pub fn give<T>(value: impl Into<Box<T>>) -> *mut T {
    let handle = Box::into_raw(value.into());
    note(handle.cast_const().cast());
    handle
}

/// Borrows what C holds; `None` for NULL.
///
/// # Safety
/// The handle is NULL or was given by [`give`] as this type and is not freed while it is borrowed.
pub unsafe fn borrow<'a, T>(handle: *const T, function: &str) -> Option<&'a T> {
    let handle = NonNull::new(handle.cast_mut())?;
    check(handle.as_ptr().cast_const().cast(), function);
    // SAFETY: by the caller's promise it points to a live value of this type.
    Some(unsafe { handle.as_ref() })
}

/// Borrows what C holds for a change; `None` for NULL.
///
/// # Safety
/// As [`borrow`], and no other thread uses the handle meanwhile.
pub unsafe fn borrow_mut<'a, T>(handle: *mut T, function: &str) -> Option<&'a mut T> {
    let mut handle = NonNull::new(handle)?;
    check(handle.as_ptr().cast_const().cast(), function);
    // SAFETY: by the caller's promise it points to a live value of this type that nobody else uses.
    Some(unsafe { handle.as_mut() })
}

/// Takes back what C held; `None` for NULL.
///
/// # Safety
/// As [`borrow_mut`], and the handle is not used again.
pub unsafe fn take<T>(handle: *mut T, function: &str) -> Option<T> {
    let handle = NonNull::new(handle)?;
    forget(handle.as_ptr().cast_const().cast(), function);
    // SAFETY: by the caller's promise it came from `give` and is not used again.
    Some(*unsafe { Box::from_raw(handle.as_ptr()) })
}

#[cfg(not(debug_assertions))]
mod registry {
    pub fn note(_: *const ()) {}
    pub fn check(_: *const (), _: &str) {}
    pub fn forget(_: *const (), _: &str) {}
}

#[cfg(debug_assertions)]
mod registry {
    use std::collections::HashMap;
    use std::process;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::thread;

    type Uses = HashMap<usize, usize>;

    /// How often each address is in use: a token's address is given out once a `get`.
    static IN_USE: LazyLock<Mutex<Uses>> = LazyLock::new(Mutex::default);
    /// The process whose thread is at it, or 0.
    static HOLDER: AtomicU32 = AtomicU32::new(0);

    /// Does nothing in a child that was forked while a thread of its parent was at it: that thread is not here to finish.
    fn with(act: impl FnOnce(&mut Uses)) {
        let own = process::id();
        while let Err(holder) = HOLDER.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed) {
            if holder != own {
                return;
            }
            thread::yield_now();
        }
        act(&mut IN_USE.lock().unwrap_or_else(PoisonError::into_inner));
        HOLDER.store(0, Ordering::Release);
    }

    pub fn note(handle: *const ()) {
        with(|in_use| *in_use.entry(handle.addr()).or_default() += 1);
    }

    pub fn check(handle: *const (), function: &str) {
        with(|in_use| {
            if !in_use.contains_key(&handle.addr()) {
                refuse(function);
            }
        });
    }

    pub fn forget(handle: *const (), function: &str) {
        with(|in_use| {
            let Some(count) = in_use.get_mut(&handle.addr()) else { refuse(function) };
            *count -= 1;
            if *count == 0 {
                in_use.remove(&handle.addr());
            }
        });
    }

    fn refuse(function: &str) -> ! {
        eprintln!("token_manager: {function}: this handle was freed before, or is none of this library's");
        std::process::abort();
    }
}

pub use registry::{check, forget, note};
