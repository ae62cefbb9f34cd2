//! What an error of Redis means: which one it is, whether its connection is still good, and what to tell the user.

use crate::store::{StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisError};

/// Returns the code that an error begins with, or ought to: what stops a script in its course is `ERR` to some versions
/// of Redis, and so is a request of more than ten words from somebody who has not logged in.
pub fn code(error: &RedisError) -> Option<&str> {
    const ERR_PATTERNS: [(&str, &str); 8] = [
        ("unauthenticated", "NOAUTH"),
        ("can't run this command", "NOPERM"),
        ("can't access", "NOPERM"),
        ("READONLY", "READONLY"),
        ("OOM command", "OOM"),
        ("MISCONF", "MISCONF"),
        ("WRONGTYPE", "WRONGTYPE"),
        ("MASTERDOWN", "MASTERDOWN"),
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
    matches!(code(error), None | Some("READONLY" | "MASTERDOWN" | "NOAUTH"))
}

/// Says what is wrong, in words of our own: Redis's text may quote a command's arguments, and so a secret.
pub fn failure(error: RedisError) -> StoreError {
    let code = code(&error).unwrap_or_default().to_owned();
    let (kind, advice) = match code.as_str() {
        "" if error.kind() == ErrorKind::AuthenticationFailed => {
            (StoreErrorKind::Denied, "Redis refused the credentials; check the user and the password in the URL")
        }
        "" if error.is_io_error() => {
            let message = if error.is_timeout() { "Redis did not answer in time" } else { "Redis cannot be reached" };
            return StoreError::new(StoreErrorKind::Unreachable, message).because(error);
        }
        "" => (StoreErrorKind::Malformed, "Redis answered something that is not of its protocol"),
        "NOAUTH" | "WRONGPASS" => (StoreErrorKind::Denied, "check the user and the password in the URL"),
        "NOPERM" => {
            (StoreErrorKind::Denied, "the user needs EVAL, EVALSHA, SUBSCRIBE, the scripts' commands and the keys")
        }
        "READONLY" => (StoreErrorKind::NotWritable, "this Redis is a replica; connect to the primary"),
        "MASTERDOWN" => (StoreErrorKind::NotWritable, "this Redis is a replica that has lost its primary"),
        "LOADING" => (StoreErrorKind::NotWritable, "Redis is still loading its data"),
        "OOM" => (StoreErrorKind::NotWritable, "Redis is at its maxmemory"),
        "MISCONF" => (StoreErrorKind::NotWritable, "Redis refuses writes because it cannot save to disk"),
        "WRONGTYPE" => {
            (StoreErrorKind::Malformed, "a key of the token holds another type; delete it or choose another namespace")
        }
        "MOVED" | "ASK" => {
            (StoreErrorKind::Other, "this Redis is a node of a cluster; write its URL as redis+cluster://host:port")
        }
        "TRYAGAIN" => (StoreErrorKind::NotWritable, "the cluster moves the token's keys to another node just now"),
        "CLUSTERDOWN" => (StoreErrorKind::NotWritable, "the cluster has no node for the token's keys just now"),
        _ => (StoreErrorKind::Other, "see the Redis documentation on this error code"),
    };
    match code.as_str() {
        "" => StoreError::new(kind, advice),
        code => StoreError::new(kind, format!("Redis answered {code}: {advice}")),
    }
}
