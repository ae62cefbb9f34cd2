//! Help, the manual page and completions, all from the table of commands.

use crate::commands::{COMMANDS, COMMON, Command, EXITS, Opt};
use crate::failure::Failure;
use std::fmt::Write;

/// Returns what `--help` prints.
pub fn help(command: Option<&Command>) -> String {
    let mut text = String::new();
    match command {
        Some(command) => {
            let Command { name, arguments, about, more, .. } = command;
            put(&mut text, format_args!("tkm {name} {arguments}\n\n{about} {more}\n\n"));
            command
                .all_options()
                .for_each(|option| put(&mut text, format_args!("  {:<22} {}\n", shown(option), option.about)));
        }
        None => {
            text += "tkm [--config FILE] COMMAND\n\nFresh tokens for programs that cannot link token-manager, and the operator's view.\n\n";
            for Command { name, arguments, about, .. } in COMMANDS {
                put(&mut text, format_args!("  {:<42} {about}\n", format!("{name} {arguments}")));
            }
            text.push('\n');
            COMMON.iter().for_each(|option| put(&mut text, format_args!("  {:<42} {}\n", shown(option), option.about)));
            text += "\ntkm COMMAND --help tells more of one; tkm man prints the manual.\n";
        }
    }
    text
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments); // writing to a text cannot fail
}

fn shown(option: &Opt) -> String {
    match option.value {
        Some(value) => format!("--{} {value}", option.name),
        None => format!("--{}", option.name),
    }
}

/// Returns the manual page, for man(7).
pub fn page() -> String {
    let mut text = format!(
        ".TH TKM 1 \"\" \"tkm {}\" \"User Commands\"\n.SH NAME\ntkm \\- fresh tokens for programs that cannot link token-manager\n",
        env!("CARGO_PKG_VERSION")
    );
    text += ".SH SYNOPSIS\n.B tkm\n[\\fB\\-\\-config\\fR \\fIFILE\\fR] \\fICOMMAND\\fR\n.SH DESCRIPTION\n";
    text += "One fresh token for every program of every host: the commands fetch, share and show the tokens that a file of settings \
             names. What is printed on standard output is the answer and nothing else.\n.SH COMMANDS\n";
    for command in COMMANDS {
        let Command { name, arguments, about, more, options } = command;
        put(
            &mut text,
            format_args!(".SS \"tkm {} {}\"\n{} {}\n", roff(name), roff(arguments), roff(about), roff(more)),
        );
        options.iter().for_each(|option| item(&mut text, option));
    }
    text += ".SH OPTIONS\n";
    COMMON.iter().for_each(|option| item(&mut text, option));
    text += ".SH EXIT STATUS\n";
    for (code, about) in EXITS {
        put(&mut text, format_args!(".TP\n.B {code}\n{}\n", roff(about)));
    }
    text += "exec ends as its command does: with its exit code, or 128 and the number of its signal.\n";
    text += ".SH FILES\n.TP\n.I /etc/tkm/tkm.toml\nThe settings, unless \\fB\\-\\-config\\fR or \\fBTKM_CONFIG\\fR names others. \
             The page doc/tkm.md of the project has them all.\n.SH SEE ALSO\nsysexits(3), sd_notify(3), gitcredentials(7)\n";
    text
}

