//! Asks a Redis one thing over a plain TCP connection, without any Redis client.

use std::io::{BufRead, BufReader, Error, Read, Result as IoResult, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// What a command may take: filling a database does, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs one command on the Redis at `redis://[user:password@]host[:port][/database]` and returns its reply as text: an array
/// has one line for each element, nothing is `(nil)`.
pub fn ask(url: &str, command: &[&str]) -> Result<String, String> {
    let address = Address::parse(url)?;
    let failed = |error: Error| format!("cannot talk to {}: {error}", address.host);
    let mut connection = connect(&address.host).map_err(failed)?;
    if let Some(password) = address.password {
        let credentials = address.user.into_iter().chain([password]);
        let auth: Vec<&str> = ["AUTH"].into_iter().chain(credentials).collect();
        exchange(&mut connection, &auth).map_err(failed)??;
    }
    if let Some(database) = address.database {
        exchange(&mut connection, &["SELECT", database]).map_err(failed)??;
    }
    exchange(&mut connection, command).map_err(failed)?
}

struct Address<'a> {
    host: String,
    user: Option<&'a str>,
    password: Option<&'a str>,
    database: Option<&'a str>,
}

impl Address<'_> {
    fn parse(url: &str) -> Result<Address<'_>, String> {
        let wrong = "the Redis URL must look like redis://127.0.0.1:6379/";
        let rest = url.strip_prefix("redis://").ok_or(wrong)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let (user, password) = match credentials.map(|credentials| credentials.split_once(':')) {
            Some(Some((user, password))) => (Some(user).filter(|user| !user.is_empty()), Some(password)),
            Some(None) => return Err(wrong.into()),
            None => (None, None),
        };
        let port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if port { host.to_string() } else { format!("{host}:6379") };
        Ok(Address { host, user, password, database: Some(path).filter(|path| !path.is_empty()) })
    }
}

fn connect(host: &str) -> IoResult<BufReader<TcpStream>> {
    let address = host.to_socket_addrs()?.next().ok_or_else(|| Error::other("the host has no address"))?;
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(BufReader::new(stream))
}

fn exchange(connection: &mut BufReader<TcpStream>, command: &[&str]) -> IoResult<Result<String, String>> {
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    connection.get_mut().write_all(request.as_bytes())?;
    reply(connection)
}

fn reply(connection: &mut BufReader<TcpStream>) -> IoResult<Result<String, String>> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| Error::other("connection closed"))?;
    let length = || rest.parse::<i64>().map_err(|_| Error::other("reply is not RESP"));
    match kind {
        "+" | ":" => Ok(Ok(rest.to_string())),
        "-" => Ok(Err(rest.to_string())),
        "$" => match usize::try_from(length()?) {
            Ok(length) => {
                let mut text = vec![0; length + 2];
                connection.read_exact(&mut text)?;
                Ok(Ok(String::from_utf8_lossy(&text[..length]).into_owned()))
            }
            Err(_) => Ok(Ok("(nil)".into())),
        },
        "*" => {
            let mut lines = Vec::new();
            for _ in 0..length()? {
                match reply(connection)? {
                    Ok(element) => lines.push(element),
                    Err(error) => lines.push(format!("(error) {error}")),
                }
            }
            Ok(Ok(lines.join("\n")))
        }
        _ => Err(Error::other("reply is not RESP")),
    }
}
