//! What a command printed. Nothing of it is ever quoted.

use crate::life;
use serde_json::Value;
use std::time::{Duration, SystemTime};
use token_manager::Fetched;

/// How a command prints its token.
pub enum Output {
    /// As JSON; `life` counts where that names none.
    Json { life: Option<Duration> },
    /// As it is.
    Text { life: Duration },
}

impl Output {
    /// Reads the token.
    ///
    /// # Errors
    /// With what is wrong, in words that say nothing of what was printed.
    pub fn read(&self, stdout: &[u8]) -> Result<Fetched, &'static str> {
        match self {
            Output::Text { life } => {
                let text = std::str::from_utf8(stdout).map_err(|_| "the command printed what is no UTF-8")?.trim();
                match text.is_empty() {
                    true => Err("the command printed nothing"),
                    false => Ok(Fetched::new(text, *life)),
                }
            }
            Output::Json { life } => json(stdout, *life),
        }
    }
}

fn json(stdout: &[u8], life: Option<Duration>) -> Result<Fetched, &'static str> {
    let printed: Value = serde_json::from_slice(stdout).map_err(|_| "the command printed what is no JSON")?;
    let secret = ["access_token", "token"].into_iter().find_map(|name| printed.get(name)?.as_str());
    let secret = secret.ok_or("the command's JSON has no access_token and no token")?;
    let told = match (printed.get("expires_in"), printed.get("expires_at")) {
        (Some(seconds), _) => Some(life::seconds(seconds).ok_or("the command's expires_in is no number of seconds")?),
        (None, Some(date)) => {
            Some(life::until(date, SystemTime::now()).ok_or("the command's expires_at is no RFC 3339 date")?)
        }
        (None, None) => life,
    };
    let told = told.ok_or("the command's JSON has no expires_in and no expires_at; set how long its tokens live")?;
    let fetched = Fetched::new(secret, told);
    match printed.get("refresh_token").map(Value::as_str) {
        None => Ok(fetched),
        Some(Some(carry)) if !carry.is_empty() => Ok(fetched.carry(carry)),
        Some(_) => Err("the command's refresh_token is no text, or empty"),
    }
}
