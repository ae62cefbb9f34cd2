//! One stream to Redis: bytes out, values in, each wait until a deadline that no signal cuts short or puts off.

use crate::clock;
use redis::{Parser, RedisResult, Value};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connected socket and what has come in part.
pub struct Stream {
    socket: Box<dyn Socket>,
    parser: Parser,
}

impl Stream {
    /// Connects to one of the addresses.
    pub fn tcp(addresses: &[SocketAddr], deadline: Instant) -> io::Result<Stream> {
        let mut last = ErrorKind::AddrNotAvailable.into();
        for (address, rest) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
            // Each has its share of the time: one that never answers leaves some to the next.
            let share = clock::left(deadline) / rest;
            if share.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            match TcpStream::connect_timeout(address, share) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    return Ok(Stream { socket: Box::new(socket), parser: Parser::new() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to a Unix socket.
    #[cfg(unix)]
    pub fn unix(path: &Path, deadline: Instant) -> io::Result<Stream> {
        loop {
            match UnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::Interrupted && !clock::left(deadline).is_zero() => {}
                socket => return Ok(Stream { socket: Box::new(socket?), parser: Parser::new() }),
            }
        }
    }

    #[cfg(not(unix))]
    pub fn unix(_: &Path, _: Instant) -> io::Result<Stream> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Returns what sends on the same stream, from any thread.
    pub fn sender(&self) -> io::Result<Sender> {
        self.socket.clone_socket().map(Sender)
    }

    pub fn send(&mut self, bytes: &[u8], deadline: Instant) -> RedisResult<()> {
        Ok(Limited { socket: &mut *self.socket, deadline }.write_all(bytes)?)
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

/// The sending side of a stream that another thread reads.
pub struct Sender(Box<dyn Socket>);

impl Sender {
    pub fn send(&mut self, bytes: &[u8], deadline: Instant) -> RedisResult<()> {
        Ok(Limited { socket: &mut *self.0, deadline }.write_all(bytes)?)
    }
}

/// What carries the bytes.
trait Socket: Read + Write + Send {
    fn clone_socket(&self) -> io::Result<Box<dyn Socket>>;
    fn limit_read(&self, limit: Duration) -> io::Result<()>;
    fn limit_write(&self, limit: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn clone_socket(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn limit_read(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }

    fn limit_write(&self, limit: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(limit))
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    fn clone_socket(&self) -> io::Result<Box<dyn Socket>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn limit_read(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }

    fn limit_write(&self, limit: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(limit))
    }
}

/// A socket until a deadline.
struct Limited<'a> {
    socket: &'a mut dyn Socket,
    deadline: Instant,
}

impl Limited<'_> {
    /// Takes a step with what is left of the time, and again while it was only interrupted: the system restarts no wait
    /// that has a limit.
    fn step(&mut self, mut step: impl FnMut(&mut dyn Socket, Duration) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = clock::left(self.deadline);
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            match step(self.socket, left) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                }
                done => return done,
            }
        }
    }
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.step(|socket, left| socket.limit_read(left).and_then(|()| socket.read(buffer)))
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.step(|socket, left| socket.limit_write(left).and_then(|()| socket.write(bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
