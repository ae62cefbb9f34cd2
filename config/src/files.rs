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
    if let Some(owner) = file.owner.as_ref().filter(|owner| user_id(owner).is_none()) {
        refuse("owner", format!("this host has no user {owner:?}; write the name of one that it has, or a number"));
    }
    if let Some(group) = file.group.as_ref().filter(|group| group_id(group).is_none()) {
        refuse("group", format!("this host has no group {group:?}; write the name of one that it has, or a number"));
    }
    wrong
}

/// Returns the number of a user: the name's own, or that which this host has for it.
#[cfg(unix)]
pub fn user_id(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| Some(nix::unistd::User::from_name(name).ok()??.uid.as_raw()))
}

/// Returns the number of a group, as [`user_id`].
#[cfg(unix)]
pub fn group_id(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| Some(nix::unistd::Group::from_name(name).ok()??.gid.as_raw()))
}

/// Where no file has an owner to be set, any name will do.
#[cfg(not(unix))]
fn user_id(_: &str) -> Option<u32> {
    Some(0)
}

#[cfg(not(unix))]
fn group_id(_: &str) -> Option<u32> {
    Some(0)
}
