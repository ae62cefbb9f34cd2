//! A connection with a limit on every exchange. One that saw any trouble is given up for good: its late reply could
//! otherwise be taken for the answer to another command.

use super::connect::Connector;
use super::failure::breaks;
use super::route::Trouble;
use super::script::Script;
use super::stream::Stream;
use super::target::Target;
use crate::clock;
use redis::{Cmd, RedisResult, Value, cmd};
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many nodes of a cluster one place keeps connections to.
const MAX_LINES: usize = 16;

/// A place for one connection, in a cluster one to each node that it has needed. It is made when it is needed and given up when
/// anything but an orderly answer came: a wait that timed out, a cut line, a reply not of the protocol, or the answer of a
/// server that is not, or no longer, the primary.
pub struct Connection {
    connector: Arc<Connector>,
    /// The one that was used last is the last.
    lines: Vec<(Target, Stream)>,
}

impl Connection {
    pub fn new(connector: Arc<Connector>) -> Connection {
        Connection { connector, lines: Vec::new() }
    }

    /// Runs a script, and once more on a fresh connection if the first broke, or wherever the route leads then: a verb
    /// answers the same to a repetition, so a lost reply does no harm. Takes no longer than to connect once and two exchanges.
    pub fn run(&mut self, script: &Script, keys: &[&str], args: &[&[u8]]) -> RedisResult<Value> {
        self.follow(keys[0], |ask| script.evaluate(keys, args, ask))
    }

    /// Returns whether the key is there.
    pub fn exists(&mut self, key: &str) -> RedisResult<bool> {
        self.follow(key, |ask| ask(cmd("EXISTS").arg(key))).map(|answer| answer == Value::Int(1))
    }

    /// Sends a command that the server answers within this limit, on the connection of the last script and no other.
    pub fn wait(&mut self, command: &Cmd, limit: Duration) -> RedisResult<Value> {
        let Some((target, mut stream)) = self.lines.pop() else {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        };
        let answer = query(&mut stream, command, false, clock::deadline(self.connector.io_timeout + limit));
        if !answer.as_ref().is_err_and(breaks) {
            self.lines.push((target, stream));
        }
        answer
    }

    /// Asks the server that has the key.
    fn follow(
        &mut self,
        key: &str,
        exchange: impl Fn(&mut dyn FnMut(&Cmd) -> RedisResult<Value>) -> RedisResult<Value>,
    ) -> RedisResult<Value> {
        let connector = self.connector.clone();
        let until = Cell::new(clock::deadline(connector.connect_timeout + 2 * connector.io_timeout));
        connector.follow(key, &until, |target, asking| {
            let mut stream = self.line_to(target, &until).map_err(Trouble::NotConnected)?;
            let mut ask = |command: &Cmd| {
                let deadline = clock::deadline(connector.io_timeout).min(until.get());
                query(&mut stream, command, asking, deadline)
            };
            match exchange(&mut ask) {
                Err(error) if breaks(&error) => Err(Trouble::Broken(error)),
                answer => {
                    self.lines.push((target.clone(), stream));
                    answer.map_err(Trouble::Refused)
                }
            }
        })
    }

    /// Takes the connection to a server out, or makes one.
    fn line_to(&mut self, target: &Target, until: &Cell<Instant>) -> RedisResult<Stream> {
        self.lines.retain(|(of, stream)| of.term == target.term && !stream.is_old());
        if let Some(at) = self.lines.iter().position(|(of, _)| of == target) {
            return Ok(self.lines.remove(at).1);
        }
        if self.lines.len() >= MAX_LINES {
            self.lines.remove(0);
        }
        self.connector.dial(target, until)
    }
}

/// Sends a command and returns its answer; for a key on its way to a node, ASKING goes directly before.
fn query(stream: &mut Stream, command: &Cmd, asking: bool, deadline: Instant) -> RedisResult<Value> {
    let mut bytes = if asking { cmd("ASKING").get_packed_command() } else { Vec::new() };
    bytes.extend(command.get_packed_command());
    stream.send(&bytes, deadline)?;
    if asking {
        stream.answer(deadline)?;
    }
    stream.answer(deadline)
}
