//! The table of commands, from which come the parser, `--help`, the man page and the completions.

/// What can be told to `tkm`.
pub struct Command {
    pub name: &'static str,
    /// What stands behind the name, as the manual writes it.
    pub arguments: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// More of them, for the manual.
    pub more: &'static str,
    pub options: &'static [Opt],
}

/// An option of a command.
pub struct Opt {
    pub name: &'static str,
    /// What its value is, if it has one.
    pub value: Option<&'static str>,
    pub choices: &'static [&'static str],
    pub about: &'static str,
}

const fn flag(name: &'static str, about: &'static str) -> Opt {
    Opt { name, value: None, choices: &[], about }
}

const fn value(name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { name, value: Some(value), choices: &[], about }
}

const fn choice(name: &'static str, choices: &'static [&'static str], about: &'static str) -> Opt {
    Opt { name, value: Some("FORM"), choices, about }
}

/// The outputs of `tkm get`.
pub const OUTPUTS: &[&str] = &[
    "text",
    "json",
    "header",
    "env",
    "exec-credential",
    "git-credential",
    "docker-credential",
    "aws",
    "bazel",
    "google",
];

/// Options that stand before or behind any command.
pub const COMMON: &[Opt] = &[
    value("config", "FILE", "Reads these settings. Defaults to $TKM_CONFIG, or /etc/tkm/tkm.toml."),
    flag("verbose", "Tells on standard error what happens."),
    flag("help", "Prints this."),
    flag("version", "Prints the version."),
];

const DIRECT: Opt = flag("direct", "Goes to the store, even if an agent answers.");
const FORM: Opt = choice("output", &["text", "json"], "How it is written. Defaults to text.");

pub const COMMANDS: &[Command] = &[
    Command {
        name: "check",
        arguments: "",
        about: "Reads the settings and explains every mistake, with its line.",
        more: "Asks no issuer, and no store unless told to. Ends with 78 if there is a mistake.",
        options: &[flag("connect", "Asks each store too.")],
    },
    Command {
        name: "get",
        arguments: "NAME [get|store|erase|list]",
        about: "Prints a valid token, and nothing else.",
        more: "Asks the agent if one answers on the socket of the settings, else the store; where there is no token, this process \
               fetches one unless another is at it. The word behind the name is what git and docker add to the commands of their \
               helpers, which are answered for the hosts of the settings alone; erase invalidates the token that was refused.",
        options: &[
            choice("output", OUTPUTS, "How the token is written. Defaults to text."),
            value("variable", "NAME", "What env calls the variable. Defaults to TKM_TOKEN."),
            DIRECT,
        ],
    },
    Command {
        name: "exec",
        arguments: "NAME [--] COMMAND [ARGUMENT...]",
        about: "Runs a command with a token in its environment, or in a file that stays fresh.",
        more: "With a variable alone tkm becomes the command. With a file tkm stays, forwards signals to it, stops and goes on \
               with it on a terminal, keeps the file fresh, removes it in the end, and ends as the command did. A signal that comes before \
               the command is there ends tkm at once.",
        options: &[
            value("variable", "NAME", "The variable that holds the token. Defaults to TKM_TOKEN."),
            flag(
                "file",
                "Puts the path of a file that stays fresh into the variable, which defaults to TKM_TOKEN_FILE.",
            ),
        ],
    },
    Command {
        name: "invalidate",
        arguments: "NAME",
        about: "Tells the fleet that the token is refused: it is served no more.",
        more: "Without a generation the token that is in the store is meant.",
        options: &[value("generation", "NUMBER", "Invalidates this generation and those before it."), DIRECT],
    },
    Command {
        name: "rotate",
        arguments: "NAME",
        about: "Invalidates the token and fetches the next one.",
        more: "Prints the generation of the new token, not the token.",
        options: &[DIRECT],
    },
    Command {
        name: "agent",
        arguments: "",
        about: "Keeps files fresh and answers on a Unix socket.",
        more: "Reads its settings anew at SIGHUP; what is wrong with them then is told, and the old ones stay. Ends at SIGTERM and \
               SIGINT. Tells systemd when it is ready, what it does, and that it lives.",
        options: &[],
    },
    Command {
        name: "inspect",
        arguments: "[NAME]",
        about: "Tells all that the store knows of a token, or of all tokens.",
        more: "Changes nothing, fetches nothing, prints no secret.",
        options: &[FORM],
    },
    Command {
        name: "watch",
        arguments: "[NAME]",
        about: "Shows what happens to a token, or to all tokens, while it happens.",
        more: "On a terminal a screen that is drawn anew; else a line for each event.",
        options: &[
            value("for", "SPAN", "Ends after this, such as 10s or 5m. Defaults to no end."),
            value("record", "FILE", "Writes a page with plots of what was seen, when it ends."),
        ],
    },
    Command {
        name: "lift-pause",
        arguments: "NAME",
        about: "Ends the pauses after failures, when what was wrong has been put right.",
        more: "The fleet's, the egress's and the agent's own. Another process whose credentials were refused keeps its own pause, a \
               minute at first.",
        options: &[],
    },
    Command {
        name: "log",
        arguments: "NAME",
        about: "Prints the audit trail: who was granted what, and what became of it.",
        more: "The settings of the whole fleet need a table [audit], and the store has to be a Redis.",
        options: &[
            FORM,
            value("count", "NUMBER", "Prints so many entries, the last ones. Defaults to 100."),
            flag("follow", "Goes on with what is added."),
        ],
    },
    Command {
        name: "bench",
        arguments: "NAME",
        about: "Measures what tokens cost in the store of this token, with tokens of its own.",
        more: "Asks no issuer. Leaves a few small keys below tkm-bench, which expire.",
        options: &[value("count", "NUMBER", "How often each thing is done. Defaults to 200."), FORM],
    },
    Command {
        name: "completions",
        arguments: "bash|zsh|fish",
        about: "Prints what a shell needs to complete the commands.",
        more: "",
        options: &[],
    },
    Command { name: "man", arguments: "", about: "Prints the manual page.", more: "", options: &[] },
];

/// Returns a command by its name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl Command {
    /// Returns its own options and those of all commands.
    pub fn all_options(&self) -> impl Iterator<Item = &'static Opt> + use<> {
        self.options.iter().chain(COMMON)
    }
}

/// The exit codes, for the manual.
pub const EXITS: &[(u8, &str)] = &[
    (0, "done"),
    (64, "the command line cannot be understood (EX_USAGE)"),
    (69, "the store cannot be asked (EX_UNAVAILABLE)"),
    (70, "tkm itself is at a loss (EX_SOFTWARE)"),
    (74, "a file or the standard output cannot be written (EX_IOERR)"),
    (
        75,
        "there is no token now: the issuer is out of reach, pauses or limits apply, or time ran out; try later (EX_TEMPFAIL)",
    ),
    (77, "the issuer refuses the credentials (EX_NOPERM)"),
    (
        78,
        "the settings are wrong or have no such token, a sealing key is missing or wrong, or the token is not what the output is for \
         (EX_CONFIG)",
    ),
];
