//! The C ABI. `include/token_manager.h` is its manual; each file here has the functions of one of its sections.
//!
//! Unsafe code is allowed in this crate alone. Every pointer that comes in is checked for NULL, and in debug builds
//! against the handles in use; every entry point catches panics.

mod call;
mod error;
#[path = "../../src/fork.rs"]
mod fork;
mod handle;
mod logging;
mod manager;
mod options;
mod source;
mod token;
