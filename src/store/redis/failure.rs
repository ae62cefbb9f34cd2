//! What an error of Redis means: which one it is, whether its connection is still good, and what to tell the user.

use super::tls_client;
use crate::store::{StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisError};
use std::error::Error;
use std::io;
use std::sync::Arc;

/// Takes an error of ours through what only knows Redis's.
pub fn in_io(error: StoreError) -> io::Error {
    io::Error::other(error)
}

/// Returns the error of the system, or of TLS, that this one is.
fn as_io(error: &RedisError) -> Option<&io::Error> {
    error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref()
}

/// Returns the code that an error begins with, or ought to: what stops a script in its course is `ERR` to some versions
/// of Redis, and so is a request of more than ten words from somebody who has not logged in.
pub fn code(error: &RedisError) -> Option<&str> {
    const ERR_PATTERNS: [(&str, &str); 11] = [
        ("unauthenticated", "NOAUTH"),
        ("ACL failure", "NOPERM"),
        ("can't run this command", "NOPERM"),
        ("can't access", "NOPERM"),
        ("READONLY", "READONLY"),
        ("OOM command", "OOM"),
        ("MISCONF", "MISCONF"),
        ("WRONGTYPE", "WRONGTYPE"),
        ("MASTERDOWN", "MASTERDOWN"),
        ("NOREPLICAS", "NOREPLICAS"),
        ("max number of clients", "MAXCLIENTS"),
    ];
    match (error.code(), error.detail()) {
        (Some("ERR"), Some(text)) => {
            let pattern = ERR_PATTERNS.into_iter().find(|(part, _)| text.contains(part));
            Some(pattern.map_or("ERR", |(_, code)| code))
        }
        (code, _) => code,
    }
}

/// Returns whether a connection that gave this error is to be given up. One to a primary that has become a replica
/// would stay open, and useless, for ever.
pub fn breaks(error: &RedisError) -> bool {
    matches!(code(error), None | Some("READONLY" | "MASTERDOWN" | "NOAUTH" | "MAXCLIENTS"))
}

/// Returns whether the server cannot be reached, or is not, or no longer, the primary: another one may be it by now.
pub fn is_gone(error: &RedisError) -> bool {
    let ours = |error: &io::Error| error.get_ref()?.downcast_ref::<StoreError>().map(StoreError::kind);
    match as_io(error) {
        Some(error) => {
            ours(error).is_none_or(|kind| kind == StoreErrorKind::Unreachable) && tls_client::advice(error).is_none()
        }
        None => error.is_io_error() || matches!(code(error), Some("READONLY" | "MASTERDOWN")),
    }
}

/// Says what is wrong, in words of our own: Redis's text may quote a command's arguments, and so a secret.
pub fn failure(error: RedisError) -> StoreError {
    if let Some(error) = as_io(&error).and_then(|error| error.get_ref()?.downcast_ref::<StoreError>()) {
        return error.duplicate();
    }
    if let Some(advice) = as_io(&error).and_then(tls_client::advice) {
        return StoreError::new(StoreErrorKind::Denied, advice).because(error);
    }
    let code = code(&error).unwrap_or_default().to_owned();
    let (kind, advice) = match code.as_str() {
        "" if error.kind() == ErrorKind::AuthenticationFailed => {
            (StoreErrorKind::Denied, "Redis refused the credentials; check the user and the password")
        }
        "" if error.is_io_error() => {
            let message = if error.is_timeout() { "Redis did not answer in time" } else { "Redis cannot be reached" };
            return StoreError::new(StoreErrorKind::Unreachable, message).because(error);
        }
        "" => (StoreErrorKind::Malformed, "Redis answered something that is not of its protocol"),
        "NOAUTH" | "WRONGPASS" => (StoreErrorKind::Denied, "check the user and the password"),
        "NOPERM" => (
            StoreErrorKind::Denied,
            "the user lacks a command or a key; the documentation of RedisStore has the ACL line that gives all",
        ),
        "READONLY" => (StoreErrorKind::NotWritable, "this Redis is a replica; connect to the primary"),
        "MASTERDOWN" => (StoreErrorKind::NotWritable, "this Redis is a replica that has lost its primary"),
        "NOREPLICAS" => (
            StoreErrorKind::NotWritable,
            "Redis has fewer replicas than its min-replicas-to-write; bring them back or lower it",
        ),
        "LOADING" => (StoreErrorKind::NotWritable, "Redis is still loading its data; it will be ready by itself"),
        "OOM" => (StoreErrorKind::NotWritable, "Redis is at its maxmemory; raise it, or remove other keys"),
        "MISCONF" => {
            (StoreErrorKind::NotWritable, "Redis refuses writes because it cannot save to disk; look at its log")
        }
        "BUSY" => (
            StoreErrorKind::NotWritable,
            "Redis is busy with somebody's script; end it with SCRIPT KILL, or with SHUTDOWN NOSAVE where that is UNKILLABLE",
        ),
        "NOSCRIPT" => {
            (StoreErrorKind::Other, "Redis does not keep the scripts that it is sent; look for a proxy in between")
        }
        "MAXCLIENTS" => {
            (StoreErrorKind::Unreachable, "Redis has as many clients as its maxclients; raise it, or lower pool_size")
        }
        "CLUSTERDOWN" => (StoreErrorKind::NotWritable, "the Redis Cluster is down; see CLUSTER INFO on its nodes"),
        "TRYAGAIN" => {
            (StoreErrorKind::NotWritable, "the keys are just moving to another node of the cluster; try again")
        }
        "MOVED" | "ASK" => (
            StoreErrorKind::NotWritable,
            "this Redis is a node of a cluster, and another one has the keys; write its URL as redis+cluster://",
        ),
        "CROSSSLOT" => (
            StoreErrorKind::Malformed,
            "the keys are in several slots; leave braces out of the namespace and the group",
        ),
        "WRONGTYPE" => {
            (StoreErrorKind::Malformed, "a key of the token holds another type; delete it or choose another namespace")
        }
        _ => (StoreErrorKind::Other, "see the Redis documentation on this error code"),
    };
    match code.as_str() {
        "" => StoreError::new(kind, advice),
        code => StoreError::new(kind, format!("Redis answered {code}: {advice}")),
    }
}
