//! `tkm exec`: a command with a token in its environment, or beside a file that stays fresh.

use crate::args::Args;
use crate::failure::Failure;
use crate::keeper::Keeper;
use crate::sink::Sink;
use crate::{temporary, tokens};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use token_manager_config::Config;

/// What is handed on to the command.
const FORWARDED: [i32; 9] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGTSTP];
/// What a terminal sends to the whole group in the foreground by itself.
const FROM_TERMINAL: [i32; 4] = [SIGINT, SIGQUIT, SIGTSTP, SIGWINCH];

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

/// A folder that is removed with what is in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("{} cannot be removed: {error}", self.0.display());
        }
    }
}

fn with_file(config: &Config, name: &str, variable: &str, mut command: Command) -> Result<u8, Failure> {
    let folder =
        temporary::private_folder().map_err(|error| Failure::io("no folder for the token can be made", &error))?;
    let folder = Folder(folder);
    let path = folder.0.join("token");
    // Before the command is there, so that none is lost.
    let mut signals = Signals::new(FORWARDED).map_err(|error| Failure::io("signals cannot be received", &error))?;
    let keeper = keep(config, name, &path)?;
    let mut child = command.env(variable, &path).spawn().map_err(|error| not_started(&command, &error))?;
    let pid = Arc::new(Mutex::new(i32::try_from(child.id()).ok().and_then(Pid::from_raw)));
    let (handle, target) = (signals.handle(), pid.clone());
    let forwarder = thread::spawn(move || {
        for signal in signals.forever() {
            forward(signal, *target.lock().unwrap_or_else(PoisonError::into_inner));
        }
    });
    let status = wait(&mut child, &pid).map_err(|error| Failure::io("the command cannot be awaited", &error))?;
    handle.close();
    let _ = forwarder.join(); // nothing in it panics
    drop(keeper);
    Ok(exit_code(status))
}

/// Keeps the file, which is there when this returns.
fn keep(config: &Config, name: &str, path: &Path) -> Result<Keeper, Failure> {
    let sink = Sink::private(path.to_owned());
    let (first, ready) = mpsc::channel();
    let own_name = name.to_owned();
    let keeper = Keeper::start(config, name, move |token, turn| {
        let written = match token {
            Ok(held) => turn.step(|| sink.write(&own_name, held)).unwrap_or(Ok(())),
            Err(failure) => Err(Failure { message: failure.message.clone(), ..*failure }),
        };
        if let Err(failure) = &written {
            log::warn!("{}", failure.message);
        }
        let taken = written.is_ok();
        // Later ones go nowhere.
        let _ = first.send(written);
        taken
    })?;
    let limit = config.deadline(name) + config.fetch_limit(name);
    match ready.recv_timeout(limit) {
        Ok(written) => written.map(|()| keeper),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(Failure::new(crate::failure::LATER, "timed out waiting for a token"))
        }
    }
}

/// Waits for the end before the number can be another process's.
fn wait(child: &mut Child, pid: &Mutex<Option<Pid>>) -> io::Result<ExitStatus> {
    let number = *pid.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(number) = number {
        while waitid(WaitId::Pid(number), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .is_err_and(|error| error == rustix::io::Errno::INTR)
        {}
    }
    *pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
    child.wait()
}

fn forward(signal: i32, to: Option<Pid>) {
    if FROM_TERMINAL.contains(&signal) && in_foreground() {
        return;
    }
    if let (Some(signal), Some(pid)) = (Signal::from_named_raw(signal), to) {
        let _ = kill_process(pid, signal); // it may be ending
    }
}

/// Returns whether a terminal sends its signals to this process and the command alike.
fn in_foreground() -> bool {
    let stdin = io::stdin();
    stdin.is_terminal() && rustix::termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
