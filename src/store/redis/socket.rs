//! Sockets, each of whose steps has a deadline: made, read and written.

use crate::clock;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// What carries the bytes.
pub trait Socket: Send {
    fn read_until(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize>;
    fn write_until(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<usize>;

    /// By what the system knows it, to wait until there is something to read.
    #[cfg(unix)]
    fn fd(&self) -> BorrowedFd<'_>;

    /// Sends what is held back.
    fn flush_until(&mut self, _deadline: Instant) -> io::Result<()> {
        Ok(())
    }
}

/// A socket until a deadline.
pub struct Limited<'a, S: Socket + ?Sized> {
    pub socket: &'a mut S,
    pub deadline: Instant,
}

impl<S: Socket + ?Sized> Read for Limited<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read_until(buffer, self.deadline)
    }
}

impl<S: Socket + ?Sized> Write for Limited<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_until(bytes, self.deadline)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush_until(self.deadline)
    }
}

/// Takes a step with what is left of the time, and again while it was only interrupted: the system restarts no wait that
/// has a limit.
fn step<T>(deadline: Instant, mut step: impl FnMut(Duration) -> io::Result<T>) -> io::Result<T> {
    loop {
        let left = clock::left(deadline);
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match step(left) {
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            done => return done,
        }
    }
}

impl Socket for TcpStream {
    #[cfg(unix)]
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn read_until(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        step(deadline, |left| self.set_read_timeout(Some(left)).and_then(|()| self.read(buffer)))
    }

    fn write_until(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        step(deadline, |left| self.set_write_timeout(Some(left)).and_then(|()| self.write(bytes)))
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    fn read_until(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        step(deadline, |left| self.set_read_timeout(Some(left)).and_then(|()| self.read(buffer)))
    }

    fn write_until(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        step(deadline, |left| self.set_write_timeout(Some(left)).and_then(|()| self.write(bytes)))
    }
}

/// Connects to one of the addresses.
pub fn tcp(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
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
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to a Unix socket. A server that takes no more connections lets the call wait, until the socket's limit on
/// sending; a call that does not wait would have to be repeated, for poll() does not tell when there is room.
#[cfg(unix)]
pub fn unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    let address = rustix::net::SocketAddrUnix::new(path)?;
    let socket = unconnected()?;
    step(deadline, |left| {
        set_socket_timeout(&socket, Timeout::Send, Some(left))?;
        Ok(rustix::net::connect(&socket, &address)?)
    })?;
    Ok(socket.into())
}

/// Makes a Unix socket that no program inherits that is started from this one.
#[cfg(unix)]
fn unconnected() -> io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    #[cfg(not(target_vendor = "apple"))]
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    #[cfg(target_vendor = "apple")]
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)?;
    #[cfg(target_vendor = "apple")]
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}

#[cfg(not(unix))]
pub fn unix(_: &Path, _: Instant) -> io::Result<TcpStream> {
    Err(ErrorKind::Unsupported.into())
}
