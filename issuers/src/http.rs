//! One request to an issuer: within its limit, on a connection of its own, without redirects, and with a clear word on what
//! became of it. Neither bodies nor secrets leave through its errors.

mod answer;
mod sent;
mod settings;

pub use settings::Http;

pub(crate) use answer::Answer;

use crate::failure::Failure;
use log::{Level, log_enabled};
use sent::{Fate, Sent, Watched};
use std::time::Duration;
use ureq::http::Request;
use ureq::{Agent, SendBody};

impl Http {
    /// Asks without a body. Fails as [`post`](Http::post) does, with less to go by: where nobody can know whether such a request
    /// was sent, its outcome is unknown.
    pub(crate) fn get(&self, url: &str, headers: &[(&str, &str)], limit: Duration) -> Result<Answer, Failure> {
        let request = head("GET", url, headers).body(()).map_err(unsendable)?;
        let agent = self.agent()?;
        let request = agent.configure_request(request).timeout_global(Some(sooner(limit))).build();
        agent.run(request).map_err(|error| sent::failure(&error, Sent::Unsure)).and_then(Answer::read)
    }

    /// Sends a body. Failed before the body was begun: unavailable. After: unknown outcome. An answer is an answer, whatever its
    /// status.
    pub(crate) fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        content_type: &str,
        body: &str,
        limit: Duration,
    ) -> Result<Answer, Failure> {
        let answer = self.post_while(&|| true, url, headers, content_type, body, limit)?;
        answer.ok_or_else(|| Failure::unavailable("the request was not sent"))
    }

    /// As [`post`](Http::post); `may_send` is asked when the connection stands, right before the body leaves. `None` if it said no.
    pub(crate) fn post_while(
        &self,
        may_send: &dyn Fn() -> bool,
        url: &str,
        headers: &[(&str, &str)],
        content_type: &str,
        body: &str,
        limit: Duration,
    ) -> Result<Option<Answer>, Failure> {
        let agent = self.agent()?;
        let mut body = Watched::new(body, may_send);
        let head = head("POST", url, headers).header("content-type", content_type);
        let request = head.header("content-length", body.len()).body(SendBody::from_reader(&mut body));
        let request = request.map_err(unsendable)?;
        let request = agent.configure_request(request).timeout_global(Some(sooner(limit))).build();
        let result = agent.run(request);
        match (result, body.fate()) {
            (_, Fate::Withheld) => Ok(None),
            (Ok(response), _) => Answer::read(response).map(Some),
            (Err(error), Fate::Begun) => Err(sent::failure(&error, Sent::Yes)),
            (Err(error), Fate::Untouched) => Err(sent::failure(&error, Sent::No)),
        }
    }

    fn agent(&self) -> Result<Agent, Failure> {
        // At this level they write every byte that is sent and received into the log.
        if log_enabled!(target: "ureq_proto::util", Level::Trace) || log_enabled!(target: "ureq::util", Level::Trace) {
            return Err(Failure::rejected(
                "nothing is sent while the logger takes trace records of `ureq` and `ureq_proto`, which hold secrets: set the \
                 level of both to debug",
            ));
        }
        self.make_agent().map_err(Failure::rejected)
    }
}

/// Returns a limit that is reached before this one: whoever set it is told what happened, instead of giving up first.
fn sooner(limit: Duration) -> Duration {
    limit - (limit / 5).min(Duration::from_millis(250))
}

fn head(method: &str, url: &str, headers: &[(&str, &str)]) -> ureq::http::request::Builder {
    let head = Request::builder().method(method).uri(url).header("connection", "close");
    headers.iter().fold(head, |head, (name, value)| head.header(*name, *value))
}

fn unsendable(error: ureq::http::Error) -> Failure {
    Failure::rejected(format!("the request cannot be written: {error}"))
}
