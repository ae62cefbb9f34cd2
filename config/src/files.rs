//! What can be wrong with a file that an agent is to keep.

use crate::error::ConfigError;
use crate::place::Place;
use crate::settings::File;

/// How a token can be written into a file: the outputs of `tkm get` that ask for nothing else.
pub const FILE_OUTPUTS: [&str; 8] = ["text", "json", "header", "env", "exec-credential", "aws", "bazel", "google"];

/// Returns all that is wrong with a file whose settings are at this place.
pub fn check(file: &File, place: &Place<'_>) -> Vec<ConfigError> {
    let mut wrong = Vec::new();
    let mut refuse = |setting: &str, what: String| wrong.push(place.error_about(setting, what));
    if let Some(template) = &file.template {
        if !template.contains("{token}") {
            refuse("template", "has no {token}; write it where the token goes".into());
        }
        if file.output.is_some() {
            refuse("output", "there is a template too; keep one of the two".into());
        }
    } else if let Some(output) = file.output.as_ref().filter(|output| !FILE_OUTPUTS.contains(&output.as_str())) {
        refuse("output", format!("a file has no output {output:?}; write one of {}", FILE_OUTPUTS.join(", ")));
    }
    let octal = |mode: &String| u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o777);
    if file.mode.as_ref().is_some_and(|mode| !octal(mode)) {
        refuse("mode", "is no octal number such as \"0600\"".into());
    }
    if let Some(owner) = file.owner.as_ref().filter(|owner| !is_user(owner)) {
        refuse("owner", format!("this host has no user {owner:?}; write the name of one that it has, or a number"));
    }
    if let Some(group) = file.group.as_ref().filter(|group| !is_group(group)) {
        refuse("group", format!("this host has no group {group:?}; write the name of one that it has, or a number"));
    }
    wrong
}

#[cfg(unix)]
fn is_user(name: &str) -> bool {
    name.parse::<u32>().is_ok() || nix::unistd::User::from_name(name).is_ok_and(|user| user.is_some())
}

#[cfg(unix)]
fn is_group(name: &str) -> bool {
    name.parse::<u32>().is_ok() || nix::unistd::Group::from_name(name).is_ok_and(|group| group.is_some())
}

#[cfg(not(unix))]
fn is_user(_: &str) -> bool {
    true
}

#[cfg(not(unix))]
fn is_group(_: &str) -> bool {
    true
}
