//! Runs what a file's settings want to be run after it has changed, and no longer than its limit.

use crate::sink::Sink;
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a hook may run, and how often it is looked after.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Runs the hook, if there is one. It is told which file has changed; it gets no token.
pub fn run(sink: &Sink, name: &str, generation: u64) {
    run_within(LIMIT, sink, name, generation);
}

fn run_within(limit: Duration, sink: &Sink, name: &str, generation: u64) {
    let [program, arguments @ ..] = &sink.hook[..] else { return };
    let mut command = Command::new(program);
    command.args(arguments).env("TKM_NAME", name).env("TKM_FILE", &sink.path);
    // Its output goes where the agent's does: standard output is for nothing but answers.
    command.env("TKM_GENERATION", generation.to_string()).stdin(Stdio::null()).stdout(std::io::stderr());
    // Of its own, so that its limit ends all that it has started.
    command.process_group(0);
    match command.spawn() {
        Ok(child) => wait(limit, child, program),
        Err(error) => log::warn!("{name}: the hook {program} cannot be run: {error}"),
    }
}

fn wait(limit: Duration, mut child: Child, program: &str) {
    let until = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return,
            Ok(Some(status)) => return log::warn!("the hook {program} failed: {status}"),
            Err(error) => return log::warn!("the hook {program} cannot be awaited: {error}"),
            Ok(None) if Instant::now() < until => thread::sleep(LOOK),
            Ok(None) => {
                log::warn!("the hook {program} took longer than {limit:?} and was killed");
                // It is gone, or goes. The child has not been awaited, so the group's number is its own still.
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::hook::run_within;
    use crate::sink::Sink;
    use std::fs;
    use std::time::{Duration, Instant};

    #[test]
    fn a_hook_that_takes_too_long_is_killed_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! >{}; wait", pid.display());
        let hook = ["sh", "-c", &script].map(str::to_owned).to_vec();
        let mut sink = Sink::private(folder.path().join("token"));
        sink.hook = hook;
        run_within(Duration::from_secs(2), &sink, "api", 1);
        let pid = fs::read_to_string(pid).expect("the hook has begun");
        // Gone, or awaited by nobody yet.
        let lives = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
        };
        let until = Instant::now() + Duration::from_secs(10);
        while lives() {
            assert!(Instant::now() < until, "what the hook has started lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
