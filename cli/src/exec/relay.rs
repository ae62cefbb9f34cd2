//! Signals on their way to the command, and its stops and its end on their way back.

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, getpid, kill_process, waitid};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};
use std::fs::File;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// What is handed on to the command.
const FORWARDED: [i32; 9] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGTSTP];
/// What a terminal, or the shell that gives it back, sends to the whole group in the foreground by itself. To go on that came late
/// from here would undo the command's next stop.
const FROM_TERMINAL: [i32; 5] = [SIGINT, SIGQUIT, SIGTSTP, SIGWINCH, SIGCONT];

/// The command's number, while it is sure that no other process has it.
#[derive(Clone, Default)]
struct Target(Arc<Mutex<Option<Pid>>>);

impl Target {
    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives signals from its start on. Those that come while there is no command are its owner's.
pub struct Relay {
    target: Target,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    pub fn start(own: impl Fn(i32) + Send + 'static) -> io::Result<Relay> {
        let mut signals = Signals::new(FORWARDED)?;
        let (handle, target) = (signals.handle(), Target::default());
        let relayed = target.clone();
        let thread = thread::Builder::new().name("tkm signals".into()).spawn(move || {
            for signal in signals.forever() {
                match &*relayed.lock() {
                    Some(command) => forward(signal, *command),
                    None => own(signal),
                }
            }
        })?;
        Ok(Relay { target, handle, thread: Some(thread) })
    }

    /// Starts the command, unless a signal said otherwise up to then.
    pub fn spawn(&self, command: &mut Command, missed: impl FnOnce() -> Vec<i32>) -> io::Result<Child> {
        let mut target = self.target.lock();
        let child = command.spawn()?;
        *target = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(command) = *target {
            missed().into_iter().for_each(|signal| forward(signal, command));
        }
        Ok(child)
    }

    /// Waits for the end of the command, and stops with it where a terminal's shell looks after both.
    pub fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let number = *self.target.lock();
        while let Some(number) = number {
            let (id, seen) = (WaitId::Pid(number), WaitIdOptions::EXITED | WaitIdOptions::STOPPED);
            match waitid(id, seen | WaitIdOptions::NOWAIT) {
                Ok(Some(status)) if status.stopped() => {
                    // Taken note of, unless it goes on by now.
                    let stopped = waitid(WaitId::Pid(number), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
                    if matches!(stopped, Ok(Some(_))) && terminal().is_some() {
                        stop();
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        // Before the number can be another process's.
        *self.target.lock() = None;
        child.wait()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // nothing in it panics
        }
    }
}

/// Returns whether the signal, left to itself, would end this process.
pub fn is_an_end(signal: i32) -> bool {
    ![SIGCONT, SIGWINCH, SIGTSTP].contains(&signal)
}

pub fn is_a_stop(signal: i32) -> bool {
    signal == SIGTSTP
}

/// Stops this process until somebody has it go on; that reaches the command too, as a signal of its own.
pub fn stop() {
    let _ = kill_process(getpid(), Signal::STOP); // a process may always stop itself
}

fn forward(signal: i32, to: Pid) {
    if FROM_TERMINAL.contains(&signal) && in_foreground() {
        return;
    }
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _ = kill_process(to, signal); // it may be ending
    }
}

fn terminal() -> Option<File> {
    File::open("/dev/tty").ok()
}

/// Returns whether a terminal sends its signals to this process and the command alike.
fn in_foreground() -> bool {
    let group = terminal().and_then(|terminal| rustix::termios::tcgetpgrp(&terminal).ok());
    group.is_some_and(|group| group == getpgrp())
}
