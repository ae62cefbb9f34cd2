//! One stream to Redis: bytes out, values in, each wait until a deadline that no signal cuts short or puts off.

use super::socket::{Limited, Socket};
use crate::clock;
use redis::{Parser, RedisResult, Value};
use std::io::Write;
use std::time::{Duration, Instant};

/// How long after a replacement that failed the next one is tried.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// A connected socket and what has come in part.
pub struct Stream {
    socket: Box<dyn Socket>,
    parser: Parser,
    /// From when on it is to be replaced.
    pub renew_at: Option<Instant>,
}

impl Stream {
    /// Wraps a connected socket.
    pub fn new(socket: impl Socket + 'static) -> Stream {
        Stream { socket: Box::new(socket), parser: Parser::new(), renew_at: None }
    }

    /// Returns whether it has come to its greatest age.
    pub fn is_old(&self) -> bool {
        self.renew_at.is_some_and(|renew_at| clock::left(renew_at).is_zero())
    }

    /// Has it serve on for a while: there is none to replace it by yet.
    pub fn renew_later(&mut self) {
        self.renew_at = Some(clock::deadline(RENEW_AGAIN));
    }

    #[cfg(unix)]
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.fd()
    }

    pub fn send(&mut self, bytes: &[u8], deadline: Instant) -> RedisResult<()> {
        let mut socket = Limited { socket: &mut *self.socket, deadline };
        Ok(socket.write_all(bytes).and_then(|()| socket.flush())?)
    }

    /// Returns the next value. One that has come in part when the deadline passes is kept for the next call.
    pub fn receive(&mut self, deadline: Instant) -> RedisResult<Value> {
        self.parser.parse_value(Limited { socket: &mut *self.socket, deadline })
    }

    /// Returns the answer to what was sent, passing over what nobody asked for.
    pub fn answer(&mut self, deadline: Instant) -> RedisResult<Value> {
        loop {
            match self.receive(deadline)? {
                Value::Push { .. } => {}
                value => return value.extract_error(),
            }
        }
    }
}
