//! Understands a command line by the table of commands.

use crate::commands::{self, Command};
use crate::failure::Failure;
use lexopt::{Arg, Parser, ValueExt};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

/// A command line, understood.
pub struct Args {
    pub command: &'static Command,
    options: BTreeMap<&'static str, String>,
    /// What stands behind the command: its name, and so on.
    pub values: Vec<String>,
    /// The command of `exec`.
    pub rest: Vec<OsString>,
}

/// What a command line asks for.
pub enum Asked {
    Run(Args),
    Help(Option<&'static Command>),
    Version,
}

impl Args {
    /// Reads the command line of this process.
    pub fn read() -> Result<Asked, Failure> {
        Args::parse(Parser::from_env())
    }

    fn parse(mut parser: Parser) -> Result<Asked, Failure> {
        let (mut command, mut options): (Option<&'static Command>, _) = (None, BTreeMap::new());
        let (mut values, mut rest) = (Vec::new(), Vec::new());
        while let Some(arg) = parser.next().map_err(usage)? {
            let name = match arg {
                Arg::Short('h') => "help".to_owned(),
                Arg::Short('c') => "config".to_owned(),
                Arg::Short('v') => "verbose".to_owned(),
                Arg::Short('V') => "version".to_owned(),
                Arg::Short('o') => "output".to_owned(),
                Arg::Short(other) => return Err(usage(format!("there is no option -{other}"))),
                Arg::Long(name) => name.to_owned(),
                Arg::Value(word) => {
                    match command {
                        None => command = Some(find(&word.string().map_err(usage)?)?),
                        Some(command) if command.name == "exec" && values.len() == 1 => {
                            rest.push(word);
                            rest.extend(parser.raw_args().map_err(usage)?);
                        }
                        Some(_) => values.push(word.string().map_err(usage)?),
                    }
                    continue;
                }
            };
            match name.as_str() {
                "help" => return Ok(Asked::Help(command)),
                "version" => return Ok(Asked::Version),
                _ => {}
            }
            let mut known = commands::COMMON.iter().chain(command.iter().flat_map(|command| command.options));
            let option = known.find(|option| option.name == name).ok_or_else(|| {
                let place = command.map_or("before a command".into(), |command| format!("of {}", command.name));
                usage(format!("there is no option --{name} {place}"))
            })?;
            let value = match option.value {
                Some(_) => parser.value().map_err(usage)?.string().map_err(usage)?,
                None => String::new(),
            };
            if !option.choices.is_empty() && !option.choices.contains(&value.as_str()) {
                return Err(usage(format!("--{name} is one of {}", option.choices.join(", "))));
            }
            options.insert(option.name, value);
        }
        let command = command.ok_or_else(|| usage("say what to do; tkm --help lists the commands"))?;
        Ok(Asked::Run(Args { command, options, values, rest }))
    }

    pub fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    pub fn option(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }

    pub fn number(&self, option: &str) -> Result<Option<u64>, Failure> {
        let read = |text: &str| text.parse().map_err(|_| usage(format!("--{option} takes a number")));
        self.option(option).map(read).transpose()
    }

    pub fn span(&self, option: &str) -> Result<Option<Duration>, Failure> {
        let read = |text: &str| {
            token_manager_config::span(text).ok_or_else(|| usage(format!("--{option} takes a span such as 10s or 5m")))
        };
        self.option(option).map(read).transpose()
    }

    /// Returns whether the output is to be JSON.
    pub fn json(&self) -> bool {
        self.option("output") == Some("json")
    }

    /// Returns the name of a token, the first value; there may be so many in all.
    pub fn name(&self, at_most: usize) -> Result<&str, Failure> {
        self.check_values(at_most)?;
        self.values
            .first()
            .map(String::as_str)
            .ok_or_else(|| usage(format!("{} wants the name of a token", self.command.name)))
    }

    /// Refuses more values than these.
    pub fn check_values(&self, at_most: usize) -> Result<(), Failure> {
        match self.values.get(at_most) {
            None => Ok(()),
            Some(_) => {
                Err(usage(format!("tkm {} {}: there is a word too many", self.command.name, self.command.arguments)))
            }
        }
    }
}

fn find(name: &str) -> Result<&'static Command, Failure> {
    commands::find(name).ok_or_else(|| usage(format!("there is no command {name:?}; tkm --help lists them")))
}

fn usage(what: impl ToString) -> Failure {
    Failure::usage(what.to_string())
}
