//! Helpers of git and docker, which are asked on standard input with a verb behind the command.

use crate::failure::Failure;
use crate::held::Held;
use crate::output;
use crate::tokens;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Read};
use token_manager_config::Config;

/// More than this no program has to say.
const MOST_INPUT: u64 = 64 << 10;
/// The user where neither the program nor the settings name one: what GitHub wants beside the token of an app.
const USER: &str = "x-access-token";

/// What a helper does with a verb.
pub enum Verb {
    /// Answers with the token.
    Get,
    /// The token was refused.
    Erase,
    /// Nothing is kept for the program.
    Nothing(&'static str),
}

/// Returns what a verb means. Verbs that are not known are passed over, as both documentations ask.
pub fn verb(word: Option<&str>) -> Verb {
    match word {
        None | Some("get") => Verb::Get,
        Some("erase") => Verb::Erase,
        Some("list") => Verb::Nothing("{}\n"),
        Some(_) => Verb::Nothing(""),
    }
}

/// Reads what the program says.
pub fn input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().take(MOST_INPUT).read_to_string(&mut text);
    read.map_err(|error| Failure::io("the standard input cannot be read", &error))?;
    Ok(text)
}

/// Returns whether the settings say that the server that is asked for may have the token.
pub fn is_for(config: &Config, name: &str, output: &str, input: &str) -> Result<bool, Failure> {
    let asked = attributes(input);
    let of_git = |part| asked.get(part).copied().unwrap_or_default();
    let address = match output {
        "git-credential" => format!("{}://{}", of_git("protocol"), of_git("host")),
        _ => input.to_owned(),
    };
    Ok(config.is_for(name, &address)?)
}

/// What docker is told where there is nothing for a server (docker-credential-helpers, `ErrCredentialsNotFound`): it goes on without.
pub const NOT_FOUND: &str = "credentials not found in native keychain\n";

/// Answers git (gitcredentials(7), git-credential(1) "Input/output format").
pub fn git(config: &Config, name: &str, held: &Held, input: &str) -> String {
    let asked = attributes(input);
    let user = asked.get("username").copied().or(config.user(name)).unwrap_or(USER);
    let (password, expiry) = (&held.secret, output::git_expiry(held));
    format!("username={user}\npassword={password}\npassword_expiry_utc={expiry}\n")
}

/// Answers docker (docker-credential-helpers, "Development"). A user `<token>` says that the secret is an identity token.
pub fn docker(config: &Config, name: &str, held: &Held, input: &str) -> String {
    let user = config.user(name).unwrap_or(USER);
    json!({ "ServerURL": input.trim(), "Username": user, "Secret": held.secret }).to_string() + "\n"
}

/// git says which password was refused: a newer one stays. Docker says only which server it is for.
pub fn erase(config: &Config, name: &str, input: &str) -> Result<(), Failure> {
    let asked = attributes(input);
    match (asked.get("password"), tokens::stored(config, name)?) {
        (Some(password), Some(stored)) if stored.value.reveal() == *password => {
            tokens::invalidate(config, name, Some(stored.generation), false).map(drop)
        }
        _ => Ok(()),
    }
}

fn attributes(input: &str) -> BTreeMap<&str, &str> {
    input.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once('=')).collect()
}
