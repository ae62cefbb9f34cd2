//! A private Redis: a real `redis-server` or `valkey-server` on a free loopback port, in a temporary folder, ended with its
//! owner. It can be killed, restarted, paused and asked anything. It never touches a server that it did not start.

use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use tempfile::TempDir;

pub use crate::resp::ask;

const START_LIMIT: Duration = Duration::from_secs(20);
const MISSING: &str = "no redis-server or valkey-server found; run `sudo apt-get install redis-server` \
    (macOS: `brew install redis`), or set REDIS_SERVER_BIN to the program";

/// A running server of one's own; dropping it ends it.
pub struct RedisServer {
    program: PathBuf,
    args: Vec<String>,
    port: u16,
    folder: TempDir,
    child: Child,
    clock: bool,
}

impl RedisServer {
    /// Finds `$REDIS_SERVER_BIN`, else `redis-server`, else `valkey-server` on PATH.
    pub fn find() -> Option<PathBuf> {
        if let Some(program) = env::var_os("REDIS_SERVER_BIN").filter(|program| !program.is_empty()) {
            return Some(program.into());
        }
        let path = env::var_os("PATH")?;
        let folders = || env::split_paths(&path);
        let named =
            |name: &'static str| folders().map(move |folder| folder.join(name)).find(|program| program.is_file());
        named("redis-server").or_else(|| named("valkey-server"))
    }

    pub fn start() -> Result<RedisServer, String> {
        Self::start_with(&[])
    }

    /// Starts the server with a wall clock that [`set_clock`](RedisServer::set_clock) can step.
    pub fn start_with_clock() -> Result<RedisServer, String> {
        let program = Self::find().ok_or(MISSING)?;
        let mut server = Self::start_once(&program, &[], true)?;
        server.set_clock(0);
        let started = server.seconds();
        server.set_clock(1000);
        // Newer servers look at the clock a few times a second.
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut stepped = server.seconds();
        while stepped < started + 999 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
            stepped = server.seconds();
        }
        server.set_clock(0);
        match stepped - started {
            999..=1020 => Ok(server),
            _ => Err(format!("the clock of {} cannot be stepped", server.program.display())),
        }
    }

    /// Sets the server's wall clock so many seconds ahead of the real one, or behind it.
    pub fn set_clock(&mut self, ahead: i64) {
        let file = fs::OpenOptions::new().write(true).open(clock_file(self.folder.path()));
        file.and_then(|mut file| file.write_all(&ahead.to_ne_bytes())).expect("a clock's file");
    }

    /// What the server's clock shows, in seconds since 1970.
    pub fn seconds(&self) -> i64 {
        self.command(&["TIME"]).lines().next().and_then(|line| line.parse().ok()).expect("TIME answers two numbers")
    }

    /// Starts the server with more arguments, as in `&["--maxmemory", "2mb"]`.
    pub fn start_with(args: &[&str]) -> Result<RedisServer, String> {
        let program = Self::find().ok_or(MISSING)?;
        let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
        let mut attempt = Self::start_once(&program, &args, false);
        // A port that was free a moment ago may be taken by now.
        for _ in 0..4 {
            attempt = attempt.or_else(|_| Self::start_once(&program, &args, false));
        }
        attempt
    }

    fn start_once(program: &Path, args: &[String], clock: bool) -> Result<RedisServer, String> {
        let folder = tempfile::Builder::new().prefix("token-manager-redis-").tempdir();
        let folder = folder.map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let port = free_port()?;
        if clock {
            fs::write(clock_file(folder.path()), 0i64.to_ne_bytes())
                .map_err(|error| format!("no clock's file: {error}"))?;
            compile_clock(folder.path())?;
        }
        let child = spawn(program, args, port, folder.path(), clock)?;
        let mut server = RedisServer { program: program.into(), args: args.into(), port, folder, child, clock };
        server.wait_until_ready()?;
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server as a power cut would.
    pub fn kill(&mut self) {
        // Both fail only if it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts the server again on the same port, empty; kills it first if it runs.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        self.child = spawn(&self.program, &self.args, self.port, self.folder.path(), self.clock)?;
        self.wait_until_ready()
    }

    /// Stops the server in its tracks: it still accepts connections and never answers.
    pub fn pause(&self) {
        signal(&self.child, Signal::STOP);
    }

    pub fn resume(&self) {
        signal(&self.child, Signal::CONT);
    }

    /// Runs any command and returns its reply as text, one line for each element of an array.
    ///
    /// # Panics
    /// If the server cannot be reached or answers with an error.
    pub fn command(&self, command: &[&str]) -> String {
        self.try_command(command).unwrap_or_else(|error| panic!("redis: {}: {error}", command.join(" ")))
    }

    pub fn try_command(&self, command: &[&str]) -> Result<String, String> {
        ask(&self.url(), command)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        let process = format!("process_id:{}\r", self.child.id());
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended at once ({status}): {}", self.program.display(), self.last_words()));
            }
            match self.try_command(&["INFO", "server"]) {
                // Somebody else's server on this port must not pass for ours.
                Ok(info) if info.contains(&process) => return Ok(()),
                Err(error) if error.starts_with("NOAUTH") => return Ok(()),
                _ if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                _ => return Err(format!("{} does not answer on port {}", self.program.display(), self.port)),
            }
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().last().unwrap_or("it wrote no log").to_string()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process that was started here.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Returns a port of this host that was free a moment ago.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("no free loopback port: {error}"))
}

fn clock_file(folder: &Path) -> PathBuf {
    folder.join("clock")
}

/// Compiles what a stepped clock takes into the server's folder.
fn compile_clock(folder: &Path) -> Result<(), String> {
    let source = folder.join("clock.c");
    fs::write(&source, include_str!("clock.c")).map_err(|error| format!("no clock's source: {error}"))?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock_library(folder)).arg(source);
    match compiler.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cc failed to compile a clock: {status}")),
        Err(error) => Err(format!("no C compiler for a clock that can be stepped: {error}; run `apt-get install gcc`")),
    }
}

fn clock_library(folder: &Path) -> PathBuf {
    folder.join("clock.so")
}

fn spawn(program: &Path, args: &[String], port: u16, folder: &Path, clock: bool) -> Result<Child, String> {
    let mut command = Command::new(program);
    if clock {
        command.env("LD_PRELOAD", clock_library(folder)).env("STEPPED_CLOCK", clock_file(folder));
    }
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--logfile", "log"]);
    command.arg("--port").arg(port.to_string()).arg("--dir").arg(folder).args(args);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("cannot start {}: {error}; {MISSING}", program.display()))
}
