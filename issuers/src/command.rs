//! An external command as a source: what it is told, and what its exit and its output mean. `run` starts and ends it,
//! `output` reads what it wrote.

use crate::failure::Failure;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::{Duration, Instant};
use token_manager::{Attempt, FailureClass, FetchError, Fetched, TokenSource};

mod output;
mod run;

use output::Output;
use run::{Ended, Exit, Launch, RunError};

/// The most that the command may write to its standard output.
const MAX_OUTPUT: usize = 1 << 20;
/// How long before the end of the attempt the command is asked to end, and how long before it is killed: a share of the
/// time that it has, and no more than a span.
const TERM_BEFORE: (f64, Duration) = (0.2, Duration::from_secs(1));
const KILL_BEFORE: (f64, Duration) = (0.05, Duration::from_millis(100));
/// What these exit codes mean unless it is said otherwise: EX_UNAVAILABLE, EX_TEMPFAIL and EX_NOPERM of sysexits(3).
const EXITS: [(i32, FailureClass); 3] =
    [(69, FailureClass::Unavailable), (75, FailureClass::Unavailable), (77, FailureClass::CredentialsRejected)];

/// Runs a command that prints a token.
///
/// ```
/// use std::time::Duration;
/// use token_manager::{MemoryStore, TokenManager};
/// use token_manager_issuers::command::CommandSource;
///
/// let source = CommandSource::new("printf").argument("s3cret").plain_text(Duration::from_secs(3600));
/// let manager = TokenManager::builder("api").store(MemoryStore::new()).source(source).build()?;
/// assert_eq!(manager.get()?.secret(), "s3cret");
/// # Ok::<(), token_manager::Error>(())
/// ```
///
/// **What it gets.** The arguments as they are: there is no shell unless [`shell`](CommandSource::shell) is asked for. The
/// environment of this process, what [`environment`](CommandSource::environment) adds, and
///
/// | variable | what it is |
/// |---|---|
/// | `TKM_GENERATION` | the generation that the new token will have |
/// | `TKM_OWNER` | the name of this process in the store |
/// | `TKM_REMAINING_MS` | how long it may take before it is asked to end |
/// | `TKM_CARRY` | how many bytes of carried secret there are on standard input; unset if there is none |
/// | `TKM_PRESENTED_MS` | how long ago another fetch presented that secret; unset if none did |
///
/// Standard input is the [carried secret](Attempt::carry), or empty: no secret is in an argument or a variable, where others could
/// read it. No signal is blocked or, for SIGPIPE and SIGCHLD, ignored in the command, whatever the thread that starts it does.
///
/// **What it answers.** With exit code 0, JSON on its standard output: `access_token` or `token`; `expires_in` in seconds, or
/// `expires_at`, an RFC 3339 date; and `refresh_token`, if the next call is to get one on its standard input. Or else
/// [plain text](CommandSource::plain_text). Whatever it started may go on and keep the output open; that is not waited for.
///
/// **How it fails.** Not started at all: unavailable. Exit code 69 or 75 (EX_UNAVAILABLE, EX_TEMPFAIL of sysexits):
/// unavailable. 77 (EX_NOPERM): credentials rejected. Any other code, a signal, an output that cannot be used, an
/// overrun: unknown outcome, since it may have been granted a token before. [`exit_code`](CommandSource::exit_code) says
/// otherwise.
///
/// **When it overruns.** Shortly before [`Attempt::remaining`] is used up, by a fifth of it and a second at most, its whole process
/// group gets SIGTERM; a twentieth, 100 ms at most, before the end, SIGKILL.
///
/// What it writes to its standard error is logged line by line, up to a hundred lines; its standard output never is.
pub struct CommandSource {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    output: Output,
    exits: BTreeMap<i32, FailureClass>,
}

impl CommandSource {
    /// Runs this program, looked for in the PATH unless its name has a slash.
    pub fn new(program: impl Into<OsString>) -> CommandSource {
        let (arguments, environment) = (Vec::new(), Vec::new());
        let output = Output::Json { life: None };
        CommandSource { program: program.into(), arguments, environment, output, exits: EXITS.into() }
    }

