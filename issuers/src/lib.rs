//! Sources for [`token_manager`]: the issuers that many programs ask, each a feature. Blocking, no async runtime.
//!
//! Each source is made by a builder, is a [`TokenSource`](token_manager::TokenSource), and tells the manager what became of a
//! request: failed before it was sent, refused, throttled, or sent with an unknown outcome. No body and no secret is in any
//! error or log record. A [`Secret`] from a file or an environment variable is read anew for each fetch.
//!
//! | layer | files | duty |
//! |---|---|---|
//! | 5 | `wechat` `client_credentials` `refresh_token` `jwt_bearer` `token_exchange` | WeChat's tokens and tickets; the grants of OAuth 2.0 |
//! | 4 | `command` `wecom` `github_app` `oauth` `oauth/endpoint` `oauth/client` `oauth/reply` | a command; WeCom's tokens, those of a GitHub App's installation; what the grants share |
//! | 3 | `command/run` `command/output` `errcode` `site` `derived` `probe` | how a command runs; how Tencent answers; where a vendor is; tokens that tokens buy; tokens tried out |
//! | 2 | `http` `http/settings` `http/answer` `http/sent` | one request: its settings, its limit, what became of it |
//! | 1 | `secret` `jwt` | secrets from text, files and variables; signed assertions |
//! | 0 | `failure` `error` `life` `refresh_token/login` | why there is no token; what `build` refuses; how long a token lives; what a login brings |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "client_credentials")]
mod client_credentials;
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
#[cfg(feature = "jwt_bearer")]
mod jwt_bearer;
#[cfg(any(feature = "_date", feature = "_tencent"))]
#[allow(dead_code, reason = "each source uses a part of it")]
mod life;
#[cfg(feature = "_oauth")]
#[allow(dead_code, reason = "each source uses a part of it")]
mod oauth;
#[cfg(feature = "probe")]
pub mod probe;
#[cfg(feature = "refresh_token")]
mod refresh_token;
#[allow(dead_code, reason = "each source uses a part of it")]
mod secret;
#[cfg(any(feature = "github_app", feature = "_tencent"))]
mod site;
#[cfg(feature = "token_exchange")]
mod token_exchange;
#[cfg(feature = "wechat")]
pub mod wechat;
#[cfg(feature = "wecom")]
pub mod wecom;

#[cfg(feature = "client_credentials")]
pub use client_credentials::ClientCredentials;
pub use error::BuildError;
#[cfg(feature = "_http")]
pub use http::Http;
#[cfg(feature = "jwt_bearer")]
pub use jwt_bearer::JwtBearer;
#[cfg(feature = "_oauth")]
pub use oauth::{Client, OAuth, OAuthBuilder};
#[cfg(feature = "refresh_token")]
pub use refresh_token::{Login, LoginNeeded, RefreshToken};
pub use secret::Secret;
#[cfg(feature = "token_exchange")]
pub use token_exchange::{TokenExchange, TokenType};
