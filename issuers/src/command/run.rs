//! Starts a command, reads what it writes and ends it in time, with all that it started, whatever it does. Knows nothing
//! of tokens.
//!
//! The command is started by `posix_spawn`: it alone sets the signal mask of the child and no other's. A thread that unblocked its
//! signals to hand on an empty mask would run the program's handlers meanwhile.

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{self, Pid, WaitId, WaitIdOptions};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};
use std::{fmt, thread};

/// How often a command is looked at that closed its outputs, or whose outputs somebody else holds open.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// How long a killed command may take to be gone: it is at once, unless the system is very busy.
const GONE: Duration = Duration::from_secs(1);
/// How much of the standard error is told on: lines, and characters of each.
const MAX_LINES: usize = 100;
const MAX_LINE: usize = 400;

/// What is to be run, ready to be started.
pub struct Launch {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    stdin: PipeReader,
}

/// How a command ended by itself.
pub struct Ended {
    pub exit: Exit,
    pub stdout: Vec<u8>,
}

#[derive(Clone, Copy)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Somebody else was told.
    Untold,
}

/// Why there is no end by itself.
#[derive(Debug)]
pub enum RunError {
    NotStarted(String),
    Io(io::Error),
    Overran,
    TooMuch(usize),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::NotStarted(why) => write!(f, "the command cannot be started: {why}"),
            RunError::Io(_) => f.write_str("the command's output cannot be read"),
            RunError::Overran => f.write_str("the command took too long and was ended"),
            RunError::TooMuch(most) => write!(f, "the command printed more than {most} bytes and was ended"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl Launch {
    /// Prepares a start with this on the standard input; the first argument is the program.
    ///
    /// # Errors
    /// If a text cannot be handed to a program, or the input is longer than a pipe takes.
    pub fn new<'a>(
        arguments: impl Iterator<Item = &'a OsString>,
        environment: &BTreeMap<OsString, OsString>,
        input: &str,
    ) -> Result<Launch, RunError> {
        let text = |text: &OsStr| {
            let nul = || RunError::NotStarted("an argument or a variable has a NUL byte".into());
            CString::new(text.as_bytes()).map_err(|_| nul())
        };
        let variable = |(name, value): (&OsString, &OsString)| {
            let mut whole = name.clone();
            whole.push("=");
            whole.push(value);
            text(&whole)
        };
        Ok(Launch {
            arguments: arguments.map(|argument| text(argument)).collect::<Result<_, _>>()?,
            environment: environment.iter().map(variable).collect::<Result<_, _>>()?,
            stdin: filled(input)?,
        })
    }

    /// Runs it until it ends; asks it to at the first of these moments, kills it at the second. Each line of its standard error
    /// is told.
    ///
    /// # Errors
    /// If it was not started, took too long or wrote too much.
    pub fn run(self, ends: (Instant, Instant), most: usize, told: impl Fn(&str)) -> Result<Ended, RunError> {
        let (mut child, mut stdout, mut stderr) = self.start()?;
        let mut lines = Lines { told, begun: Vec::new(), count: 0 };
        let (mut printed, mut pause, mut asked_to_end) = (Vec::new(), LOOK.0, false);
        loop {
            // In this order: what it wrote before it ended is in the pipes now.
            let ended = child.look();
            drain(&mut stdout, |bytes| printed.extend_from_slice(bytes))?;
            drain(&mut stderr, |bytes| lines.take(bytes))?;
            let now = Instant::now();
            match ended {
                _ if printed.len() > most => return Err(RunError::TooMuch(most)),
                Some(exit) if asked_to_end && !matches!(exit, Exit::Code(0)) => return Err(RunError::Overran),
                Some(exit) => {
                    // What it started and left behind goes on, unless it overran.
                    child.reap(asked_to_end);
                    return Ok(Ended { exit, stdout: printed });
                }
                None if now >= ends.1 => return Err(RunError::Overran),
                None if now >= ends.0 && !asked_to_end => {
                    child.signal(process::Signal::TERM);
                    asked_to_end = true;
                }
                None => {}
            }
            let next = if asked_to_end { ends.1 } else { ends.0 };
            wait([&stdout, &stderr], next.saturating_duration_since(now).min(pause));
            pause = (pause * 2).min(LOOK.1);
        }
    }

    fn start(self) -> Result<(Child, Option<PipeReader>, Option<PipeReader>), RunError> {
        let failed = |error: io::Error| RunError::NotStarted(error.to_string());
        let ((stdout, out), (stderr, err)) = (pipe().map_err(failed)?, pipe().map_err(failed)?);
        let spawn = || -> nix::Result<unistd::Pid> {
            let mut actions = PosixSpawnFileActions::init()?;
            for (end, stream) in [(self.stdin.as_raw_fd(), 0), (out.as_raw_fd(), 1), (err.as_raw_fd(), 2)] {
                actions.add_dup2(end, stream)?;
            }
            let mut attributes = PosixSpawnAttr::init()?;
            let flags = [
                PosixSpawnFlags::POSIX_SPAWN_SETPGROUP,
                PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
                PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
            ];
            attributes.set_flags(flags.into_iter().collect())?;
            attributes.set_pgroup(unistd::Pid::from_raw(0))?;
            attributes.set_sigmask(&SigSet::empty())?;
            attributes.set_sigdefault(&[Signal::SIGPIPE, Signal::SIGCHLD].into_iter().collect())?;
            posix_spawnp(&self.arguments[0], &actions, &attributes, &self.arguments, &self.environment)
        };
        let pid = spawn().map_err(|errno| RunError::NotStarted(errno.desc().to_owned()))?;
        let pid = Pid::from_raw(pid.as_raw()).ok_or_else(|| RunError::NotStarted("it has no id".into()))?;
        for end in [stdout.as_fd(), stderr.as_fd()] {
            rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK).map_err(|error| RunError::Io(error.into()))?;
        }
        Ok((Child { pid, reaped: false }, Some(stdout), Some(stderr)))
    }
}