fn item(text: &mut String, option: &Opt) {
    let choices =
        if option.choices.is_empty() { String::new() } else { format!(" One of {}.", option.choices.join(", ")) };
    put(text, format_args!(".TP\n.B {}\n{}{}\n", roff(&shown(option)), roff(option.about), roff(&choices)));
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Returns what a shell needs to complete the commands.
pub fn completions(shell: &str) -> Result<String, Failure> {
    match shell {
        "bash" => Ok(bash()),
        "zsh" => Ok(zsh()),
        "fish" => Ok(fish()),
        _ => Err(Failure::usage("completions are there for bash, zsh and fish")),
    }
}

fn names() -> String {
    COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

fn options_of(command: &Command) -> String {
    command.all_options().map(|option| format!("--{}", option.name)).collect::<Vec<_>>().join(" ")
}

/// Each option that has a list of values, once: whatever the command, its values are the same or none.
fn with_choices(command: &Command) -> impl Iterator<Item = &'static Opt> + use<> {
    command.options.iter().filter(|option| !option.choices.is_empty())
}

fn bash() -> String {
    let mut text = String::from(
        "# bash completion for tkm\n_tkm() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} word command=\n\
         \x20 for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case $word in\n",
    );
    put(&mut text, format_args!("      {}) command=$word; break ;;\n    esac\n  done\n", names().replace(' ', "|")));
    text += "  case $prev in --config|--record) COMPREPLY=($(compgen -f -- \"$cur\")); return ;; esac\n  case $command in\n";
    put(
        &mut text,
        format_args!(
            "    '') COMPREPLY=($(compgen -W '{} --config --verbose --help --version' -- \"$cur\")) ;;\n",
            names()
        ),
    );
    for command in COMMANDS {
        put(&mut text, format_args!("    {})\n", command.name));
        for option in with_choices(command) {
            put(
                &mut text,
                format_args!(
                    "      [ \"$prev\" = --{} ] && {{ COMPREPLY=($(compgen -W '{}' -- \"$cur\")); return; }}\n",
                    option.name,
                    option.choices.join(" ")
                ),
            );
        }
        let words = if command.name == "completions" { "bash zsh fish " } else { "" };
        put(
            &mut text,
            format_args!("      COMPREPLY=($(compgen -W '{words}{}' -- \"$cur\")) ;;\n", options_of(command)),
        );
    }
    text + "  esac\n}\ncomplete -o default -F _tkm tkm\n"
}

fn zsh() -> String {
    let mut text = String::from("#compdef tkm\n_tkm() {\n  local -a commands\n  commands=(\n");
    for Command { name, about, .. } in COMMANDS {
        put(&mut text, format_args!("    '{name}:{}'\n", about.replace('\'', "").replace(':', "\\:")));
    }
    text +=
        "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n  case $words[2] in\n";
    for command in COMMANDS {
        put(&mut text, format_args!("    {})\n      _arguments '*:name:_default'", command.name));
        for option in command.all_options() {
            let about = option.about.replace('\'', "").replace(['[', ']'], "").replace(':', "\\:");
            let value = match (option.value, option.choices) {
                (None, _) => String::new(),
                (Some(value), []) => format!(":{}:_default", value.to_lowercase()),
                (Some(value), choices) => format!(":{}:({})", value.to_lowercase(), choices.join(" ")),
            };
            put(&mut text, format_args!(" \\\n        '--{}[{about}]{value}'", option.name));
        }
        text += " ;;\n";
    }
    text + "  esac\n}\n_tkm \"$@\"\n"
}

fn fish() -> String {
    let mut text = String::from("# fish completion for tkm\n");
    let quoted = |text: &str| text.replace('\'', "\\'");
    for Command { name, about, .. } in COMMANDS {
        put(&mut text, format_args!("complete -c tkm -n __fish_use_subcommand -f -a {name} -d '{}'\n", quoted(about)));
    }
    let mut option = |condition: &str, option: &Opt| {
        let value = match (option.value, option.choices) {
            (None, _) => String::new(),
            (Some(_), []) => " -r".to_owned(),
            (Some(_), choices) => format!(" -x -a '{}'", choices.join(" ")),
        };
        let about = quoted(option.about);
        put(&mut text, format_args!("complete -c tkm{condition} -l {}{value} -d '{about}'\n", option.name));
    };
    for command in COMMANDS {
        let condition = format!(" -n '__fish_seen_subcommand_from {}'", command.name);
        command.options.iter().for_each(|of_command| option(&condition, of_command));
    }
    COMMON.iter().for_each(|common| option("", common));
    text
}
