//! Reads the options of the examples: durations like `500ms`, `5s`, `2m`, `2h`, ranges like `4s..8s`, and errors that say
//! what to write instead.

use std::error::Error;
use std::fmt::Display;
use std::iter;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

/// The arguments of the program, one `--option` after the other.
pub struct Arguments {
    parser: lexopt::Parser,
    option: String,
}

impl Arguments {
    pub fn from_env() -> Arguments {
        Arguments { parser: lexopt::Parser::from_env(), option: String::new() }
    }

    /// Returns the name of the next option, none at the end.
    pub fn next_option(&mut self) -> Result<Option<String>, String> {
        self.option = match self.parser.next().map_err(|error| error.to_string())? {
            None => return Ok(None),
            Some(lexopt::Arg::Long(name)) => name.to_string(),
            Some(lexopt::Arg::Short('h')) => "help".into(),
            Some(lexopt::Arg::Short(name)) => return Err(format!("there is no option -{name}; see --help")),
            Some(lexopt::Arg::Value(value)) => {
                return Err(format!("`{}` is not an option; see --help", value.to_string_lossy()));
            }
        };
        Ok(Some(self.option.clone()))
    }

    /// Reads the value of the option that `next` returned.
    pub fn value<T>(&mut self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        let option = &self.option;
        let value = self.parser.value().map_err(|_| format!("--{option} needs a value; see --help"))?;
        let text = value.to_str().ok_or_else(|| format!("--{option}: the value is not text"))?;
        read(text).map_err(|error| format!("--{option}: {error}"))
    }

    /// Returns the error for an option that the program does not know.
    pub fn unknown(&self) -> String {
        format!("there is no option --{}; see --help", self.option)
    }
}

pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_string())
}

pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write it like 500ms, 5s, 2m or 2h");
    let unit = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit].parse().map_err(|_| wrong())?;
    let factor = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a duration that must not be zero.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero".into()),
        time => Ok(time),
    }
}

/// Reads `4s..8s`, or `4s` for both ends.
pub fn range(text: &str) -> Result<(Duration, Duration), String> {
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    match (duration(min)?, duration(max)?) {
        (min, max) if min <= max => Ok((min, max)),
        _ => Err(format!("`{text}` ends before it begins")),
    }
}

/// Reads a number that must be from `min` to `max`.
pub fn number<T: FromStr + PartialOrd + Display + Copy>(min: T, max: T) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| match text.parse() {
        Ok(number) if min <= number && number <= max => Ok(number),
        _ => Err(format!("`{text}` is not a number from {min} to {max}")),
    }
}

/// Shows a duration to people.
pub fn show(time: Duration) -> String {
    match time.as_micros() {
        0 => format!("{} ns", time.as_nanos()),
        1..10_000 => format!("{} µs", time.as_micros()),
        10_000..1_000_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// Ends a program: an error goes to stderr and makes the exit code 1.
pub fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns an error with all its causes in one line.
pub fn explain(error: &dyn Error) -> String {
    let causes = iter::successors(error.source(), |cause: &&dyn Error| Error::source(*cause));
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
