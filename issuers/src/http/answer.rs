//! An issuer's answer: its status, when it may be asked again, and a body that no Debug shows.

use super::sent::{self, Sent};
use crate::failure::Failure;
use std::fmt;
use std::time::{Duration, SystemTime};
use ureq::Body;
use ureq::http::{HeaderMap, Response};

/// More than this no issuer has to say.
const MAX_ANSWER: u64 = 1 << 20;

/// An answer that has arrived in full.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How long the issuer asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: String,
    headers: HeaderMap,
}

impl Answer {
    /// Reads the body. Where the status says that nothing was granted, a body that breaks off does not matter.
    pub(super) fn read(response: Response<Body>) -> Result<Answer, Failure> {
        let (head, mut body) = response.into_parts();
        let status = head.status.as_u16();
        let retry_after = retry_after(&head.headers, SystemTime::now());
        let headers = head.headers;
        match body.with_config().limit(MAX_ANSWER).lossy_utf8(true).read_to_string() {
            Ok(body) => Ok(Answer { status, retry_after, body, headers }),
            Err(_) if !head.status.is_success() => Ok(Answer { status, retry_after, body: String::new(), headers }),
            Err(error) => Err(sent::failure(&error, Sent::Yes)),
        }
    }

    /// Returns a header that is a text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Returns what the issuer's own clock showed, or ours if it does not tell.
    pub(crate) fn now(&self) -> SystemTime {
        self.header("date").and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now)
    }

    /// Returns the body if it is JSON.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.body).ok()
    }

    /// Returns what the status alone says: a failure unless it is one of success.
    ///
    /// A gateway that had no usable answer (502, 504) may have passed the request on; every other status that is no success says
    /// that this request came to nothing (RFC 9110 §15).
    pub(crate) fn failure(&self) -> Option<Failure> {
        let said = |what: &str| format!("the issuer answered {}{what}", self.status);
        let failure = match self.status {
            200..=299 => return None,
            300..=399 => {
                Failure::unavailable(said(", a redirect, which is not followed: set the address that it leads to"))
            }
            400 | 401 | 403 => Failure::rejected(said("")),
            404 | 405 => Failure::unavailable(said(": check its address")),
            429 => Failure::throttled(said("")),
            502 | 504 => Failure::unknown(said(": a gateway may have passed the request on")),
            _ => Failure::unavailable(said("")),
        };
        Some(failure.retry_after(self.retry_after))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { status, retry_after, body, .. } = self;
        write!(f, "Answer {{ status: {status}, retry_after: {retry_after:?}, body: {} bytes }}", body.len())
    }
}

/// Reads seconds or a date (RFC 9110 §10.2.3). A date is measured by the issuer's own clock if it shows that.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let wait = text("retry-after")?;
    if let Ok(seconds) = wait.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(wait).ok()?;
    let now = text("date").and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default())
}
