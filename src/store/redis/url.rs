//! Reads URLs. One with several hosts becomes a list of URLs with one host each.

use super::address::Address;
use super::login::Login;
use redis::{IntoConnectionInfo, ProtocolVersion};
use std::borrow::Cow;

const SENTINEL_PORT: u16 = 26379;

/// The URLs of a store.
#[derive(Clone)]
pub enum Urls {
    /// That of one server.
    One(String),
    /// That of a primary, with the name that its sentinels know in the place of the host, and those of the sentinels.
    Sentinel { primary: String, sentinels: Vec<String> },
    /// Those of some nodes of a cluster.
    Cluster(Vec<String>),
}

impl Urls {
    /// Takes the forms `redis+sentinel://` and `redis+cluster://` apart. What cannot be taken apart is left as it is: it is
    /// no URL of one server either.
    pub fn read(url: &str) -> Urls {
        Urls::with_many_hosts(url).unwrap_or_else(|| Urls::One(url.to_owned()))
    }

    fn with_many_hosts(url: &str) -> Option<Urls> {
        let (scheme, rest) = url.split_once("://")?;
        let (scheme, kind) = scheme.split_once('+')?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, hosts) = authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
        let at = if login.is_empty() { "" } else { "@" };
        if hosts.split(',').any(str::is_empty) {
            return None;
        }
        match kind {
            "cluster" => Some(Urls::Cluster(
                hosts.split(',').map(|host| format!("{scheme}://{login}{at}{host}{path}")).collect(),
            )),
            "sentinel" => {
                let (path, query) = path.split_once('?').unwrap_or((path, ""));
                let path = path.strip_prefix('/')?;
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                if name.is_empty() {
                    return None;
                }
                let own = Own::read(query, scheme);
                let sentinel = |host: &str| {
                    let port = if has_port(host) { String::new() } else { format!(":{SENTINEL_PORT}") };
                    format!("{}://{}{host}{port}", own.scheme, own.login)
                };
                Some(Urls::Sentinel {
                    primary: format!("{scheme}://{login}{at}{name}/{database}{}", own.rest),
                    sentinels: hosts.split(',').map(sentinel).collect(),
                })
            }
            _ => None,
        }
    }
}

/// What a query says of the sentinels alone, and the rest of it.
struct Own {
    scheme: &'static str,
    login: String,
    rest: String,
}

impl Own {
    fn read(query: &str, scheme: &str) -> Own {
        let (mut tls, mut user, mut password, mut rest) =
            (matches!(scheme, "rediss" | "valkeys"), "", None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sentinel_user", text)) => user = text,
                Some(("sentinel_password", text)) => password = Some(text),
                Some(("sentinel_tls", text)) => tls = text == "true",
                _ => rest.push(pair),
            }
        }
        let scheme = if tls { "rediss" } else { "redis" };
        let login = password.map_or(String::new(), |password| format!("{user}:{password}@"));
        let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Own { scheme, login, rest }
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// What the URL of one server says.
pub struct Url {
    pub address: Address,
    pub tls: bool,
    /// Whether it asks to trust any certificate.
    pub insecure: bool,
    pub resp3: bool,
    pub database: i64,
    pub login: Login,
}

impl Url {
    /// Reads a URL; `None` if it is none.
    pub fn parse(url: &str) -> Option<Url> {
        let (url, tls) = without_tls(url);
        let info = url.as_ref().into_connection_info().ok()?;
        let settings = info.redis_settings();
        Some(Url {
            address: Address::from_url(info.addr())?,
            tls,
            insecure: tls && url.contains('#'),
            resp3: settings.protocol() == ProtocolVersion::RESP3,
            database: settings.db(),
            login: Login::from_url(settings.username(), settings.password()),
        })
    }
}

/// Returns the URL as one that the parser reads without a feature for TLS, and whether TLS is asked for.
fn without_tls(url: &str) -> (Cow<'_, str>, bool) {
    for (with, without) in [("rediss://", "redis://"), ("valkeys://", "valkey://")] {
        if let Some(rest) = url.strip_prefix(with) {
            return (format!("{without}{rest}").into(), true);
        }
    }
    (url.into(), false)
}
