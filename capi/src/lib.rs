//! The C ABI. `include/token_manager.h` is its manual; each of its sections has a file here.
//!
//! | layer | files | duty |
//! |---|---|---|
//! | 5 | `views` `config` | what can be seen of a manager; one from a file of settings (feature `config`) |
//! | 4 | `managers` | the tokens of many keys, and what a program changes of their settings |
//! | 3 | `manager` | managers and their guards |
//! | 2 | `options` | the settings of one |
//! | 1 | `issuer` `callee` | sources that the library brings (feature `issuers`); what a manager may call, and its end |
//! | 0 | `store` `tls` `login` `source` `token` `error` `logging` | stores, TLS and logins; the fetch callback; tokens; errors; log and version |
//! | below | `call` `handle` `outcome` | what every entry point does; handles; codes |
//!
//! Unsafe code is allowed in this crate alone. Every pointer that comes in is checked for NULL, and in debug builds
//! against the handles in use; every entry point catches panics.

mod call;
mod callee;
#[cfg(feature = "config")]
mod config;
mod error;
mod handle;
#[cfg(feature = "issuers")]
mod issuer;
mod logging;
mod login;
mod manager;
mod managers;
mod options;
mod outcome;
mod source;
mod store;
mod tls;
mod token;
mod views;
