//! `tkm`: fresh tokens for programs that cannot link the library, and the operator's view.
//!
//! | layer | files | duty |
//! |---|---|---|
//! | 6 | `agent` `agent/loaded` `watch` `exec` | what runs on: the agent, the screen, a command beside a file |
//! | 5 | `agent/answers` `agent/metrics` `agent/served` `agent/files` `agent/hook` | its parts that know tokens |
//! | 5 | `exec/folder` `exec/relay` | its parts: the folder of the token; signals there and back |
//! | 5 | `helpers` `trail` `bench` `screen` `page` | git's and docker's questions; the operator's view |
//! | 4 | `tokens` `keeper` `sink` `seen` | a token from the agent or the store; each new one; files; events in words |
//! | 3 | `inspect` `agent/client` | what the store knows; an agent that is asked |
//! | 2 | `output` | how a token is written |
//! | 1 | `args` `manual` `held` `agent/http` `agent/socket` `agent/notify` | the command line; a token; HTTP, the socket, the service manager |
//! | 0 | `commands` `failure` `logger` `temporary` | the table of commands; exit codes; the log; what is there for a moment |
#![forbid(unsafe_code)]

mod agent;
mod args;
mod bench;
mod commands;
mod exec;
mod failure;
mod held;
mod helpers;
mod inspect;
mod keeper;
mod logger;
mod manual;
mod output;
mod page;
mod screen;
mod seen;
mod sink;
mod temporary;
mod tokens;
mod trail;
mod watch;

use args::{Args, Asked};
use failure::Failure;
use helpers::Verb;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use token_manager_config::Config;

fn main() -> ExitCode {
    let exit = match Args::read() {
        Ok(Asked::Help(command)) => print(&manual::help(command)).map(|()| 0),
        Ok(Asked::Version) => print(concat!("tkm ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| 0),
        Ok(Asked::Run(args)) => {
            logger::start(args.has("verbose"), output::is_alone(args.option("output")));
            told(&args, run(&args))
        }
        Err(failure) => Err(failure),
    };
    match exit {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("tkm: {}", failure.message);
            }
            failure.exit.into()
        }
    }
}

/// Has a failure told in the way of the program that asked, where it has one.
fn told(args: &Args, exit: Result<u8, Failure>) -> Result<u8, Failure> {
    match exit {
        Err(failure) if args.command.name == "get" && args.option("output") == Some("google") => {
            print(&output::google_failure(&failure)).map(|()| 0)
        }
        exit => exit,
    }
}

/// Writes to the standard output. A reader that has gone ends the command without a word, as it would by SIGPIPE.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(failure::IO, "")),
        written => written.map_err(|error| Failure::io("the standard output cannot be written", &error)),
    }
}

fn settings(args: &Args) -> PathBuf {
    let named = args.option("config").map(PathBuf::from).or_else(|| std::env::var_os("TKM_CONFIG").map(PathBuf::from));
    named.unwrap_or_else(|| "/etc/tkm/tkm.toml".into())
}

fn run(args: &Args) -> Result<u8, Failure> {
    match args.command.name {
        "man" => return print(&manual::page()).map(|()| 0),
        "completions" => return print(&manual::completions(args.name(1)?)?).map(|()| 0),
        "check" => return check(args),
        "agent" => return args.check_values(0).and_then(|()| agent::run(&settings(args))).map(|()| 0),
        _ => {}
    }
    let config = Config::read(settings(args))?;
    match args.command.name {
        "get" => get(&config, args).map(|()| 0),
        "exec" => exec::run(&config, args),
        "invalidate" => {
            let (name, generation) = (args.name(1)?, args.number("generation")?);
            let done = tokens::invalidate(&config, name, generation, args.has("direct"))?;
            let none = || "there was no token to invalidate\n".to_owned();
            print(&done.map_or_else(none, |generation| format!("generation {generation} was invalidated\n")))
                .map(|()| 0)
        }
        "rotate" => {
            let (name, direct) = (args.name(1)?, args.has("direct"));
            tokens::invalidate(&config, name, None, direct)?;
            let (held, _direct) = tokens::get(&config, name, direct)?;
            print(&format!("generation {} is in use\n", held.generation)).map(|()| 0)
        }
        "lift-pause" => {
            tokens::lift_pause(&config, args.name(1)?)?;
            print("the pauses were lifted\n").map(|()| 0)
        }
        "inspect" => inspect::run(&config, args).map(|()| 0),
        "watch" => watch::run(&config, args).map(|()| 0),
        "log" => trail::run(&config, args).map(|()| 0),
        "bench" => bench::run(&config, args).map(|()| 0),
        name => Err(Failure::new(failure::SOFTWARE, format!("nobody has taught tkm to {name}"))),
    }
}

fn check(args: &Args) -> Result<u8, Failure> {
    args.check_values(0)?;
    let config = Config::read(settings(args))?;
    let mut wrong = config.check();
    wrong.iter().for_each(|error| eprintln!("tkm: {error}"));
    if !wrong.is_empty() {
        return Err(Failure::new(failure::CONFIG, format!("{} of the settings cannot be used", wrong.len())));
    }
    wrong.extend(config.warnings());
    wrong.iter().for_each(|warning| eprintln!("tkm: warning: {warning}"));
    if args.has("connect") {
        for name in config.names() {
            config.store_to_look_at(name)?.inspect(&config.token_name(name)?, config.egress(name)).map_err(
                |error| {
                    let Failure { exit, message, .. } = Failure::from(error);
                    Failure::new(exit, format!("the store of {name}: {message}"))
                },
            )?;
        }
    }
    let names: Vec<_> = config.names().collect();
    print(&format!("the settings can be used; tokens: {}\n", names.join(", "))).map(|()| 0)
}

fn get(config: &Config, args: &Args) -> Result<(), Failure> {
    let output = args.option("output").unwrap_or("text");
    let helper = matches!(output, "git-credential" | "docker-credential");
    // Bazel adds the verb too.
    let name = args.name(if helper || output == "bazel" { 2 } else { 1 })?;
    if helper {
        return help(config, args, name, output);
    }
    let (held, _direct) = tokens::get(config, name, args.has("direct"))?;
    print(&output::write(&held, output, name, args.option("variable").unwrap_or("TKM_TOKEN"))?)
}

/// Answers a program that has a helper for its credentials.
fn help(config: &Config, args: &Args, name: &str, output: &str) -> Result<(), Failure> {
    config.token_name(name)?;
    let input = helpers::input()?;
    match helpers::verb(args.values.get(1).map(String::as_str)) {
        Verb::Nothing(answer) => print(answer),
        Verb::Erase if helpers::is_for(config, name, output, &input)? => helpers::erase(config, name, &input),
        Verb::Erase => Ok(()),
        Verb::Get if !helpers::is_for(config, name, output, &input)? => match output {
            // git asks the next helper.
            "git-credential" => Ok(()),
            _ => print(helpers::NOT_FOUND).and(Err(Failure::new(1, ""))),
        },
        Verb::Get => {
            let (held, _direct) = tokens::get(config, name, args.has("direct"))?;
            print(&match output {
                "git-credential" => helpers::git(config, name, &held, &input),
                _ => helpers::docker(config, name, &held, &input),
            })
        }
    }
}
