//! Runs what a file's settings want to be run after it has changed, and no longer than its limit.

use crate::sink::Sink;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a hook may run, and how often it is looked after.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Runs the hook, if there is one. It is told which file has changed; it gets no token.
pub fn run(sink: &Sink, name: &str, generation: u64) {
    let [program, arguments @ ..] = &sink.hook[..] else { return };
    let mut command = Command::new(program);
    command.args(arguments).env("TKM_NAME", name).env("TKM_FILE", &sink.path);
    // Its output goes where the agent's does: standard output is for nothing but answers.
    command.env("TKM_GENERATION", generation.to_string()).stdin(Stdio::null()).stdout(std::io::stderr());
    match command.spawn() {
        Ok(child) => wait(child, program),
        Err(error) => log::warn!("{name}: the hook {program} cannot be run: {error}"),
    }
}

fn wait(mut child: Child, program: &str) {
    let until = Instant::now() + LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return,
            Ok(Some(status)) => return log::warn!("the hook {program} failed: {status}"),
            Err(error) => return log::warn!("the hook {program} cannot be awaited: {error}"),
            Ok(None) if Instant::now() < until => thread::sleep(LOOK),
            Ok(None) => {
                log::warn!("the hook {program} took longer than {LIMIT:?} and was killed");
                // It is gone, or goes.
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
        }
    }
}