    /// Runs a script by `sh -c`. Never put together from parts that somebody else may choose.
    pub fn shell(script: impl Into<OsString>) -> CommandSource {
        CommandSource::new("sh").argument("-c").argument(script)
    }

    /// Adds an argument. Anybody on the machine can read it: no secret belongs here.
    pub fn argument(mut self, argument: impl Into<OsString>) -> CommandSource {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable of the command's environment, in place of what this process has. Defaults to none.
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> CommandSource {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Takes all of the standard output, without white space around it, as a token that lives so long. Defaults to JSON.
    pub fn plain_text(mut self, life: Duration) -> CommandSource {
        self.output = Output::Text { life };
        self
    }

    /// Says how long a token lives where the JSON does not. Defaults to an unknown outcome then.
    pub fn life(mut self, life: Duration) -> CommandSource {
        match &mut self.output {
            Output::Json { life: unless_told } => *unless_told = Some(life),
            Output::Text { life: always } => *always = life,
        }
        self
    }

    /// Says what an exit code other than 0 means. Defaults to 69 and 75 for unavailable, 77 for rejected credentials, and all
    /// others for an unknown outcome. Call one of them unavailable only if the issuer surely granted nothing then.
    pub fn exit_code(mut self, code: i32, class: FailureClass) -> CommandSource {
        self.exits.insert(code, class);
        self
    }

    fn launch(&self, attempt: &Attempt, term_in: Duration) -> Result<Launch, FetchError> {
        let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        environment.extend(self.environment.iter().cloned());
        let carry = attempt.carry();
        let told = [
            ("TKM_GENERATION", Some(attempt.generation().to_string())),
            ("TKM_OWNER", Some(attempt.owner().to_owned())),
            ("TKM_REMAINING_MS", Some(term_in.as_millis().to_string())),
            ("TKM_CARRY", carry.map(|carry| carry.len().to_string())),
            ("TKM_PRESENTED_MS", attempt.presented().map(|age| age.as_millis().to_string())),
        ];
        for (name, value) in told {
            match value {
                Some(value) => environment.insert(name.into(), value.into()),
                None => environment.remove(&OsString::from(name)),
            };
        }
        let arguments = std::iter::once(&self.program).chain(&self.arguments);
        Launch::new(arguments, &environment, carry.unwrap_or_default()).map_err(FetchError::unavailable)
    }

    fn failure(&self, exit: Exit) -> FetchError {
        let (class, what) = match exit {
            Exit::Code(code) => {
                let class = self.exits.get(&code).copied().unwrap_or(FailureClass::UnknownOutcome);
                (class, format!("the command ended with exit code {code}; its standard error is in the log"))
            }
            Exit::Signal(signal) => (FailureClass::UnknownOutcome, format!("the command was ended by signal {signal}")),
            Exit::Untold => {
                let what =
                    "the command's exit code was taken away: this program ignores SIGCHLD or waits for any child";
                (FailureClass::UnknownOutcome, what.to_owned())
            }
        };
        Failure::new(class, what).into()
    }
}

impl TokenSource for CommandSource {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let (started, has) = (Instant::now(), attempt.remaining());
        let before_end = |(share, span): (f64, Duration)| has - has.mul_f64(share).min(span);
        let (term_in, kill_in) = (before_end(TERM_BEFORE), before_end(KILL_BEFORE));
        let launch = self.launch(attempt, term_in)?;
        let program = self.program.to_string_lossy();
        let told = |line: &str| log::info!(target: "token_manager", "{program}: {line}");
        match launch.run((started + term_in, started + kill_in), MAX_OUTPUT, told) {
            Ok(Ended { exit: Exit::Code(0), stdout }) => self.output.read(&stdout).map_err(FetchError::unknown_outcome),
            // Nobody knows how it ended; what it printed counts if it is whole.
            Ok(Ended { exit: Exit::Untold, stdout }) => {
                self.output.read(&stdout).map_err(|_| self.failure(Exit::Untold))
            }
            Ok(Ended { exit, .. }) => Err(self.failure(exit)),
            Err(error @ RunError::NotStarted(_)) => Err(FetchError::unavailable(error)),
            Err(error) => Err(FetchError::unknown_outcome(error)),
        }
    }
}

impl fmt::Debug for CommandSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSource").field("program", &self.program).finish_non_exhaustive()
    }
}
