//! An agent as a service manager runs it, and curl, which asks it.

use crate::support::{Bench, LONG, Ran, program};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The settings of a socket in the bench's folder.
pub const SOCKET: &str = "[agent]\nsocket = \"sock\"\n";

/// An agent that is ready. Dropping it kills it.
pub struct Agent {
    pub child: Child,
    notes: UnixDatagram,
}

impl Agent {
    pub fn start(bench: &Bench) -> Agent {
        Agent::start_with(bench, |_| {})
    }

    pub fn start_with(bench: &Bench, change: impl FnOnce(&mut Command)) -> Agent {
        let path = bench.path("notify");
        let _ = fs::remove_file(&path);
        let notes = UnixDatagram::bind(&path).expect("a socket");
        notes.set_read_timeout(Some(LONG)).expect("a limit");
        let mut command = bench.tkm(&["agent"]);
        command
            .env("NOTIFY_SOCKET", &path)
            .stdin(Stdio::null())
            .stderr(fs::File::create(bench.path("stderr")).expect("a file"));
        change(&mut command);
        let agent = Agent { child: command.spawn().expect("tkm"), notes };
        agent.wait_for("READY=1");
        agent
    }

    /// Waits until the service manager is told something that begins like this.
    pub fn wait_for(&self, note: &str) -> String {
        self.wait_for_any(&[note])
    }

    /// Waits until the service manager is told something that begins like one of these.
    pub fn wait_for_any(&self, notes: &[&str]) -> String {
        let until = Instant::now() + LONG;
        let mut bytes = [0; 4096];
        while Instant::now() < until {
            let length = match self.notes.recv(&mut bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue, // a signal is no answer
                got => got.expect("a note"),
            };
            let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if notes.iter().any(|note| told.starts_with(note)) {
                return told;
            }
        }
        panic!("the service manager was not told {notes:?}");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(pid, signal).expect("it lives");
    }

    /// Ends it in order and returns its exit code.
    pub fn end(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the agent did not end");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn curl(socket: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(program("curl"));
    command.args(["--silent", "--show-error", "--max-time", "20", "--unix-socket"]).arg(socket).args(args);
    command.output().expect("curl").into()
}
