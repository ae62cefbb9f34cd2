//! WeChat's tokens of an account (`cgi-bin/stable_token`, `cgi-bin/token`) and the tickets that they buy
//! (`cgi-bin/ticket/getticket`).
//!
//! What WeChat's pages say (developers.weixin.qq.com, "getStableAccessToken", "getAccessToken", "access_token 使用说明",
//! "接口调用频次限制说明" and "getTicket"; read in 2026):
//!
//! | | [stable](AccessToken::stable) | [classic](AccessToken::classic) | [ticket](Ticket) |
//! |---|---|---|---|
//! | lives | up to 7,200 s | up to 7,200 s | 7,200 s |
//! | asked again | the same token, until 300 s before its end | a new one each time | not said |
//! | the last one | goes on for 300 s after its successor came | the same; it is revoked then | not said |
//! | quota | 10,000 a minute, 500,000 a day | 2,000 a day (200 for a test account) | "very limited" |
//! | budget that fits | [`stable_budget`] | [`classic_budget`] | [`ticket_budget`] |
//!
//! Prefer the stable one, as WeChat does: nothing that the fleet asks revokes a token, so a lost answer costs no doubt. With the classic
//! one every answer that is lost may have revoked the token in use: it is doubted, and refreshed once more. Hold a
//! [`keep_fresh`](token_manager::TokenManager::keep_fresh) guard in each process with either, or one that is idle for five minutes goes
//! on with a token that is revoked.

use crate::derived::{Denied, Derived};
use crate::errcode::{Interface, Refusal};
use crate::error::BuildError;
use crate::failure::Failure;
use crate::secret::Secret;
use crate::site::{Site, site_setters};
use serde_json::json;
use std::fmt;
use std::time::Duration;
use token_manager::{Attempt, Budget, FetchError, Fetched, Token, TokenManager, TokenSource};

const TOKEN: Interface = Interface { field: "access_token", quota_of: Duration::from_secs(3600) };
const TICKET: Interface = Interface { field: "ticket", quota_of: Duration::from_secs(3600) };
const JSON: &str = "application/json";

/// 60 requests a minute, 10 at once: 86,410 a day of the 500,000 that WeChat allows.
pub fn stable_budget() -> Budget {
    Budget::per_minute(60)
}

/// One request a minute, 10 at once: 1,450 a day at the most, of the 2,000 that WeChat allows a new account.
pub fn classic_budget() -> Budget {
    Budget::per_minute(1).burst(10)
}

/// One request a minute, 10 at once. WeChat's page tells no number; WeCom's grants an app 100 tickets an hour.
pub fn ticket_budget() -> Budget {
    Budget::per_minute(1).burst(10)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Stable,
    Classic,
}

/// The token of an account: an official account, a mini program, a mini game.
///
/// ```
/// use token_manager::{MemoryStore, TokenManager};
/// use token_manager_issuers::Secret;
/// use token_manager_issuers::wechat::{AccessToken, stable_budget};
///
/// let source = AccessToken::stable("wx0123456789abcdef", Secret::env("WECHAT_SECRET")).build()?;
/// let builder = TokenManager::builder("wechat").store(MemoryStore::new()).budget(stable_budget());
/// let manager = builder.source(source).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AccessToken {
    kind: Kind,
    app: String,
    secret: Secret,
    site: Site,
}

/// The settings of an [`AccessToken`].
#[derive(Debug)]
pub struct AccessTokenBuilder {
    source: AccessToken,
}

impl AccessToken {
    /// Asks `cgi-bin/stable_token` in its normal mode: within its life the same token comes back, and none is ever revoked.
    ///
    /// It is asked early by default, and answers with the token in use until 300 seconds before that one's end; each answer is asked
    /// after later than the last one, so that this costs two or three requests a life.
    pub fn stable(app: impl Into<String>, secret: impl Into<Secret>) -> AccessTokenBuilder {
        AccessToken::begin(Kind::Stable, app, secret)
    }

    /// Asks `cgi-bin/token`, which revokes the last token, after five minutes, each time it issues one.
    pub fn classic(app: impl Into<String>, secret: impl Into<Secret>) -> AccessTokenBuilder {
        AccessToken::begin(Kind::Classic, app, secret)
    }

    fn begin(kind: Kind, app: impl Into<String>, secret: impl Into<Secret>) -> AccessTokenBuilder {
        let site = Site::new("https://api.weixin.qq.com");
        AccessTokenBuilder { source: AccessToken { kind, app: app.into(), secret: secret.into(), site } }
    }

