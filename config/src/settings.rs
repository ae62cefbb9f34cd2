//! The shape of a file of settings: which tables and keys there are. What they do is told in `doc/tkm.md`.

use crate::value::{Origin, Portion, SecretAt, Span, Texts};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default)]
    pub allow_inline_secrets: bool,
    #[serde(default)]
    pub stores: BTreeMap<String, Store>,
    #[serde(default)]
    pub tokens: BTreeMap<String, Token>,
    #[serde(default)]
    pub agent: Agent,
    pub sealed: Option<Sealed>,
    pub audit: Option<Audit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    pub url: SecretAt,
    pub connect_timeout: Option<Span>,
    pub io_timeout: Option<Span>,
    pub pool_timeout: Option<Span>,
    pub pool_size: Option<u32>,
    pub max_connection_age: Option<Span>,
    pub credentials_file: Option<PathBuf>,
    pub tls: Option<Tls>,
    pub wait_replicas: Option<Replicas>,
    pub wait_aof: Option<Replicas>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub ca_file: Option<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub server_name: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct Replicas {
    pub replicas: u32,
    pub limit: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub store: Option<String>,
    pub namespace: Option<String>,
    pub group: Option<String>,
    pub grant: Option<String>,
    pub egress: Option<String>,
    pub deadline: Option<Span>,
    pub fetch_limit: Option<Span>,
    pub lease: Option<Span>,
    pub refresh_before: Option<Portion>,
    pub margin: Option<Portion>,
    pub journal: Option<PathBuf>,
    pub serve_stale: Option<Span>,
    pub when_away: Option<WhenAway>,
    pub budget: Option<Budget>,
    #[serde(default)]
    pub execution: Execution,
    /// The name that goes with the token where a protocol wants one: git's and docker's user.
    pub user: Option<String>,
    /// The servers that git and docker may be given the token for.
    #[serde(default)]
    pub hosts: Texts,
    pub source: Kinds,
    pub probe: Option<Probe>,
    #[serde(default)]
    pub files: Vec<File>,
}

/// The kinds of sources; a token has exactly one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kinds {
    pub client_credentials: Option<ClientCredentials>,
    pub refresh_token: Option<RefreshToken>,
    pub jwt_bearer: Option<JwtBearer>,
    pub token_exchange: Option<TokenExchange>,
    pub wechat: Option<Wechat>,
    pub wechat_ticket: Option<WechatTicket>,
    pub wecom: Option<Wecom>,
    pub github_app: Option<GithubApp>,
    pub command: Option<Command>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    pub per_minute: u32,
    pub burst: Option<u32>,
}

/// An address that a new token is shown to until it takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    pub url: String,
    pub limit: Option<Span>,
    #[serde(default)]
    pub http: Http,
}

/// Where the processes of a host meet while the fleet's store is away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhenAway {
    /// The name of a store of this file.
    pub store: String,
    pub budget: Budget,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Execution {
    #[default]
    Background,
    Inline,
}

/// A file that an agent keeps fresh.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where it is. A relative path begins in the folder of the settings.
    pub path: PathBuf,
    /// How the token is written: the name of an output of `tkm get`. Defaults to `text`.
    pub output: Option<String>,
    /// What is written instead, with `{token}` where the token goes. Defaults to none.
    pub template: Option<String>,
    /// The permissions, as an octal text. Defaults to `0600`.
    pub mode: Option<String>,
    /// The owner, by name or number. Defaults to who runs the agent.
    pub owner: Option<String>,
    /// The group, by name or number. Defaults to that of who runs the agent.
    pub group: Option<String>,
    /// A program and its arguments, run after each change. Defaults to none.
    #[serde(default)]
    pub hook: Vec<String>,
}

/// What `tkm agent` does beside keeping files fresh.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The Unix socket that it answers on. Defaults to none.
    pub socket: Option<PathBuf>,
    /// A file that it writes its metrics to. Defaults to none.
    pub metrics_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    pub keys: SecretAt,
    #[serde(default)]
    pub accept_unsealed: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// How many entries are kept of a token, about.
    pub entries: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub proxy: Option<SecretAt>,
    #[serde(default)]
    pub no_proxy: bool,
    pub authority: Option<SecretAt>,
    pub client_certificate: Option<Certificate>,
    #[serde(default)]
    pub allow_plain_http: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub chain: SecretAt,
    pub key: SecretAt,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub id: String,
    pub method: Option<Method>,
    pub secret: Option<SecretAt>,
    pub key_id: Option<String>,
    pub audience: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Basic,
    Post,
    PrivateKey,
    Assertion,
    Certificate,
    Public,
}

/// What the grants of OAuth 2.0 have in common; `$field` are those of one.
macro_rules! grant {
    ($name:ident { $($field:ident: $type:ty,)* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            pub url: Option<String>,
            pub discover: Option<String>,
            pub client: Option<Client>,
            pub scope: Option<String>,
            #[serde(default)]
            pub audience: Texts,
            #[serde(default)]
            pub resource: Texts,
            #[serde(default)]
            pub parameters: BTreeMap<String, String>,
            pub default_life: Option<Span>,
            #[serde(default)]
            pub http: Http,
            $(pub $field: $type,)*
        }
    };
}

grant!(ClientCredentials {});
grant!(RefreshToken {
    reuse_window: Option<Span>,
    first: Option<SecretAt>,
});
grant!(JwtBearer {
    key: Option<SecretAt>,
    key_id: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
    assertion_audience: Option<String>,
    claims: Option<BTreeMap<String, String>>,
    assertion_life: Option<Span>,
    assertion: Option<SecretAt>,
});
grant!(TokenExchange {
    subject: Exchanged,
    actor: Option<Exchanged>,
    wanted: Option<String>,
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchanged {
    pub token: SecretAt,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wechat {
    pub app: String,
    pub secret: SecretAt,
    #[serde(default)]
    pub classic: bool,
    pub base_url: Option<String>,
    #[serde(default)]
    pub http: Http,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WechatTicket {
    /// The name of the account's token in this file.
    pub token: String,
    pub kind: Option<String>,
    pub base_url: Option<String>,
    #[serde(default)]
    pub http: Http,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wecom {
    pub corporation: String,
    pub secret: SecretAt,
    pub base_url: Option<String>,
    #[serde(default)]
    pub http: Http,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GithubApp {
    pub app: String,
    pub installation: u64,
    pub key: SecretAt,
    #[serde(default)]
    pub repositories: Vec<String>,
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
    pub base_url: Option<String>,
    #[serde(default)]
    pub http: Http,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    #[serde(default)]
    pub run: Vec<String>,
    pub shell: Option<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub plain_text: bool,
    pub life: Option<Span>,
    #[serde(default)]
    pub exit_codes: BTreeMap<String, Class>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Throttled,
    Unavailable,
    CredentialsRejected,
    UnknownOutcome,
}

impl Store {
    pub fn is_memory(&self) -> bool {
        matches!(&self.url.origin, Origin::Inline(url) if url == "memory")
    }

    /// Returns whether the address has a password in it: between `://` and `@`, after a colon, or in the query.
    pub fn has_inline_password(&self) -> bool {
        let Origin::Inline(url) = &self.url.origin else { return false };
        if ["pass=", "password="].iter().any(|name| url.contains(name)) {
            return true;
        }
        let user = url.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
        user.is_some_and(|(user, _)| user.contains(':'))
    }
}
