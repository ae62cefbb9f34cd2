//! Waits for a socket, and is woken before it has anything to read.

use super::stream::Stream;
use crate::clock;
use std::io;
use std::time::{Duration, Instant};

/// Wakes the thread that waits.
pub struct Waker(imp::Waker);

impl Waker {
    pub fn new() -> io::Result<Waker> {
        imp::Waker::new().map(Waker)
    }

    /// Ends the wait under way, or else the next one.
    pub fn wake(&self) {
        self.0.wake();
    }

    /// Waits until there is something to read, or until it is woken, or until the deadline; returns whether there is.
    pub fn wait(&self, stream: &Stream, deadline: Instant) -> io::Result<bool> {
        match clock::left(deadline) {
            Duration::ZERO => Ok(false),
            left => self.0.wait(stream, left),
        }
    }
}

#[cfg(unix)]
mod imp {
    use super::super::stream::Stream;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use std::io::{self, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    pub struct Waker {
        send: UnixStream,
        receive: UnixStream,
    }

    impl Waker {
        pub fn new() -> io::Result<Waker> {
            let (send, receive) = UnixStream::pair()?;
            send.set_nonblocking(true)?;
            receive.set_nonblocking(true)?;
            Ok(Waker { send, receive })
        }

        pub fn wake(&self) {
            // If it is full, there is enough to wake by.
            let _ = (&self.send).write(&[0]);
        }

        pub fn wait(&self, stream: &Stream, left: Duration) -> io::Result<bool> {
            let mut fds =
                [PollFd::new(&self.receive, PollFlags::IN), PollFd::from_borrowed_fd(stream.fd(), PollFlags::IN)];
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut fds, Some(&left)) {
                Ok(_) => {}
                Err(Errno::INTR) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if !fds[0].revents().is_empty() {
                let _ = (&self.receive).read(&mut [0; 64]);
            }
            Ok(!fds[1].revents().is_empty())
        }
    }
}

/// Without a way to wait for two things it reads for a moment at a time.
#[cfg(not(unix))]
mod imp {
    use super::super::stream::Stream;
    use std::io;
    use std::time::Duration;

    pub struct Waker;

    impl Waker {
        pub fn new() -> io::Result<Waker> {
            Ok(Waker)
        }

        pub fn wake(&self) {}

        pub fn wait(&self, _: &Stream, _: Duration) -> io::Result<bool> {
            Ok(true)
        }
    }
}
