//! WeCom's tokens of an app (`cgi-bin/gettoken`).
//!
//! What WeCom's pages say (developer.work.weixin.qq.com, "获取access_token", "访问频率限制" and "全局错误码"; read in 2026): a token
//! lives 7,200 seconds, each app has its own, and whoever asks within its life gets the same one. WeCom may end it before its
//! time: call `invalidate` upon 40014 and 42001. A corporation may ask 10,000 times a minute and 150,000 times an hour, an
//! address 20,000 times a minute and 600,000 times an hour; who exceeds that is shut out for a minute or an hour. [`budget`] fits.
//!
//! Nothing that the fleet asks revokes a token, so a lost answer costs no doubt.

use crate::errcode::Interface;
use crate::error::BuildError;
use crate::secret::Secret;
use crate::site::{Site, site_setters};
use std::time::Duration;
use token_manager::{Attempt, Budget, FetchError, Fetched, TokenSource};

const TOKEN: Interface = Interface { field: "access_token", quota_of: Duration::from_secs(60) };

/// 60 requests a minute, 10 at once: 3,610 an hour of the 150,000 that all apps of a corporation share.
pub fn budget() -> Budget {
    Budget::per_minute(60)
}

/// The token of an app of a corporation.
///
/// ```
/// use token_manager::{MemoryStore, TokenManager};
/// use token_manager_issuers::{Secret, wecom};
///
/// let source = wecom::AccessToken::of("ww0123456789abcdef", Secret::env("WECOM_SECRET")).build()?;
/// let builder = TokenManager::builder("wecom").store(MemoryStore::new()).budget(wecom::budget());
/// let manager = builder.source(source).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AccessToken {
    corporation: String,
    secret: Secret,
    site: Site,
}

/// The settings of an [`AccessToken`].
#[derive(Debug)]
pub struct AccessTokenBuilder {
    source: AccessToken,
}

impl AccessToken {
    /// Asks with the corporation's id and the app's secret.
    pub fn of(corporation: impl Into<String>, secret: impl Into<Secret>) -> AccessTokenBuilder {
        let site = Site::new("https://qyapi.weixin.qq.com");
        AccessTokenBuilder { source: AccessToken { corporation: corporation.into(), secret: secret.into(), site } }
    }
}

impl AccessTokenBuilder {
    site_setters!("https://qyapi.weixin.qq.com", source.site);

    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn build(self) -> Result<AccessToken, BuildError> {
        if self.source.corporation.is_empty() {
            return Err(BuildError::new("corporation", "is empty; give the corporation's id (corpid)"));
        }
        self.source.secret.check("secret")?;
        self.source.site.check()?;
        Ok(self.source)
    }
}

impl TokenSource for AccessToken {
    fn fetch(&self, attempt: &Attempt) -> Result<Fetched, FetchError> {
        let fetched = self.secret.try_each(|secret| {
            let query = [("corpid", &*self.corporation), ("corpsecret", secret)];
            let fetched = TOKEN.get(&self.site, "/cgi-bin/gettoken", &query, attempt.remaining());
            fetched.map_err(|refusal| refusal.into_failure().of_no_consequence())
        });
        Ok(fetched?)
    }
}
