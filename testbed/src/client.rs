//! The source: asks an issuer for a token over real HTTP, and tells the library what an answer, or none, means.
//! It never puts an answer's body into an error.

use std::io::ErrorKind;
use std::time::Duration;
use token_manager::{Attempt, FetchError, Fetched};
use ureq::http::Response;
use ureq::{Agent, Body, Error, Timeout};

const BODY_LIMIT: u64 = 64 * 1024;

/// A token as the issuer gave it.
pub struct Issued {
    pub secret: String,
    pub life: Duration,
}

/// What `/verify` said of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verified {
    Valid,
    /// Rejected; how long the token had been invalid when the issuer looked, if it ever was valid.
    Rejected(Option<Duration>),
}

/// Returns a source that asks the issuer with this base URL.
pub fn http_source(url: String) -> impl Fn(&Attempt) -> Result<Fetched, FetchError> + Send + Sync + 'static {
    let agent = agent();
    move |attempt| {
        let issued = ask(&agent, &url, attempt.remaining())?;
        Ok(Fetched::new(issued.secret, issued.life))
    }
}

pub fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None).build();
    Agent::new_with_config(config)
}

/// Asks for a token, once.
pub fn ask(agent: &Agent, url: &str, limit: Duration) -> Result<Issued, FetchError> {
    let answer = agent
        .post(at(url, "/token"))
        // A connection that was kept could be closed by the issuer just now, and then nobody knows whether it issued.
        .header("Connection", "close")
        .config()
        .timeout_global(Some(limit))
        .build()
        .send_form([("grant_type", "client_credentials")]);
    let mut answer = answer.map_err(no_answer)?;
    match answer.status().as_u16() {
        200 => read(&mut answer),
        429 => Err(FetchError::throttled(retry_after(&answer))),
        status @ (400 | 401 | 403) => {
            Err(FetchError::credentials_rejected(format!("issuer refused the client with status {status}")))
        }
        status => Err(FetchError::unavailable(format!("issuer answered with status {status}"))),
    }
}

/// Asks the issuer whether it takes the token.
pub fn verify(agent: &Agent, url: &str, secret: &str, limit: Duration) -> Result<Verified, String> {
    let request = agent.get(at(url, "/verify")).header("Authorization", format!("Bearer {secret}"));
    let answer = request.header("Connection", "close").config().timeout_global(Some(limit)).build().call();
    let mut answer = answer.map_err(|error| format!("cannot verify a token: {error}"))?;
    match answer.status().as_u16() {
        200 => Ok(Verified::Valid),
        401 => {
            let json = json(&mut answer).unwrap_or_default();
            Ok(Verified::Rejected(json["invalid_for_us"].as_u64().map(Duration::from_micros)))
        }
        status => Err(format!("cannot verify a token: issuer answered with status {status}")),
    }
}

/// Returns the issuer's counts as JSON.
pub fn stats(agent: &Agent, url: &str) -> Result<serde_json::Value, String> {
    get(agent, url, "/stats").map_err(|error| format!("cannot read {url}/stats: {error}"))
}

/// Changes the behaviour of an issuer that allows it, as in `fault=hang&hold=1`.
pub fn control(agent: &Agent, url: &str, query: &str) -> Result<(), String> {
    let done = get(agent, url, &format!("/control?{query}"));
    done.map(drop).map_err(|error| format!("cannot set {query} on {url}: {error}"))
}

fn get(agent: &Agent, url: &str, path: &str) -> Result<serde_json::Value, String> {
    let request = agent.get(at(url, path)).header("Connection", "close");
    let request = request.config().timeout_global(Some(Duration::from_secs(5))).build();
    let mut answer = request.call().map_err(|error| error.to_string())?;
    match answer.status().as_u16() {
        200 => json(&mut answer).map_err(|error| error.to_string()),
        status => Err(format!("status {status}")),
    }
}

fn at(url: &str, path: &str) -> String {
    format!("{}{path}", url.trim_end_matches('/'))
}

fn no_answer(error: Error) -> FetchError {
    match &error {
        Error::Timeout(Timeout::Resolve | Timeout::Connect) | Error::HostNotFound | Error::ConnectionFailed => {
            FetchError::unavailable(error)
        }
        Error::Io(cause) if cause.kind() == ErrorKind::ConnectionRefused => FetchError::unavailable(error),
        Error::BadUri(_) => FetchError::credentials_rejected(error),
        // From here on the request may have been sent, and a token issued that nobody received.
        _ => FetchError::unknown_outcome(error),
    }
}

fn retry_after(answer: &Response<Body>) -> Option<Duration> {
    let seconds = answer.headers().get("Retry-After")?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn json(answer: &mut Response<Body>) -> Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>> {
    let text = answer.body_mut().with_config().limit(BODY_LIMIT).read_to_string()?;
    // The parser's own message is left out: it may quote what it could not read.
    serde_json::from_str(&text).map_err(|_| "issuer's answer is not JSON".into())
}

fn read(answer: &mut Response<Body>) -> Result<Issued, FetchError> {
    let json = json(answer).map_err(FetchError::unknown_outcome)?;
    let secret = json["access_token"].as_str();
    let secret = secret.ok_or_else(|| FetchError::unknown_outcome("issuer's answer has no access_token"))?;
    // `expires_in_ms` is this issuer's own: whole seconds are too coarse for tests.
    let life = match (json["expires_in_ms"].as_i64(), json["expires_in"].as_i64()) {
        (Some(millis), _) => u64::try_from(millis).map(Duration::from_millis),
        (None, Some(seconds)) => u64::try_from(seconds).map(Duration::from_secs),
        (None, None) => return Err(FetchError::unknown_outcome("issuer's answer has no expires_in")),
    };
    let life = life.map_err(|_| FetchError::unknown_outcome("issuer's answer has a negative expires_in"))?;
    Ok(Issued { secret: secret.to_string(), life })
}
