//! Makes connections: finds the address, connects, logs in and selects the database, all within one limit.

use super::stream::Stream;
use crate::clock;
use redis::{Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, ProtocolVersion, RedisResult, Value, cmd};
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

/// Makes connections.
pub struct Connector {
    pub info: ConnectionInfo,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
}

impl Connector {
    /// Returns whether a script sees who is subscribed: it does where all talk to one server, and not in a Redis Cluster, whose
    /// nodes each know their own subscribers alone.
    pub fn scripts_see_subscribers(&self) -> bool {
        true
    }

    /// Connects, logs in and selects the database, all within the limit or the connector's own if that is shorter.
    pub fn open(&self, limit: Duration) -> RedisResult<Stream> {
        let addresses: Vec<_> = match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => (host.as_str(), *port).to_socket_addrs()?.collect(),
            _ => Vec::new(),
        };
        // A name lookup, on which nobody can put a limit, is not part of it.
        let deadline = clock::deadline(limit.min(self.connect_timeout));
        let mut stream = match self.info.addr() {
            ConnectionAddr::Unix(path) => Stream::unix(path, deadline)?,
            _ => Stream::tcp(&addresses, deadline)?,
        };
        self.greet(&mut stream, self.info.redis_settings().username(), deadline)?;
        Ok(stream)
    }

    /// Logs in and selects the database, as far as the URL asks for it.
    fn greet(&self, stream: &mut Stream, user: Option<&str>, deadline: Instant) -> RedisResult<()> {
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
        stream.send(&commands, deadline)?;
        let logged_in = login.map_or(Ok(Value::Okay), |_| stream.answer(deadline));
        let selected = select.map_or(Ok(Value::Okay), |_| stream.answer(deadline));
        match logged_in {
            // Redis 5 has no users.
            Err(error)
                if user.is_some() && error.detail().is_some_and(|text| text.contains("arguments for 'auth'")) =>
            {
                self.greet(stream, None, deadline)
            }
            Err(error) if error.code().is_some() && !resp3 => {
                Err((ErrorKind::AuthenticationFailed, "Redis refused to log in").into())
            }
            logged_in => logged_in.and(selected).map(drop),
        }
    }
}
