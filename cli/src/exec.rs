//! `tkm exec`: a command with a token in its environment, or beside a file that stays fresh.

mod folder;
mod relay;

use crate::args::Args;
use crate::failure::Failure;
use crate::keeper::Keeper;
use crate::sink::Sink;
use crate::tokens;
use folder::Folder;
use relay::Relay;
use std::io;
use std::mem;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};
use token_manager_config::Config;

/// Returns the exit code of the command.
pub fn run(config: &Config, args: &Args) -> Result<u8, Failure> {
    let name = args.name(1)?;
    let [program, arguments @ ..] = &args.rest[..] else {
        return Err(Failure::usage("exec wants a command behind the name of the token"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if args.has("file") {
        return with_file(config, name, args.option("variable").unwrap_or("TKM_TOKEN_FILE"), command);
    }
    let (held, direct) = tokens::get(config, name, false)?;
    drop(direct);
    let error = command.env(args.option("variable").unwrap_or("TKM_TOKEN"), &held.secret).exec();
    Err(not_started(&command, &error))
}

fn not_started(command: &Command, error: &io::Error) -> Failure {
    // As shells have it: 127 for what is not there, 126 for what cannot be run.
    let exit = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Failure::new(exit, format!("{} cannot be run: {error}", command.get_program().to_string_lossy()))
}

/// What happens while no command runs.
enum Happened {
    /// The file was written for the first time, or could not be.
    Written(Result<(), Failure>),
    Signal(i32),
    KeeperEnded,
}

fn with_file(config: &Config, name: &str, variable: &str, mut command: Command) -> Result<u8, Failure> {
    let mut folder = Folder::make().map_err(|error| Failure::io("no folder for the token can be made", &error))?;
    let path = folder.path().join("token");
    let (tell, happened) = mpsc::channel();
    // Before anything takes its time, so that none is lost.
    let signals = tell.clone();
    let relay = Relay::start(move |signal| drop(signals.send(Happened::Signal(signal))));
    let relay = relay.map_err(|error| Failure::io("signals cannot be received", &error))?;
    let keeper = keep(config, name, &path, tell.clone())?;
    let limit = config.deadline(name) + config.fetch_limit(name);
    let written = match await_file(&happened, limit) {
        Awaited::Written(written) => written,
        Awaited::Ended(signal) => {
            // It may be at a fetch, which nobody waits for any more.
            mem::forget(keeper);
            return Ok(exit_code_of(signal));
        }
    };
    let ended = written.and_then(|()| {
        let missed = || happened.try_iter().filter_map(Happened::signal).collect();
        let child = relay.spawn(command.env(variable, &path), missed);
        let mut child = child.map_err(|error| not_started(&command, &error))?;
        folder.keep_for(child.id());
        relay.wait(&mut child).map_err(|error| Failure::io("the command cannot be awaited", &error))
    });
    end(keeper, tell, &happened);
    ended.map(exit_code)
}

impl Happened {
    fn signal(self) -> Option<i32> {
        match self {
            Happened::Signal(signal) => Some(signal),
            _ => None,
        }
    }
}

enum Awaited {
    Written(Result<(), Failure>),
    Ended(i32),
}

fn await_file(happened: &Receiver<Happened>, limit: Duration) -> Awaited {
    let until = Instant::now() + limit;
    loop {
        match happened.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Happened::Written(written)) => return Awaited::Written(written),
            Ok(Happened::Signal(signal)) if relay::is_an_end(signal) => return Awaited::Ended(signal),
            Ok(Happened::Signal(signal)) if relay::is_a_stop(signal) => relay::stop(),
            Ok(Happened::Signal(_) | Happened::KeeperEnded) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let late = Failure::new(crate::failure::LATER, "timed out waiting for a token");
                return Awaited::Written(Err(late));
            }
        }
    }
}

/// Ends the keeper in order, unless a signal says that there is no time for it.
fn end(keeper: Keeper, tell: Sender<Happened>, happened: &Receiver<Happened>) {
    let told = Told(tell);
    let ending = thread::Builder::new().spawn(move || {
        drop(keeper);
        drop(told);
    });
    if ending.is_ok() {
        let _ = happened.iter().find(|what| match what {
            Happened::Signal(signal) => relay::is_an_end(*signal),
            Happened::KeeperEnded => true,
            Happened::Written(_) => false,
        });
    }
}

/// Tells of the keeper's end, also where that panics.
struct Told(Sender<Happened>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(Happened::KeeperEnded); // nobody may wait for it any more
    }
}

/// Keeps the file, and tells when it has been there or in vain for the first time.
fn keep(config: &Config, name: &str, path: &Path, tell: Sender<Happened>) -> Result<Keeper, Failure> {
    let sink = Sink::private(path.to_owned());
    let (own_name, mut tell) = (name.to_owned(), Some(tell));
    Keeper::start(config, name, move |token, turn| {
        let written = match token {
            Ok(held) => turn.step(|| sink.write(&own_name, held)).unwrap_or(Ok(())),
            Err(failure) => Err(Failure { message: failure.message.clone(), ..*failure }),
        };
        if let Err(failure) = &written {
            log::warn!("{}", failure.message);
        }
        let taken = written.is_ok();
        if let Some(tell) = tell.take() {
            let _ = tell.send(Happened::Written(written)); // too late for it
        }
        taken
    })
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.or(status.signal().map(exit_code_of)).unwrap_or(u8::MAX)
}

/// As shells tell it.
fn exit_code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
