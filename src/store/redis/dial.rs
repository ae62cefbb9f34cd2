//! Makes a connection to an address: looks up its name, connects, logs in and selects the database, all until one deadline.

use super::address::Address;
use super::failure::code;
use super::login::Login;
use super::lookup::Lookups;
use super::socket;
use super::stream::Stream;
use super::tls_client::TlsClient;
use redis::{Cmd, ErrorKind, RedisResult, Value, cmd};
use std::time::Instant;

/// How one talks to a server, wherever it is.
pub struct Dialer {
    pub lookups: Lookups,
    pub tls: Option<TlsClient>,
    pub resp3: bool,
    pub database: i64,
}

impl Dialer {
    /// Returns a stream to this address that is logged in and in its database.
    pub fn dial(&self, address: &Address, login: &Login, deadline: Instant) -> RedisResult<Stream> {
        let mut stream = match address {
            Address::Tcp { host, port } => {
                let tcp = socket::tcp(&self.lookups.find(host, *port, deadline)?, deadline)?;
                match &self.tls {
                    Some(tls) => Stream::new(tls.connect(host, tcp, deadline)?),
                    None => Stream::new(tcp),
                }
            }
            Address::Unix(path) => Stream::new(socket::unix(path, deadline)?),
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
            Err(error)
                if matches!(code(&error), Some("ERR" | "WRONGPASS" | "NOAUTH" | "NOPERM")) && password.is_some() =>
            {
                Err((ErrorKind::AuthenticationFailed, "Redis refused to log in").into())
            }
            logged_in => logged_in.and(selected).map(drop),
        }
    }
}
