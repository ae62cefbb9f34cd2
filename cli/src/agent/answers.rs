//! What the agent answers to each request. The carried secret is never part of it.

use super::http::{Answer, Request};
use super::metrics;
use super::served::Served;
use crate::failure::{self, Failure};
use crate::held::Held;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const JSON: &str = "application/json";
const THERE_ARE: &str =
    "there are GET /token/NAME, GET /metrics, GET /health, POST /invalidate/NAME, POST /lift-pause/NAME\n";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers a request.
pub fn answer(tokens: &BTreeMap<String, Served>, request: &Request) -> Answer {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (request.method.as_str(), &path[..]) {
        ("GET", ["token", name]) => with(tokens, name, |served| token(served, request)),
        ("POST", ["invalidate", name]) => with(tokens, name, |served| invalidate(served, request)),
        ("POST", ["lift-pause", name]) => with(tokens, name, |served| match served.keeper.manager.lift_pause() {
            Ok(()) => Answer::new(200, JSON, "{}\n".into()),
            Err(error) => failed(&error.into()),
        }),
        ("GET", ["metrics"]) => Answer::new(200, metrics::KIND, metrics::text(tokens)),
        ("GET", ["health"]) => Answer::new(200, TEXT, "ok\n".into()),
        (_, ["token" | "invalidate" | "lift-pause", _] | ["metrics" | "health"]) => {
            Answer::new(405, TEXT, THERE_ARE.into())
        }
        _ => Answer::new(404, TEXT, THERE_ARE.into()),
    }
}

fn with(tokens: &BTreeMap<String, Served>, name: &str, answer: impl FnOnce(&Served) -> Answer) -> Answer {
    match tokens.get(name) {
        Some(served) => answer(served),
        None => Answer::new(404, TEXT, format!("there is no token {name:?}\n")),
    }
}

fn token(served: &Served, request: &Request) -> Answer {
    match served.keeper.manager.get() {
        Err(error) => failed(&error.into()),
        Ok(token) => {
            let held = Held::from(&token);
            let wants_json = request.accepts_json || request.query("output") == Some("json");
            let mut answer = match wants_json {
                true => {
                    let body = json!({
                        "token": held.secret,
                        "generation": held.generation,
                        "expires_in_ms": held.expires_in.as_millis() as u64,
                        "stale": held.is_stale,
                    });
                    Answer::new(200, JSON, body.to_string() + "\n")
                }
                false => Answer::new(200, TEXT, held.secret + "\n"),
            };
            answer.headers.push(("Token-Generation", held.generation.to_string()));
            answer.headers.push(("Token-Expires-In", held.expires_in.as_secs().to_string()));
            answer
        }
    }
}

/// Invalidates the token of the generation that the request names, or that the body holds; one that is newer stays.
fn invalidate(served: &Served, request: &Request) -> Answer {
    let manager = &served.keeper.manager;
    let refused = request.body.trim();
    let generation = request.query("generation").map(str::parse::<u64>);
    if generation.as_ref().is_some_and(Result::is_err) || (generation.is_none() && refused.is_empty()) {
        let what = "name the generation (?generation=NUMBER), or send the token that was refused as the body\n";
        return Answer::new(400, TEXT, what.into());
    }
    // What is at hand: an invalidation fetches nothing.
    let held = manager.get_within(Duration::ZERO).ok();
    let meant = held.filter(|token| match &generation {
        None => token.secret() == refused,
        Some(named) => *named == Ok(token.generation()),
    });
    match (meant, generation) {
        (Some(token), _) => manager.invalidate(&token),
        (None, Some(Ok(generation))) => {
            if let Err(error) = served.store.invalidate(&served.place, generation) {
                return failed(&error.into());
            }
        }
        _ => {}
    }
    Answer::new(200, JSON, "{}\n".into())
}

fn failed(failure: &Failure) -> Answer {
    let retry_after = failure.retry_after;
    let body = json!({
        "error": failure.message,
        "exit": failure.exit,
        "retry_after_ms": retry_after.map(|pause| pause.as_millis() as u64),
    });
    let mut answer = Answer::new(http_status(failure), JSON, body.to_string() + "\n");
    if let Some(pause) = retry_after {
        answer.headers.push(("Retry-After", pause.as_secs().max(1).to_string()));
    }
    answer
}

/// A status of HTTP for each exit code.
fn http_status(failure: &Failure) -> u16 {
    match failure.exit {
        failure::USAGE => 400,
        failure::STORE => 502,
        failure::LATER => 503,
        failure::REJECTED => 403,
        _ => 500,
    }
}
