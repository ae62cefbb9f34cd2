//! A source whose tokens are tried out before the fleet is given them: some issuers' tokens work only a second or two later.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};
use token_manager::{Attempt, FetchError, Fetched, TokenSource};

/// The pauses between two probes: the first one, and the one that doubling ends at.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How long before the end of the attempt the token is handed on at the latest: a share of what is left, and no more than a span.
const RESERVE: (f64, Duration) = (0.1, Duration::from_millis(500));

/// Probes each token that a source brings until it works, and hands it on then.
///
/// ```
/// use std::time::Duration;
/// use token_manager::{Attempt, Fetched, MemoryStore, TokenManager};
/// use token_manager_issuers::probe::Probed;
///
/// let source = |_: &Attempt| Ok(Fetched::new("s3cret", Duration::from_secs(3600)));
/// let works = |secret: &str, _within: Duration| secret == "s3cret"; // ask your API here
/// let manager = TokenManager::builder("api").store(MemoryStore::new()).source(Probed::new(source, works)).build()?;
/// assert_eq!(manager.get()?.secret(), "s3cret");
/// # Ok::<(), token_manager::Error>(())
/// ```
///
/// The first probe is made at once, the next one after 50 ms, and each pause is twice the last one, up to 500 ms.
///
/// **A token that does not work within the [limit](Probed::limit) is handed on all the same**, with a warning in the log: it was granted, and
/// the issuer may have revoked the last one for it. So is one whose probe panics. The limit ends shortly before
/// [`Attempt::remaining`] does, by a tenth of it and half a second at most: a source that returns too late has its token dropped.
///
/// The fleet goes on with the old token meanwhile, if that is valid. What the source brought is in this process alone until the
/// probe ends, also a [carried](Fetched::carry) refresh token, which not even a [journal](token_manager::Builder::journal) has yet:
/// keep the limit short where that would cost a login.
pub struct Probed<S, P> {
    source: S,
    works: P,
    limit: Duration,
}

impl<S, P> Probed<S, P>
where
    S: TokenSource,
    P: Fn(&str, Duration) -> bool + Send + Sync + 'static,
{
    /// Wraps a source. `works` is given the secret and how long it may take, and returns whether an API takes the token; false, too,
    /// where it cannot tell. It must give up in time: nobody ends it.
    pub fn new(source: S, works: P) -> Probed<S, P> {
        Probed { source, works, limit: Duration::from_secs(3) }
    }

    /// Sets how long a token is probed at the most. Defaults to 3 seconds.
    pub fn limit(self, limit: Duration) -> Probed<S, P> {
        Probed { limit, ..self }
    }

    fn probe(&self, secret: &str, until: Instant) -> bool {
        let mut pause = PAUSE.0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            match catch_unwind(AssertUnwindSafe(|| (self.works)(secret, left))) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
            // The last pause ends with the limit, and no probe follows it.
            thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

impl<S, P> TokenSource for Probed<S, P>
where
    S: TokenSource,
    P: Fn(&str, Duration) -> bool + Send + Sync + 'static,
{
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let fetched = self.source.fetch(attempt)?;
        let (now, left) = (Instant::now(), attempt.remaining());
        let limit = left.saturating_sub(left.mul_f64(RESERVE.0).min(RESERVE.1)).min(self.limit);
        if !self.probe(fetched.secret(), now + limit) {
            log::warn!(
                target: "token_manager",
                "the new token, of generation {}, did not work within {limit:.1?}; it is used all the same",
                attempt.generation()
            );
        }
        Ok(fetched)
    }
}

/// Returns a probe that shows the token to this address as a bearer token (RFC 6750 §2.1), by GET: it works once the answer's status
/// is one of success (2xx).
///
/// ```no_run
/// use token_manager_issuers::probe::{Probed, bearer_get};
/// use token_manager_issuers::{Client, ClientCredentials, Http, Secret};
///
/// let client = Client::basic("billing", Secret::env("BILLING_SECRET"));
/// let source = ClientCredentials::at("https://issuer.example.com/token").client(client).build()?;
/// let source = Probed::new(source, bearer_get("https://api.example.com/me", Http::new())?);
/// # drop(source);
/// # Ok::<(), token_manager_issuers::BuildError>(())
/// ```
///
/// # Errors
/// If the address cannot be asked.
#[cfg(feature = "_http")]
pub fn bearer_get(
    url: impl Into<String>,
    http: crate::Http,
) -> Result<impl Fn(&str, Duration) -> bool + Send + Sync + 'static, crate::BuildError> {
    let url = url.into();
    http.check_url("bearer_get", &url)?;
    http.check()?;
    Ok(move |secret: &str, within: Duration| {
        let bearer = format!("Bearer {secret}");
        let answer = http.get(&url, &[("authorization", &bearer)], within);
        answer.is_ok_and(|answer| (200..300).contains(&answer.status))
    })
}

impl<S, P> fmt::Debug for Probed<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probed").field("limit", &self.limit).finish_non_exhaustive()
    }
}
