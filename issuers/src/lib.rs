//! Sources for [`token_manager`]: the issuers that many programs ask, each a feature. Blocking, no async runtime.
//!
//! Each source is made by a builder, is a [`TokenSource`](token_manager::TokenSource), and tells the manager what became of a
//! request: failed before it was sent, refused, throttled, or sent with an unknown outcome. No body and no secret is in any
//! error or log record. A [`Secret`] from a file or an environment variable is read anew for each fetch.
//!
//! | layer | files | duty |
//! |---|---|---|
//! | 3 | `command` `command/run` `command/output` | an external command as a source |
//! | 4 | `wechat` | WeChat's tokens and tickets |
//! | 3 | `wecom` `github_app` | WeCom's tokens, those of a GitHub App's installation |
//! | 3 | `errcode` `site` | how Tencent's issuers answer; where a vendor is |
//! | 3 | `derived` `probe` | a token that another manager's token buys; a new token tried out before it is used |
//! | 2 | `http` `http/settings` `http/answer` `http/sent` | one request: its settings, its limit, what became of it |
//! | 1 | `secret` `jwt` | secrets from text, files and variables; signed assertions |
//! | 0 | `failure` `error` `life` | why there is no token; what `build` refuses; how long a token lives |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(all(unix, feature = "command"))]
pub mod command;
#[cfg(feature = "derived")]
pub mod derived;
#[cfg(feature = "_tencent")]
mod errcode;
#[allow(dead_code, reason = "each source uses a part of it")]
mod error;
#[allow(dead_code, reason = "each source uses a part of it")]
mod failure;
#[cfg(feature = "github_app")]
pub mod github_app;
#[cfg(feature = "_http")]
#[allow(dead_code, reason = "each source uses a part of it")]
mod http;
#[cfg(feature = "_http")]
#[allow(dead_code, reason = "each source uses a part of it")]
mod jwt;
#[cfg(any(feature = "_date", feature = "_tencent"))]
#[allow(dead_code, reason = "each source uses a part of it")]
mod life;
#[cfg(feature = "probe")]
pub mod probe;
#[allow(dead_code, reason = "each source uses a part of it")]
mod secret;
#[cfg(any(feature = "github_app", feature = "_tencent"))]
mod site;
#[cfg(feature = "wechat")]
pub mod wechat;
#[cfg(feature = "wecom")]
pub mod wecom;

pub use error::BuildError;
#[cfg(feature = "_http")]
pub use http::Http;
pub use secret::Secret;
