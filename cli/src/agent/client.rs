//! Asks an agent over its socket.

use super::http::{self, encode};
use crate::failure::{self, Failure};
use crate::held::Held;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an agent may take: it waits for its own deadline, 15 seconds unless it is set.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the agent's token, or its failure; nothing if there is no agent.
pub fn get(socket: &Path, name: &str) -> Option<Result<Held, Failure>> {
    let answer = ask(socket, "GET", &format!("/token/{}?output=json", encode(name)))?;
    Some(answer.and_then(|body| {
        let held = || {
            Some(Held {
                secret: body.get("token")?.as_str()?.to_owned(),
                generation: body.get("generation")?.as_u64()?,
                expires_in: Duration::from_millis(body.get("expires_in_ms")?.as_u64()?),
                is_stale: body.get("stale").and_then(Value::as_bool).unwrap_or(false),
            })
        };
        held().ok_or_else(|| Failure::new(failure::SOFTWARE, "the agent's answer cannot be understood"))
    }))
}

/// Has the agent invalidate; nothing if there is none.
pub fn invalidate(socket: &Path, name: &str, generation: u64) -> Option<Result<(), Failure>> {
    let answer = ask(socket, "POST", &format!("/invalidate/{}?generation={generation}", encode(name)))?;
    Some(answer.map(drop))
}

/// Has the agent end the pauses, its own too; nothing if there is none.
pub fn lift_pause(socket: &Path, name: &str) -> Option<Result<(), Failure>> {
    Some(ask(socket, "POST", &format!("/lift-pause/{}", encode(name)))?.map(drop))
}

fn ask(socket: &Path, method: &str, target: &str) -> Option<Result<Value, Failure>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: tkm\r\nAccept: application/json\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    // An agent that ends just now is none.
    stream.take(http::MOST_ANSWER).read_to_string(&mut answer).ok().filter(|read| *read > 0)?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    match status {
        200..=299 => Some(Ok(body)),
        // It serves other settings, with other tokens.
        404 => None,
        _ => {
            let exit = body.get("exit").and_then(Value::as_u64).and_then(|exit| u8::try_from(exit).ok());
            let message = body.get("error").and_then(Value::as_str).unwrap_or("the agent failed");
            let retry_after = body.get("retry_after_ms").and_then(Value::as_u64).map(Duration::from_millis);
            let failure = Failure { exit: exit.unwrap_or(failure::SOFTWARE), message: message.into(), retry_after };
            Some(Err(failure))
        }
    }
}