/// Makes a pipe whose ends are no standard streams: those may be closed in this process, and are set in the child.
fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // Both are needed until both are copied, or the copy might get the number that the other one frees.
    let copies = (reader.try_clone()?, writer.try_clone()?);
    drop((reader, writer));
    Ok(copies)
}

/// Returns a pipe that holds this and then ends: nobody has to write while the command runs.
fn filled(input: &str) -> Result<PipeReader, RunError> {
    let failed = |error: io::Error| RunError::NotStarted(error.to_string());
    let (reader, mut writer) = pipe().map_err(failed)?;
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    match writer.write(input.as_bytes()) {
        _ if input.is_empty() => Ok(reader),
        Ok(taken) if taken == input.len() => Ok(reader),
        Ok(_) => Err(RunError::NotStarted("the carried secret is longer than a pipe takes".into())),
        Err(error) => Err(failed(error)),
    }
}

/// Reads what is there now, as much as a pipe holds and no more: who writes for ever must not keep it from the clock. `None`
/// once there will be nothing more.
fn drain(pipe: &mut Option<PipeReader>, mut take: impl FnMut(&[u8])) -> Result<(), RunError> {
    let mut bytes = [0; 4096];
    for _ in 0..16 {
        let Some(end) = pipe else { break };
        match end.read(&mut bytes) {
            Ok(0) => *pipe = None,
            Ok(count) => take(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(RunError::Io(error)),
        }
    }
    Ok(())
}

/// Waits until one of them can be read, so long at the most.
fn wait(pipes: [&Option<PipeReader>; 2], most: Duration) {
    let mut open: Vec<_> = pipes.into_iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
    let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
    if poll(&mut open, Some(&most)).is_err() {
        // A signal, where the caller's own thread runs this; the next look is due anyway.
        thread::yield_now();
    }
}

/// A started command; one that nobody reaped is killed with all that it started.
struct Child {
    pid: Pid,
    reaped: bool,
}

impl Child {
    /// Returns how it ended, if it did, and leaves it unreaped: no other process can have its number until then.
    fn look(&mut self) -> Option<Exit> {
        let exit = self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
        // Somebody else reaped it, and its number may be another's by now.
        self.reaped = matches!(exit, Some(Exit::Untold));
        exit
    }

    fn wait(&self, options: WaitIdOptions) -> Option<Exit> {
        match process::waitid(WaitId::Pid(self.pid), options) {
            Ok(None) => None,
            Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Untold,
            }),
            Err(rustix::io::Errno::INTR) => None,
            Err(_) => Some(Exit::Untold),
        }
    }

    /// Signals it and whatever it started in its process group.
    fn signal(&self, signal: process::Signal) {
        // It may be gone, which is what is wanted.
        let _ = process::kill_process_group(self.pid, signal);
    }

    /// Takes its exit; kills what it left behind if asked to.
    fn reap(&mut self, kill: bool) {
        if kill && !self.reaped {
            self.signal(process::Signal::KILL);
        }
        let until = Instant::now() + GONE;
        while !self.reaped && Instant::now() < until {
            self.reaped = self.wait(WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_some();
            if !self.reaped {
                thread::sleep(LOOK.0);
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.reap(true);
    }
}

/// The standard error, told line by line.
struct Lines<T: Fn(&str)> {
    told: T,
    begun: Vec<u8>,
    count: usize,
}

impl<T: Fn(&str)> Lines<T> {
    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end();
            }
        }
    }

    /// Tells what was begun, with nothing in it that a terminal or a log would obey.
    fn end(&mut self) {
        let line = String::from_utf8_lossy(&self.begun).trim_end().replace(char::is_control, " ");
        self.begun.clear();
        if line.is_empty() {
            return;
        }
        self.count += 1;
        match self.count {
            ..=MAX_LINES => (self.told)(&line),
            count if count == MAX_LINES + 1 => (self.told)("(more lines follow, which are not told)"),
            _ => {}
        }
    }
}

impl<T: Fn(&str)> Drop for Lines<T> {
    fn drop(&mut self) {
        self.end();
    }
}
