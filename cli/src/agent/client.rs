//! Asks an agent over its socket.

use super::http::{self, encode};
use crate::failure::{self, Failure};
use crate::held::Held;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Returns the agent's token, or its failure; nothing if there is no agent.
pub fn get(socket: &Path, name: &str, limit: Duration) -> Option<Result<Held, Failure>> {
    let answer = ask(socket, "GET", &format!("/token/{}?output=json", encode(name)), limit)?;
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
pub fn invalidate(socket: &Path, name: &str, generation: u64, limit: Duration) -> Option<Result<(), Failure>> {
    let answer = ask(socket, "POST", &format!("/invalidate/{}?generation={generation}", encode(name)), limit)?;
    Some(answer.map(drop))
}

/// Has the agent end the pauses, its own too; nothing if there is none.
pub fn lift_pause(socket: &Path, name: &str, limit: Duration) -> Option<Result<(), Failure>> {
    Some(ask(socket, "POST", &format!("/lift-pause/{}", encode(name)), limit)?.map(drop))
}

fn ask(socket: &Path, method: &str, target: &str, limit: Duration) -> Option<Result<Value, Failure>> {
    let until = Instant::now() + limit;
    let mut stream = connect(socket, limit).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: tkm\r\nAccept: application/json\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let answer = match read(&mut stream, until) {
        // An agent that ends just now is none.
        Ok(answer) if answer.is_empty() => return None,
        Ok(answer) => String::from_utf8(answer).ok()?,
        Err(_) => {
            log::warn!(
                "the agent on {} has not answered within {limit:?}; the store is asked instead",
                socket.display()
            );
            return None;
        }
    };
    let Some((status, body)) = whole(&answer) else {
        let what = "the agent's answer was cut off, as if it had ended in the middle; ask again, or use --direct";
        return Some(Err(Failure::new(failure::STORE, what)));
    };
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

/// Connects, and does not wait longer than this where the line of an agent that has been stopped is full.
fn connect(socket: &Path, limit: Duration) -> io::Result<UnixStream> {
    let stream = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&stream, Timeout::Send, Some(limit))?;
    net::connect(&stream, &SocketAddrUnix::new(socket)?)?;
    Ok(stream.into())
}

/// Reads until the agent hangs up; fails when the time has passed.
fn read(stream: &mut UnixStream, until: Instant) -> io::Result<Vec<u8>> {
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while answer.len() < http::MOST_ANSWER {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            // It has been killed; what came before tells whether that was all.
            Err(_) => break,
        }
    }
    Ok(answer)
}

/// Returns the status and the body of an answer that has arrived whole.
fn whole(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok())?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (body.len() == length).then_some((status, body))
}
