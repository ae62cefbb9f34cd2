//! How the issuers of Tencent answer: HTTP 200 with an `errcode`, which is 0 or missing where all is well. WeChat's and WeCom's
//! codes mean the same where both have them (their pages "全局返回码", "全局错误码" and those of the single interfaces).

use crate::failure::Failure;
use crate::http::Answer;
use crate::life;
use crate::site::Site;
use serde_json::Value;
use std::time::Duration;
use token_manager::FailureClass::{self, CredentialsRejected, Throttled, Unavailable};
use token_manager::Fetched;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The parent's token of a ticket is wrong, out of date or missing.
const TOKEN_REFUSED: [i64; 4] = [40001, 40014, 41001, 42001];

/// A code, what it means, for how long the issuer shuts out, and what to do.
type Row = (i64, FailureClass, Option<Duration>, &'static str);

const CODES: &[Row] = &[
    (-1, Unavailable, None, "it is busy"),
    (40001, CredentialsRejected, None, "wrong secret"),
    (40002, CredentialsRejected, None, "wrong grant type"),
    (40013, CredentialsRejected, None, "wrong app or corporation id"),
    (40014, CredentialsRejected, None, "wrong token"),
    (40091, CredentialsRejected, None, "wrong secret"),
    (40125, CredentialsRejected, None, "wrong secret"),
    (40164, CredentialsRejected, None, "add this machine's address to the account's list of allowed addresses"),
    (40243, CredentialsRejected, None, "the secret is frozen; unfreeze it on the platform"),
    (41002, CredentialsRejected, None, "no app or corporation id"),
    (41004, CredentialsRejected, None, "no secret"),
    (42001, CredentialsRejected, None, "the token is out of date"),
    // It does not tell which of its limits: a minute's, an hour's or a day's. One request a minute does no harm.
    (45009, Throttled, None, "its quota is used up"),
    (45011, Throttled, Some(MINUTE), "its quota of this minute is used up"),
    (45033, Throttled, Some(MINUTE), "too many requests at once"),
    (48001, CredentialsRejected, None, "this account may not use the interface"),
    (48004, CredentialsRejected, None, "the interface is forbidden to this account"),
    (50002, CredentialsRejected, None, "the user or the account is restricted"),
    (50004, CredentialsRejected, None, "the account may not use tokens"),
    (50007, CredentialsRejected, None, "the account is frozen"),
    (60020, CredentialsRejected, None, "add this machine's address to the app's list of trusted addresses"),
    (61024, CredentialsRejected, None, "a third-party platform has to ask with its own token"),
    (89501, CredentialsRejected, None, "the administrator has to confirm this machine's address"),
    (89503, CredentialsRejected, None, "the administrator has to confirm this machine's address"),
    (89506, CredentialsRejected, Some(HOUR), "the administrator refused this machine's address, for a day"),
    (89507, CredentialsRejected, Some(HOUR), "the administrator refused this machine's address, for an hour"),
];

/// An interface: which field its answer has the token in, and for how long a used-up quota shuts out.
pub(crate) struct Interface {
    pub(crate) field: &'static str,
    pub(crate) quota_of: Duration,
}

/// Why an answer has no token.
pub(crate) enum Refusal {
    /// The token that was shown is not taken.
    Token,
    Failed(Failure),
}

impl Refusal {
    /// Returns what it is where no token was shown.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Refusal::Token => Failure::rejected("the issuer wants a token that it was not shown"),
            Refusal::Failed(failure) => failure,
        }
    }
}

impl Interface {
    /// Asks by GET, and reads what it says.
    pub(crate) fn get(
        &self,
        site: &Site,
        path: &str,
        query: &[(&str, &str)],
        within: Duration,
    ) -> Result<Fetched, Refusal> {
        let answer = site.http.get(&site.address(path, query), &[], within);
        answer.map_err(Refusal::Failed).and_then(|answer| self.read(&answer))
    }

    /// Reads a token and how long it lives.
    pub(crate) fn read(&self, answer: &Answer) -> Result<Fetched, Refusal> {
        if let Some(failure) = answer.failure() {
            return Err(Refusal::Failed(failure));
        }
        let unusable = |what: &str| Refusal::Failed(Failure::unknown(format!("the issuer's answer {what}")));
        let told = answer.json().ok_or_else(|| unusable("is no JSON"))?;
        let code = told.get("errcode").map_or(Some(0), Value::as_i64).ok_or_else(|| unusable("has an odd errcode"))?;
        if code != 0 {
            return Err(match TOKEN_REFUSED.contains(&code) {
                true if self.field == "ticket" => Refusal::Token,
                _ => Refusal::Failed(self.failure(code)),
            });
        }
        let secret = told.get(self.field).and_then(Value::as_str).filter(|secret| !secret.is_empty());
        let life = told.get("expires_in").and_then(life::seconds);
        match (secret, life) {
            (Some(secret), Some(life)) => Ok(Fetched::new(secret, life)),
            (None, _) => Err(unusable("has no token")),
            (_, None) => Err(unusable("does not tell how long the token lives")),
        }
    }

    /// An issuer that names an error granted nothing. A code that is not known here may be one of its bad days.
    fn failure(&self, code: i64) -> Failure {
        match CODES.iter().find(|row| row.0 == code) {
            Some((_, Throttled, pause, what)) => {
                Failure::throttled(said(code, what)).retry_after(pause.or(Some(self.quota_of)))
            }
            Some((_, class, pause, what)) => Failure::new(*class, said(code, what)).retry_after(*pause),
            None => Failure::unavailable(said(code, "see the issuer's page of codes")),
        }
    }
}

fn said(code: i64, what: &str) -> String {
    format!("the issuer answered errcode {code}: {what}")
}
