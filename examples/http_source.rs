//! A token over HTTP, used for calls of an API that answers 401 when it has been revoked: `http_source [URL of an issuer]`.
use std::time::Duration;
use token_manager::{Attempt, FetchError, Fetched, MemoryStore, TokenManager, Verdict};

fn fetch(url: &str, attempt: &Attempt) -> Result<Fetched, FetchError> {
    let request = ureq::get(format!("{url}/token")).config().timeout_global(Some(attempt.remaining())).build();
    let body = match request.call() {
        Ok(mut response) => response.body_mut().read_to_string(),
        Err(ureq::Error::StatusCode(429)) => return Err(FetchError::throttled(None)),
        Err(ureq::Error::StatusCode(code @ 500..)) => return Err(FetchError::unavailable(code.to_string())),
        Err(ureq::Error::StatusCode(code)) => return Err(FetchError::credentials_rejected(code.to_string())),
        Err(ureq::Error::ConnectionFailed) => return Err(FetchError::unavailable("no connection")),
        Err(error) => return Err(FetchError::unknown_outcome(error)), // it may have granted a token
    };
    let body = body.map_err(FetchError::unknown_outcome)?;
    let token: serde_json::Value = serde_json::from_str(&body).map_err(FetchError::unknown_outcome)?;
    let life = Duration::from_secs_f64(token["expires_in"].as_f64().unwrap_or(0.0).clamp(0.0, 1e9));
    Ok(Fetched::new(token["access_token"].as_str().unwrap_or_default(), life))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = testbed::issuer::Issuer::start("127.0.0.1:0", testbed::issuer::Options::default())?;
    let url = std::env::args().nth(1).unwrap_or_else(|| own.url());
    let api = url.clone();
    let source = move |attempt: &Attempt| fetch(&url, attempt);
    let manager = TokenManager::builder("api").store(MemoryStore::new()).source(source).build()?;
    let _fresh = manager.keep_fresh()?; // callers never wait, and a token that another process fetched is used at once
    for call in 1..=3 {
        let answer = manager.with_token(|token| {
            let request = ureq::get(format!("{api}/verify"));
            match request.header("Authorization", format!("Bearer {}", token.secret())).call() {
                Err(ureq::Error::StatusCode(401)) => Verdict::Unauthorized("refused twice".to_owned()),
                answer => Verdict::Accepted(format!("{:?}", answer.map(|answer| answer.status()))),
            }
        })?;
        println!("call {call}: {answer}");
        own.revoke(); // what with_token answers with a new token and a second call
    }
    Ok(())
}
