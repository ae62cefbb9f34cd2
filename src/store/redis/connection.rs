//! Connections with a limit on every exchange. One that saw any trouble is given up for good: its late reply could
//! otherwise be taken for the answer to another command.

use super::line::Line;
use crate::clock;
use crate::store::{StoreError, StoreErrorKind};
use redis::{Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion, RedisError, RedisResult, Value};
use redis::{ServerErrorKind, cmd};
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes connections.
pub struct Connector {
    pub info: ConnectionInfo,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
}

impl Connector {
    /// Connects, logs in and selects the database, all within the limit or the connector's own if that is shorter.
    pub fn open(&self, limit: Duration) -> RedisResult<Line> {
        let addresses: Vec<_> = match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.as_str(), *port).to_socket_addrs()?.collect(),
            _ => Vec::new(),
        };
        // A name lookup, on which nobody can put a limit, is not part of it.
        let deadline = clock::deadline(limit.min(self.connect_timeout));
        let mut line = match self.info.addr() {
            ConnectionAddr::Unix(path) => Line::unix(path, deadline)?,
            _ => Line::tcp(&addresses, deadline)?,
        };
        self.greet(&mut line, self.info.redis_settings().username(), deadline)?;
        Ok(line)
    }

    /// Logs in and selects the database, as far as the URL asks for it.
    fn greet(&self, line: &mut Line, user: Option<&str>, deadline: Instant) -> RedisResult<()> {
        let settings = self.info.redis_settings();
        let resp3 = settings.protocol() == ProtocolVersion::RESP3;
        let login = match settings.password() {
            Some(word) if resp3 => {
                Some(cmd("HELLO").arg("3").arg("AUTH").arg(user.unwrap_or("default")).arg(word).take())
            }
            None if resp3 => Some(cmd("HELLO").arg("3").take()),
            Some(word) => Some(cmd("AUTH").arg(user).arg(word).take()),
            None => None,
        };
        let select = (settings.db() != 0).then(|| cmd("SELECT").arg(settings.db()).take());
        let commands: Vec<u8> = [&login, &select].into_iter().flatten().flat_map(Cmd::get_packed_command).collect();
        line.send(&commands, deadline)?;
        let logged_in = login.map_or(Ok(Value::Okay), |_| line.answer(deadline));
        let selected = select.map_or(Ok(Value::Okay), |_| line.answer(deadline));
        match logged_in {
            // Redis 5 has no users.
            Err(error)
                if user.is_some() && error.detail().is_some_and(|text| text.contains("arguments for 'auth'")) =>
            {
                self.greet(line, None, deadline)
            }
            Err(error) if error.code().is_some() && !resp3 => {
                Err((ErrorKind::AuthenticationFailed, "Redis refused to log in").into())
            }
            logged_in => logged_in.and(selected).map(drop),
        }
    }
}

/// A Lua script and the digest by which Redis knows it.
pub struct Script {
    text: &'static str,
    digest: redis::Script,
}

impl Script {
    pub fn new(text: &'static str) -> Script {
        Script { text, digest: redis::Script::new(text) }
    }
}

/// A place for one connection, which is made when it is needed and given up when anything but an orderly answer came: a
/// wait that timed out, a cut line, a reply not of the protocol, or the answer of a server that is not, or no longer, the
/// primary.
pub struct Link {
    connector: Arc<Connector>,
    line: Option<Line>,
}

impl Link {
    pub fn new(connector: Arc<Connector>) -> Link {
        Link { connector, line: None }
    }

    /// Runs a script, and once more on a fresh connection if the first broke: a verb answers the same to a repetition, so
    /// a lost reply does no harm. Takes no longer than to connect once and two exchanges.
    pub fn run(&mut self, script: &Script, keys: &[&str], args: &[&[u8]]) -> RedisResult<Value> {
        let Connector { connect_timeout, io_timeout, .. } = *self.connector;
        let to_connect_again = if self.line.is_some() { connect_timeout } else { Duration::ZERO };
        self.connect(connect_timeout)?;
        let until = clock::deadline(to_connect_again + 2 * io_timeout);
        match self.evaluate(script, keys, args, until) {
            Err(error) if self.line.is_none() => {
                log::debug!(target: "token_manager::redis", "a connection broke, trying a fresh one: {}", failure(error));
                self.connect(clock::left(until))?;
                self.evaluate(script, keys, args, until)
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

    fn connect(&mut self, limit: Duration) -> RedisResult<()> {
        if self.line.is_none() {
            self.line = Some(self.connector.open(limit)?);
        }
        Ok(())
    }

    /// Runs a script by its digest, or by its text where Redis does not know it yet.
    fn evaluate(&mut self, script: &Script, keys: &[&str], args: &[&[u8]], until: Instant) -> RedisResult<Value> {
        let mut ask =
            |verb: &str, script: &str| self.query(cmd(verb).arg(script).arg(keys.len()).arg(keys).arg(args), until);
        let answer = ask("EVALSHA", script.digest.get_hash());
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            return ask("EVAL", script.text);
        }
        answer
    }

    fn query(&mut self, command: &Cmd, until: Instant) -> RedisResult<Value> {
        let Some(mut line) = self.line.take() else { return Err(io::Error::from(io::ErrorKind::NotConnected).into()) };
        let deadline = clock::deadline(self.connector.io_timeout).min(until);
        let answer = line.send(&command.get_packed_command(), deadline).and_then(|()| line.answer(deadline));
        if !answer.as_ref().is_err_and(|error| breaks(code(error))) {
            self.line = Some(line);
        }
        answer
    }
}

/// Returns the code that an error begins with, or ought to: what stops a script in its course is `ERR` to some versions
/// of Redis, and so is a request of more than ten words from somebody who has not logged in.
fn code(error: &RedisError) -> Option<&str> {
    const TELLING: [(&str, &str); 8] = [
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
            let telling = TELLING.into_iter().find(|(part, _)| text.contains(part));
            Some(telling.map_or("ERR", |(_, code)| code))
        }
        (code, _) => code,
    }
}

/// Returns whether a connection that gave this answer is to be given up. One to a primary that has become a replica
/// would stay open, and useless, for ever.
fn breaks(code: Option<&str>) -> bool {
    matches!(code, None | Some("READONLY" | "MASTERDOWN" | "NOAUTH"))
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
        _ => (StoreErrorKind::Other, "see the Redis documentation on this error code"),
    };
    match code.as_str() {
        "" => StoreError::new(kind, advice),
        code => StoreError::new(kind, format!("Redis answered {code}: {advice}")),
    }
}