    /// Has a stable token revoked that has leaked, within so long: the forced mode, which no fetch ever uses, since WeChat allows it
    /// twenty times a day and not twice in thirty seconds. Used twice, with thirty seconds between, it revokes a leaked token
    /// at once. [Invalidate](TokenManager::invalidate) the manager's token after it: the next fetch brings the new one.
    ///
    /// # Errors
    /// As a fetch has them; a classic token has no such mode, and its source is refused.
    pub fn force_refresh(&self, within: Duration) -> Result<(), FetchError> {
        match self.kind {
            Kind::Stable => Ok(self.secret.try_each(|secret| self.ask_stable(secret, true, within)).map(drop)?),
            Kind::Classic => {
                let instead = "a classic token has no forced mode: invalidate it, and the next fetch revokes it";
                Err(FetchError::unavailable(instead))
            }
        }
    }

    fn ask_stable(&self, secret: &str, force: bool, within: Duration) -> Result<Fetched, Failure> {
        let body = json!({
            "grant_type": "client_credential", "appid": self.app, "secret": secret, "force_refresh": force,
        });
        let url = format!("{}/cgi-bin/stable_token", self.site.base);
        let answer = self.site.http.post(&url, &[], JSON, &body.to_string(), within);
        answer.and_then(|answer| TOKEN.read(&answer).map_err(Refusal::into_failure))
    }

    fn ask_classic(&self, secret: &str, within: Duration) -> Result<Fetched, Failure> {
        let query = [("grant_type", "client_credential"), ("appid", &self.app), ("secret", secret)];
        TOKEN.get(&self.site, "/cgi-bin/token", &query, within).map_err(Refusal::into_failure)
    }
}

impl AccessTokenBuilder {
    site_setters!("https://api.weixin.qq.com", source.site);

    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn build(self) -> Result<AccessToken, BuildError> {
        if self.source.app.is_empty() {
            return Err(BuildError::new("app", "is empty; give the account's AppID"));
        }
        self.source.secret.check("secret")?;
        self.source.site.check()?;
        Ok(self.source)
    }
}

impl TokenSource for AccessToken {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let fetched = self.secret.try_each(|secret| match self.kind {
            Kind::Stable => self.ask_stable(secret, false, attempt.remaining()).map_err(Failure::of_no_consequence),
            Kind::Classic => self.ask_classic(secret, attempt.remaining()),
        });
        Ok(fetched?)
    }
}

type Ask = Box<dyn Fn(&Token, &Attempt) -> Result<Fetched, Denied> + Send + Sync>;

/// A ticket that an account's token buys, such as the `jsapi_ticket` that signs pages for the JS-SDK.
///
/// ```
/// use token_manager::{MemoryStore, TokenManager};
/// use token_manager_issuers::Secret;
/// use token_manager_issuers::wechat::{AccessToken, Ticket, ticket_budget};
///
/// let store = MemoryStore::new();
/// let source = AccessToken::stable("wx0123456789abcdef", Secret::env("WECHAT_SECRET")).build()?;
/// let tokens = TokenManager::builder("wechat").store(store.clone()).source(source).build()?;
/// let source = Ticket::jsapi(tokens).build()?;
/// let tickets = TokenManager::builder("wechat-ticket").store(store).budget(ticket_budget()).source(source).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Where WeChat does not take the token (40001, 40014, 42001), that is invalidated, and the ticket asked for once more, as
/// [`Derived`] does.
pub struct Ticket(Derived<Ask>);

/// The settings of a [`Ticket`].
#[derive(Debug)]
pub struct TicketBuilder {
    parent: TokenManager,
    kind: String,
    site: Site,
}

impl Ticket {
    /// Asks for a ticket of the type `jsapi`, with the tokens of this manager.
    pub fn jsapi(parent: TokenManager) -> TicketBuilder {
        TicketBuilder { parent, kind: "jsapi".into(), site: Site::new("https://api.weixin.qq.com") }
    }
}

impl TicketBuilder {
    site_setters!("https://api.weixin.qq.com", site);

    /// Asks for a ticket of another type, such as `wx_card`. Defaults to `jsapi`.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> TicketBuilder {
        TicketBuilder { kind: kind.into(), ..self }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn build(self) -> Result<Ticket, BuildError> {
        let TicketBuilder { parent, kind, site } = self;
        site.check()?;
        let ask = move |token: &Token, attempt: &Attempt| {
            let query = [("access_token", token.secret()), ("type", &kind)];
            let ticket = TICKET.get(&site, "/cgi-bin/ticket/getticket", &query, attempt.remaining());
            ticket.map_err(|refusal| match refusal {
                Refusal::Token => Denied::ParentToken,
                Refusal::Failed(failure) => failure.of_no_consequence().into(),
            })
        };
        Ok(Ticket(Derived::new(parent, Box::new(ask))))
    }
}

impl TokenSource for Ticket {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        self.0.fetch(attempt)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket")
    }
}
