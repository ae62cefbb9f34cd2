//! Sources for [`token_manager`]: the issuers that many programs ask, each a feature. Blocking, no async runtime.
//!
//! Each source is made by a builder, is a [`TokenSource`](token_manager::TokenSource), and tells the manager what became of a
//! request: failed before it was sent, refused, throttled, or sent with an unknown outcome. No body and no secret is in any
//! error or log record. A [`Secret`] from a file or an environment variable is read anew for each fetch.
//!
//! | layer | files | duty |
//! |---|---|---|
//! | 5 | `by_name` `by_name/kinds` `by_name/values` `by_name/any` | all of them, by names and settings as text |
//! | 4 | `client_credentials` `refresh_token` `jwt_bearer` `token_exchange` | the grants of OAuth 2.0 |
//! | 4 | `wechat` `wecom` `github_app` | WeChat's tokens and tickets; WeCom's; those of a GitHub App |
//! | 4 | `command` | an external command as a source |
//! | 3 | `oauth` `oauth/endpoint` `oauth/client` `oauth/reply` | what they share: the builder, the token endpoint, who asks, what it says |
//! | 3 | `errcode` `site` | how Tencent's issuers answer; where a vendor is |
//! | 3 | `derived` `probe` `command/run` `command/output` | a token that another manager's token buys; a new token tried out before it is used; one command |
//! | 2 | `http` | one request: its settings, its limit, what became of it |
//! | 2 | `refresh_token/first` | the refresh token that a login left |
//! | 1 | `secret` `jwt` | secrets from text, files and variables; signed assertions |
//! | 0 | `failure` `error` `life` `refresh_token/login` `refresh_token/carried` | why there is no token; what `build` refuses; how long a token lives; what a login brings; what the store carries |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "by_name")]
pub mod by_name;
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
#[cfg(any(feature = "_date", feature = "_tencent", feature = "_oauth"))]
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
