//! Stores by their address: which kinds there are, and what this build lacks.

use crate::error::ConfigError;
use crate::looking::{self, Nothing};
use crate::place::Place;
use crate::settings::{Store as Settings, Tls as TlsSettings};
use crate::value::{Origin, SecretAt};
use std::sync::Arc;
use token_manager::store::{Keyring, SealingKey, StateStore};
use token_manager::{FileStore, MemoryStore, RedisStore, Store, Tls};

/// A store that is open, shared by all tokens that are in it.
#[derive(Clone)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    /// The same, where it is one that keeps logs.
    pub redis: Option<RedisStore>,
}

impl Opened {
    fn new(store: impl Store) -> Opened {
        Opened { store: Arc::new(store), redis: None }
    }
}

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Use,
    /// Nothing is made for it.
    Look,
}

/// What can stand before the colon, as errors tell it.
const SCHEMES: &str =
    "redis://, rediss://, redis+sentinel://, redis+cluster:// (rediss+… for TLS), unix://, file:/path, memory";

/// Opens a store; never talks to it.
pub fn open(settings: &Settings, place: &Place<'_>, inline: bool, purpose: Purpose) -> Result<Opened, ConfigError> {
    let at = place.below("url");
    if settings.has_inline_password() {
        at.check_inline()?;
    }
    let url = settings.url.read(place.folder()).map_err(|error| at.error(error))?;
    let scheme = url.split(':').next().unwrap_or_default();
    let base = scheme.split('+').next().unwrap_or_default();
    match (scheme, base) {
        ("memory", _) => Ok(Opened::new(MemoryStore::new())),
        ("file", _) => {
            let path = url.trim_start_matches("file:").trim_start_matches("//");
            let folder = place.folder().join(path);
            if purpose == Purpose::Look && !looking::holds_store(&folder) {
                return match looking::objection(&folder) {
                    Some(what) => Err(at.error(format!("{what}; name a folder that this user may make or write"))),
                    None => Ok(Opened::new(StateStore(Nothing(folder)))),
                };
            }
            let opened = FileStore::open(folder);
            opened.map(Opened::new).map_err(|error| at.error(error.to_string()))
        }
        (_, "redis" | "rediss" | "valkey" | "valkeys" | "unix") => redis(settings, &url, place, inline),
        _ => Err(at.error(format!("is no address of a store; write one of {SCHEMES}"))),
    }
}

/// Finds the keys that seal; files and variables are read by whoever needs a key.
pub fn keyring(at: &SecretAt, place: &Place<'_>) -> Result<Keyring, ConfigError> {
    if at.or.is_some() {
        return Err(place.below("or").error("a ring has all its keys in one place, the newest first; remove this"));
    }
    match &at.origin {
        Origin::File(path) => Ok(Keyring::file(place.folder().join(path))),
        Origin::Variable(name) => Ok(Keyring::env(name)),
        Origin::Inline(text) => {
            place.check_inline()?;
            let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
            let keys = lines.map(SealingKey::parse).collect::<Result<_, _>>();
            keys.map(Keyring::new).map_err(|error| place.error(error.to_string()))
        }
    }
}

fn to_tls(settings: &TlsSettings, place: &Place<'_>) -> Result<Tls, ConfigError> {
    let (folder, mut tls) = (place.folder(), Tls::new());
    if let Some(file) = &settings.ca_file {
        tls = tls.ca_file(folder.join(file));
    }
    tls = match (&settings.certificate_file, &settings.key_file) {
        (None, None) => tls,
        (Some(certificate), Some(key)) => tls.identity_files(folder.join(certificate), folder.join(key)),
        _ => return Err(place.error("certificate_file and key_file go together; set both")),
    };
    if let Some(name) = &settings.server_name {
        tls = tls.server_name(name);
    }
    Ok(tls)
}

fn redis(settings: &Settings, url: &str, place: &Place<'_>, inline: bool) -> Result<Opened, ConfigError> {
    let mut options = RedisStore::options(url);
    macro_rules! set {
        ($($setting:ident),*) => {
            $(if let Some(limit) = settings.$setting { options = options.$setting(limit.0); })*
        };
    }
    set!(connect_timeout, io_timeout, pool_timeout, max_connection_age);
    if let Some(file) = &settings.credentials_file {
        options = options.credentials_file(place.folder().join(file));
    }
    if let Some(tls) = &settings.tls {
        options = options.tls(to_tls(tls, &place.below("tls"))?);
    }
    if let Some(size) = settings.pool_size {
        options = options.pool_size(size);
    }
    if let Some(wanted) = settings.wait_replicas {
        options = options.wait_replicas(wanted.replicas, wanted.limit.0);
    }
    if let Some(wanted) = settings.wait_aof {
        options = options.wait_aof(wanted.replicas, wanted.limit.0);
    }
    if inline {
        options = options.without_thread();
    }
    let redis = options.open().map_err(|error| {
        let message = error.to_string();
        let setting = message.split(' ').next().unwrap_or_default().to_owned();
        match setting.as_str() {
            "malformed" => place.error_about("url", message),
            _ => place.error_about(&setting, message),
        }
    })?;
    Ok(Opened { store: Arc::new(redis.clone()), redis: Some(redis) })
}
