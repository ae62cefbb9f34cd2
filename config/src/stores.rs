//! Stores by their address: which kinds there are, and what this build lacks.

use crate::error::ConfigError;
use crate::place::Place;
use crate::settings::Store as Settings;
use crate::value::{Origin, SecretAt};
use std::sync::Arc;
use token_manager::store::{Keyring, SealingKey};
use token_manager::{MemoryStore, RedisStore, Store};

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

/// What can stand before the colon, as errors tell it.
const SCHEMES: &str =
    "redis://, rediss://, redis+sentinel://, redis+cluster:// (with rediss+…:// for TLS), unix://, file:/path, memory";

/// Opens a store; never talks to it.
pub fn open(settings: &Settings, place: &Place<'_>, inline: bool) -> Result<Opened, ConfigError> {
    let at = place.below("url");
    if settings.has_inline_password() {
        at.check_inline()?;
    }
    let url = settings.url.read(place.folder()).map_err(|error| at.error(error))?;
    match url.split_once(':').map_or(&*url, |(scheme, _)| scheme) {
        "memory" => Ok(Opened::new(MemoryStore::new())),
        "file" => Err(at.error("this build of tkm has no store in files; use a Redis, or a build that has one")),
        "redis" | "rediss" | "unix" | "redis+unix" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster"
        | "rediss+cluster" => redis(settings, &url, place, inline),
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

fn redis(settings: &Settings, url: &str, place: &Place<'_>, inline: bool) -> Result<Opened, ConfigError> {
    let mut options = RedisStore::options(url);
    macro_rules! set {
        ($($setting:ident),*) => {
            $(if let Some(limit) = settings.$setting { options = options.$setting(limit.0); })*
        };
    }
    set!(connect_timeout, io_timeout, pool_timeout);
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
