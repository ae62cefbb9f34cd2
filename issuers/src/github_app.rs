//! Tokens of a GitHub App's installation.
//!
//! What GitHub's pages say (docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App", "Generating an installation access
//! token for a GitHub App", "REST API endpoints for GitHub Apps" and "Rate limits for the REST API"; read in 2026): the app
//! signs an assertion with RS256 that was made 60 seconds ago, so that clocks may differ, and ends no more than ten minutes
//! from now; it buys a token that lives an hour. Tokens that were issued before go on until their own end, so a lost answer costs
//! no doubt. Whoever exceeds a limit gets 403 or 429, with `retry-after`, or with `x-ratelimit-remaining: 0` and
//! `x-ratelimit-reset`, or has to wait for a minute at least. Requests that create something are limited to 80 a minute and 500 an hour.
//! [`budget`] fits.

use crate::error::BuildError;
use crate::failure::Failure;
use crate::http::Answer;
use crate::jwt::{Claims, SigningKey};
use crate::life;
use crate::secret::Secret;
use crate::site::{Site, site_setters};
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};
use token_manager::{Attempt, Budget, FetchError, Fetched, TokenSource};

/// How long ago an assertion says that it was made, and for how long from now it says that it holds: less than the ten minutes
/// that GitHub allows, for clocks that are ahead.
const BACKDATED: Duration = Duration::from_secs(60);
const ASSERTED: Duration = Duration::from_secs(9 * 60);
/// How long GitHub wants to be left alone where it does not say how long.
const UNLESS_TOLD: Duration = Duration::from_secs(60);

/// 8 requests a minute, 10 at once: 490 an hour at the most, of the 500 that GitHub allows.
pub fn budget() -> Budget {
    Budget::per_minute(8).burst(10)
}

/// The token of one installation of an app.
///
/// ```
/// use token_manager::{MemoryStore, TokenManager};
/// use token_manager_issuers::{Secret, github_app};
///
/// let app = github_app::Installation::of("Iv1.0123456789abcdef", 12345, Secret::file("/run/secrets/app.pem"));
/// let source = app.repository("website").permission("contents", "read").build()?;
/// let builder = TokenManager::builder("github").store(MemoryStore::new()).budget(github_app::budget());
/// let manager = builder.source(source).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Installation {
    app: String,
    number: u64,
    key: Secret,
    repositories: Vec<String>,
    permissions: Map<String, Value>,
    site: Site,
}

/// The settings of an [`Installation`].
#[derive(Debug)]
pub struct InstallationBuilder {
    source: Installation,
}

impl Installation {
    /// Asks for the installation of this number with the app's client id (or its number), and its private key: the PEM that GitHub
    /// made (PKCS#1), or the same as PKCS#8.
    pub fn of(app: impl Into<String>, number: u64, key: impl Into<Secret>) -> InstallationBuilder {
        let (repositories, permissions, site) = (Vec::new(), Map::new(), Site::new("https://api.github.com"));
        InstallationBuilder {
            source: Installation { app: app.into(), number, key: key.into(), repositories, permissions, site },
        }
    }

    fn ask(&self, key: &str, within: Duration) -> Result<Fetched, Failure> {
        let claims = Claims::new().with("iss", &*self.app).lasting(ASSERTED, BACKDATED);
        let assertion = rs256(key).map_err(Failure::rejected)?.sign(None, &claims)?;
        let bearer = format!("Bearer {assertion}");
        let headers = [
            ("authorization", &*bearer),
            ("accept", "application/vnd.github+json"),
            ("x-github-api-version", "2022-11-28"),
        ];
        let mut body = json!({});
        if !self.repositories.is_empty() {
            body["repositories"] = json!(self.repositories);
        }
        if !self.permissions.is_empty() {
            body["permissions"] = json!(self.permissions);
        }
        let url = format!("{}/app/installations/{}/access_tokens", self.site.base, self.number);
        let answer = self.site.http.post(&url, &headers, "application/json", &body.to_string(), within);
        answer.and_then(|answer| read(&answer))
    }
}

impl InstallationBuilder {
    site_setters!("https://api.github.com", source.site);

    /// Adds a repository, by its name alone, that the token is for. Defaults to all that the installation has.
    #[must_use]
    pub fn repository(mut self, name: impl Into<String>) -> InstallationBuilder {
        self.source.repositories.push(name.into());
        self
    }

    /// Adds a permission that the token has, such as `contents` and `read`. Defaults to all that the installation has.
    #[must_use]
    pub fn permission(mut self, name: impl Into<String>, access: impl Into<String>) -> InstallationBuilder {
        self.source.permissions.insert(name.into(), Value::String(access.into()));
        self
    }

    /// Checks the settings, and the key where it is there to be read.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn build(self) -> Result<Installation, BuildError> {
        if self.source.app.is_empty() {
            return Err(BuildError::new("app", "is empty; give the app's client id"));
        }
        self.source.key.check("key")?;
        if let Ok(key) = self.source.key.read() {
            rs256(&key).map_err(|wrong| BuildError::new("key", wrong))?;
        }
        self.source.site.check()?;
        Ok(self.source)
    }
}

impl TokenSource for Installation {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let fetched = self.key.try_each(|key| self.ask(key, attempt.remaining()));
        Ok(fetched.map_err(Failure::of_no_consequence)?)
    }
}

fn rs256(pem: &str) -> Result<SigningKey, &'static str> {
    match SigningKey::from_pem(pem)? {
        key @ SigningKey::Rs256(_) => Ok(key),
        _ => Err("the key is no RSA key, and GitHub wants RS256: give the one that GitHub made"),
    }
}

fn read(answer: &Answer) -> Result<Fetched, Failure> {
    let rejected = |what: &str| Failure::rejected(format!("GitHub answered {}: {what}", answer.status));
    match answer.status {
        401 => Err(rejected("check the app's id, its key and this machine's clock")),
        403 | 429 => Err(match pause(answer) {
            Some(pause) => Failure::throttled(format!("GitHub answered {}: too many requests", answer.status))
                .retry_after(Some(pause)),
            None => rejected("the installation is suspended, or the app may not do this"),
        }),
        404 => Err(rejected("the app has no such installation")),
        422 => Err(rejected("the installation has not all of the repositories and permissions that are asked for")),
        _ => match answer.failure() {
            Some(failure) => Err(failure),
            None => granted(answer).ok_or_else(|| Failure::unknown("GitHub's answer has no token, or no expires_at")),
        },
    }
}

/// Returns for how long to ask no more; nothing for a 403 that speaks of no limit.
fn pause(answer: &Answer) -> Option<Duration> {
    if answer.retry_after.is_some() {
        return answer.retry_after;
    }
    let number = |name| answer.header(name)?.parse::<u64>().ok();
    if let (Some(0), Some(reset)) = (number("x-ratelimit-remaining"), number("x-ratelimit-reset")) {
        let now = answer.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Some(Duration::from_secs(reset).saturating_sub(now));
    }
    let speaks_of_a_limit = answer.status == 429 || answer.body.to_lowercase().contains("rate limit");
    speaks_of_a_limit.then_some(UNLESS_TOLD)
}

/// The life is what GitHub's own clock has left: ours may be wrong.
fn granted(answer: &Answer) -> Option<Fetched> {
    let told = answer.json()?;
    let secret = told.get("token")?.as_str()?;
    Some(Fetched::new(secret, life::until(told.get("expires_at")?, answer.now())?))
}
