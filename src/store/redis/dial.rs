//! Makes a connection to an address: looks up its name, connects, logs in and selects the database, all until one deadline.

use super::address::Address;
use super::login::Login;
use super::stream::Stream;
use redis::{Cmd, ErrorKind, RedisResult, Value, cmd};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Instant;

/// How one talks to a server, wherever it is.
pub struct Dialer {
    pub resp3: bool,
    pub database: i64,
}

impl Dialer {
    /// Returns a stream to this address that is logged in and in its database.
    pub fn dial(&self, address: &Address, login: &Login, deadline: Instant) -> RedisResult<Stream> {
        let mut stream = match address {
            Address::Tcp { host, port } => {
                let addresses: Vec<SocketAddr> = (host.as_str(), *port).to_socket_addrs()?.collect();
                Stream::tcp(&addresses, deadline)?
            }
            Address::Unix(path) => Stream::unix(path, deadline)?,
        };
        self.greet(&mut stream, login.user(), login.password(), deadline)?;
        Ok(stream)
    }

    /// Logs in and selects the database, as far as that is asked for.
    fn greet(
        &self,
        stream: &mut Stream,
        user: Option<&str>,
        password: Option<&str>,
        deadline: Instant,
    ) -> RedisResult<()> {
        let login = match password {
            Some(word) if self.resp3 => {
                Some(cmd("HELLO").arg("3").arg("AUTH").arg(user.unwrap_or("default")).arg(word).take())
            }
            None if self.resp3 => Some(cmd("HELLO").arg("3").take()),
            Some(word) => Some(cmd("AUTH").arg(user).arg(word).take()),
            None => None,
        };
        let select = (self.database != 0).then(|| cmd("SELECT").arg(self.database).take());
        let commands: Vec<u8> = [&login, &select].into_iter().flatten().flat_map(Cmd::get_packed_command).collect();
        stream.send(&commands, deadline)?;
        let logged_in = login.map_or(Ok(Value::Okay), |_| stream.answer(deadline));
        let selected = select.map_or(Ok(Value::Okay), |_| stream.answer(deadline));
        match logged_in {
            // Redis 5 has no users.
            Err(error)
                if user.is_some() && error.detail().is_some_and(|text| text.contains("arguments for 'auth'")) =>
            {
                self.greet(stream, None, password, deadline)
            }
            Err(error) if error.code().is_some() && !self.resp3 => {
                Err((ErrorKind::AuthenticationFailed, "Redis refused to log in").into())
            }
            logged_in => logged_in.and(selected).map(drop),
        }
    }
}
