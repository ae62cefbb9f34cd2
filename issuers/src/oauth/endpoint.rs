//! A token endpoint: where it is, given or discovered (RFC 8414), and one request to it.

use crate::error::BuildError;
use crate::failure::Failure;
use crate::http::Http;
use crate::oauth::client::{Client, Credentials};
use crate::oauth::reply::{Reply, Tokens};
use form_urlencoded::Serializer;
use serde_json::Value;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use token_manager::{Attempt, FailureClass};

/// How long an issuer's metadata is believed.
const METADATA_LIFE: Duration = Duration::from_secs(3600);

/// A token endpoint and who asks it.
pub struct Endpoint {
    pub(crate) location: Location,
    pub(crate) http: Http,
    pub(crate) client: Option<Client>,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) default_life: Duration,
}

pub(crate) enum Location {
    At(String),
    Of { issuer: String, found: Mutex<Option<Found>> },
}

/// What an issuer's metadata said.
#[derive(Clone)]
pub(crate) struct Found {
    url: String,
    at: Instant,
}

/// What a grant adds to a request.
pub(crate) struct Ask<'a> {
    pub(crate) form: &'a [(&'a str, &'a str)],
    /// Whether a grant consumes what is presented: then an issuer that only says 500 may have consumed it.
    pub(crate) consumes: bool,
    /// Asked right before the request leaves.
    pub(crate) may_send: &'a dyn Fn() -> bool,
}

/// What became of a request that was answered, or withheld.
pub(crate) enum Asked {
    Granted(Tokens),
    GrantRefused(Failure),
    /// It might not be sent any more.
    Withheld,
}

impl Asked {
    /// Returns the tokens, where a refused grant is a failure as any other.
    pub(crate) fn granted(self) -> Result<Tokens, Failure> {
        match self {
            Asked::Granted(tokens) => Ok(tokens),
            Asked::GrantRefused(failure) => Err(failure),
            Asked::Withheld => Err(Failure::unavailable("the request was not sent: it was too late for it")),
        }
    }
}

