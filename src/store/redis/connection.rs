//! A connection with a limit on every exchange. One that saw any trouble is given up for good: its late reply could
//! otherwise be taken for the answer to another command.

use super::connect::Connector;
use super::failure::{breaks, failure};
use super::script::Script;
use super::stream::Stream;
use crate::clock;
use redis::{Cmd, RedisResult, Value, cmd};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A place for one connection, which is made when it is needed and given up when anything but an orderly answer came: a
/// wait that timed out, a cut line, a reply not of the protocol, or the answer of a server that is not, or no longer, the
/// primary.
pub struct Connection {
    connector: Arc<Connector>,
    stream: Option<Stream>,
}

impl Connection {
    pub fn new(connector: Arc<Connector>) -> Connection {
        Connection { connector, stream: None }
    }

    /// Runs a script, and once more on a fresh connection if the first broke: a verb answers the same to a repetition, so
    /// a lost reply does no harm. Takes no longer than to connect once and two exchanges.
    pub fn run(&mut self, script: &Script, keys: &[&str], args: &[&[u8]]) -> RedisResult<Value> {
        let Connector { connect_timeout, io_timeout, .. } = *self.connector;
        self.stream = self.stream.take().filter(|stream| !stream.is_old());
        let to_connect_again = if self.stream.is_some() { connect_timeout } else { Duration::ZERO };
        self.connect(connect_timeout)?;
        let until = clock::deadline(to_connect_again + 2 * io_timeout);
        match script.evaluate(keys, args, |command| self.query(command, until)) {
            Err(error) if self.stream.is_none() => {
                log::debug!(target: "token_manager::redis", "a connection broke, trying a fresh one: {}", failure(error));
                self.connect(clock::left(until))?;
                script.evaluate(keys, args, |command| self.query(command, until))
            }
            answer => answer,
        }
    }

    /// Returns whether the key is there.
    pub fn exists(&mut self, key: &str) -> RedisResult<bool> {
        let Connector { connect_timeout, io_timeout, .. } = *self.connector;
        self.connect(connect_timeout)?;
        self.query(cmd("EXISTS").arg(key), clock::deadline(io_timeout)).map(|answer| answer == Value::Int(1))
    }

    /// Sends a command that the server answers within this limit, on the connection of the last script and no other.
    pub fn wait(&mut self, command: &Cmd, limit: Duration) -> RedisResult<Value> {
        self.query_until(command, clock::deadline(self.connector.io_timeout + limit))
    }

    fn connect(&mut self, limit: Duration) -> RedisResult<()> {
        if self.stream.is_none() {
            self.stream = Some(self.connector.open(limit)?);
        }
        Ok(())
    }

    fn query(&mut self, command: &Cmd, until: Instant) -> RedisResult<Value> {
        self.query_until(command, clock::deadline(self.connector.io_timeout).min(until))
    }

    fn query_until(&mut self, command: &Cmd, deadline: Instant) -> RedisResult<Value> {
        let Some(mut stream) = self.stream.take() else {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        };
        let answer = stream.send(&command.get_packed_command(), deadline).and_then(|()| stream.answer(deadline));
        if !answer.as_ref().is_err_and(breaks) {
            self.stream = Some(stream);
        }
        answer
    }
}