impl Endpoint {
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        self.http.check()?;
        match &self.location {
            Location::At(url) => self.http.check_url("at", url)?,
            Location::Of { issuer, .. } => self.http.check_url("discover", issuer)?,
        }
        self.client.as_ref().map_or(Ok(()), |client| client.check(&self.http))
    }

    /// Refuses to go on without a client.
    pub(crate) fn check_has_client(&self) -> Result<(), BuildError> {
        let missing = || BuildError::new("client", "is not set; say who asks, such as Client::basic(id, secret)");
        self.client.as_ref().map(drop).ok_or_else(missing)
    }

    /// Returns for whom an assertion is unless that is set.
    pub(crate) fn audience(&self, limit: Duration) -> Result<String, Failure> {
        match &self.location {
            Location::At(url) => Ok(url.clone()),
            Location::Of { issuer, .. } => self.url(limit).map(|_| issuer.clone()),
        }
    }

    /// Asks with nothing that a grant could consume.
    pub(crate) fn ask(&self, form: &[(&str, &str)], attempt: &Attempt) -> Result<Tokens, Failure> {
        self.ask_with(&Ask { form, consumes: false, may_send: &|| true }, attempt)?.granted()
    }

    pub(crate) fn ask_with(&self, ask: &Ask<'_>, attempt: &Attempt) -> Result<Asked, Failure> {
        let url = self.url(attempt.remaining())?;
        let send = |credentials: Credentials| self.send(&url, ask, &credentials, attempt.remaining());
        match &self.client {
            None => send(Credentials::default()),
            Some(client) => client.prove(&self.audience(attempt.remaining())?, send),
        }?
    }

    /// The outer failure is one that other credentials of this client might have prevented.
    fn send(
        &self,
        url: &str,
        ask: &Ask<'_>,
        credentials: &Credentials,
        limit: Duration,
    ) -> Result<Result<Asked, Failure>, Failure> {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(ask.form).extend_pairs(&self.parameters).extend_pairs(&credentials.form);
        let header: Vec<_> = credentials.header.iter().map(|value| ("authorization", value.as_str())).collect();
        let kind = "application/x-www-form-urlencoded";
        let answer = self.http.post_while(ask.may_send, url, &header, kind, &form.finish(), limit)?;
        let Some(answer) = answer else { return Ok(Ok(Asked::Withheld)) };
        match Reply::read(&answer, self.default_life) {
            Reply::Granted(tokens) => Ok(Ok(Asked::Granted(tokens))),
            Reply::GrantRefused(failure) => Ok(Ok(Asked::GrantRefused(failure))),
            // Whoever broke down may have done so on its way back from the grant; 503 says that it did not begin.
            Reply::FailedBy(500..=502 | 504.., failure) if ask.consumes => {
                Ok(Err(Failure { class: FailureClass::UnknownOutcome, ..failure }))
            }
            Reply::Failed(failure) | Reply::FailedBy(_, failure) => Ok(Err(failure)),
            Reply::ClientRefused(failure) => Err(failure),
        }
    }

    /// Returns the endpoint's address, asking the issuer for it where that is due.
    fn url(&self, limit: Duration) -> Result<String, Failure> {
        let (issuer, cache) = match &self.location {
            Location::At(url) => return Ok(url.clone()),
            Location::Of { issuer, found } => (issuer, found),
        };
        // Never waited for: a child forked while somebody held it would wait for ever.
        let known = cache.try_lock().ok().and_then(|found| found.clone());
        if let Some(found) = known.as_ref().filter(|found| found.at.elapsed() < METADATA_LIFE) {
            return Ok(found.url.clone());
        }
        match (self.discover(issuer, limit), known) {
            (Ok(url), _) => {
                if let Ok(mut found) = cache.try_lock() {
                    *found = Some(Found { url: url.clone(), at: Instant::now() });
                }
                Ok(url)
            }
            (Err(_), Some(found)) => Ok(found.url),
            // Whatever became of this question, no token was asked for.
            (Err(failure), None) => Err(Failure { class: FailureClass::Unavailable, ..failure }),
        }
    }

    /// Asks where RFC 8414 §3 says and, for issuers that know OpenID Connect alone, where its §5 does.
    fn discover(&self, issuer: &str, limit: Duration) -> Result<String, Failure> {
        let until = Instant::now() + limit.min(Duration::from_secs(3600));
        let mut last = None;
        for address in well_known(issuer) {
            let limit = until.saturating_duration_since(Instant::now());
            let answer = self.http.get(&address, &[], limit)?;
            match answer.failure() {
                None => return self.endpoint_in(&answer.json().unwrap_or_default(), issuer),
                Some(failure) if answer.status < 500 && answer.status != 429 => last = Some(failure),
                Some(failure) => return Err(failure),
            }
        }
        let cause =
            "the issuer has no metadata where RFC 8414 puts it: check its name, or give its token endpoint with `at`";
        Err(last.map_or_else(|| Failure::unavailable(cause), |failure| Failure { cause: cause.into(), ..failure }))
    }

    fn endpoint_in(&self, metadata: &Value, issuer: &str) -> Result<String, Failure> {
        let refused = |what: &str| Failure::unavailable(format!("the metadata of {issuer} {what}"));
        // RFC 8414 §3.3: whoever answers for another one is not believed.
        if metadata["issuer"].as_str() != Some(issuer) {
            return Err(refused("names another issuer: write it exactly as the issuer does"));
        }
        let aliased = self.client.as_ref().is_some_and(Client::shows_certificate);
        let alias = metadata["mtls_endpoint_aliases"]["token_endpoint"].as_str().filter(|_| aliased); // RFC 8705 §5
        let url = alias.or(metadata["token_endpoint"].as_str()).ok_or_else(|| refused("names no token_endpoint"))?;
        match self.http.check_url("discover", url) {
            Ok(()) => Ok(url.to_owned()),
            Err(_) => Err(refused("names a token_endpoint that is not https")),
        }
    }
}

fn well_known(issuer: &str) -> [String; 2] {
    let trimmed = issuer.trim_end_matches('/');
    let path = trimmed.find("://").and_then(|at| trimmed[at + 3..].find('/').map(|path| at + 3 + path));
    let (host, path) = trimmed.split_at(path.unwrap_or(trimmed.len()));
    [
        format!("{host}/.well-known/oauth-authorization-server{path}"),
        format!("{trimmed}/.well-known/openid-configuration"),
    ]
}
