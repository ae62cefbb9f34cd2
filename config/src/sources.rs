//! Sources from settings: the builders of the issuers crate, told what the file says.

use crate::error::ConfigError;
use crate::place::Place;
use crate::settings::{
    Class, Client, ClientCredentials, Command, Exchanged, GithubApp, Http, JwtBearer, Kinds, Method, Probe,
    RefreshToken, TokenExchange, Wechat, WechatTicket, Wecom,
};
use token_manager::{Attempt, Budget, FailureClass, TokenManager, TokenSource};
use token_manager_issuers as issuers;
#[cfg(unix)]
use token_manager_issuers::command::CommandSource;
use token_manager_issuers::probe::{Probed, bearer_get};
use token_manager_issuers::{BuildError, TokenType, github_app, wechat, wecom};

/// A source, and the budget that fits its issuer unless another is set.
pub struct Made {
    pub source: Box<dyn TokenSource>,
    pub budget: Option<Budget>,
}

impl Made {
    fn new(source: impl TokenSource) -> Made {
        Made { source: Box::new(source), budget: None }
    }

    /// Has each new token tried out before it is used.
    pub fn probed(self, probe: &Probe, place: &Place<'_>) -> Result<Made, ConfigError> {
        let works = bearer_get(&probe.url, probe.http.to_http(&place.below("http"))?).map_err(refused(place))?;
        let source = self.source;
        let probed = Probed::new(move |attempt: &Attempt| source.fetch(attempt), works);
        Ok(Made {
            source: Box::new(probe.limit.into_iter().fold(probed, |probed, limit| probed.limit(limit.0))),
            ..self
        })
    }

    fn with_budget(self, budget: Budget) -> Made {
        Made { budget: Some(budget), ..self }
    }
}

/// Applies a setter for each setting that is given.
macro_rules! set {
    ($builder:ident, $($setter:ident($value:expr)),* $(,)?) => {
        $(if let Some(value) = $value { $builder = $builder.$setter(value); })*
    };
}

/// Tells a builder of the OAuth grants what they have in common.
macro_rules! common {
    ($kind:ident, $settings:ident, $place:ident) => {{
        let mut builder = match (&$settings.url, &$settings.discover) {
            (Some(url), None) => issuers::$kind::at(url),
            (None, Some(issuer)) => issuers::$kind::discover(issuer),
            (None, None) => return Err($place.error("set url, the token endpoint, or discover, the issuer's address")),
            (Some(_), Some(_)) => return Err($place.below("discover").error("url is given too; keep one of the two")),
        };
        if let Some(client) = &$settings.client {
            builder = builder.client(client.to_client(&$place.below("client"))?);
        }
        set!(builder, scope($settings.scope.as_ref()), default_life($settings.default_life.map(|life| life.0)));
        builder = $settings.audience.0.iter().fold(builder, |builder, name| builder.audience(name));
        builder = $settings.resource.0.iter().fold(builder, |builder, url| builder.resource(url));
        builder = $settings.parameters.iter().fold(builder, |builder, (name, value)| builder.parameter(name, value));
        builder.http($settings.http.to_http(&$place.below("http"))?)
    }};
}

/// Tells a vendor's builder what they have in common.
macro_rules! site {
    ($builder:ident, $settings:ident, $place:ident) => {{
        let mut builder = $builder.http($settings.http.to_http(&$place.below("http"))?);
        set!(builder, base_url($settings.base_url.as_ref()));
        builder
    }};
}

impl Kinds {
    /// Makes the source; `parent` makes the manager of another token of the file.
    pub fn make(
        &self,
        place: &Place<'_>,
        parent: &mut dyn FnMut(&Place<'_>, &str) -> Result<TokenManager, ConfigError>,
    ) -> Result<Made, ConfigError> {
        let mut made = Vec::new();
        macro_rules! each {
            ($($kind:ident => $make:expr),* $(,)?) => {
                $(if let Some(settings) = &self.$kind {
                    let place = place.below(stringify!($kind));
                    let make: &mut dyn FnMut(&Place<'_>) -> Result<Made, ConfigError> =
                        &mut |place| $make(settings, place);
                    let source = make(&place)?;
                    made.push((place, source));
                })*
            };
        }
        each! {
            client_credentials => client_credentials,
            refresh_token => refresh_token,
            jwt_bearer => jwt_bearer,
            token_exchange => token_exchange,
            wechat => wechat_token,
            wechat_ticket => |settings, place| wechat_ticket(settings, place, parent),
            wecom => wecom_token,
            github_app => github_token,
            command => command,
        }
        match (made.pop(), made.pop()) {
            (Some((_, made)), None) => Ok(made),
            (None, _) => Err(place.error(
                "has no kind; give one table of client_credentials, refresh_token, jwt_bearer, token_exchange, wechat, \
                 wechat_ticket, wecom, github_app, command",
            )),
            (Some((place, _)), Some(_)) => Err(place.error("is a second source of this token; keep one")),
        }
    }
}

fn refused(place: &Place<'_>) -> impl FnOnce(BuildError) -> ConfigError {
    let place = place.clone();
    move |error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})")).unwrap_or_default();
        // That is where the address is given.
        let setting = if matches!(error.setting(), "at" | "bearer_get") { "url" } else { error.setting() };
        place.error_about(setting, format!("{error}{cause}"))
    }
}

fn client_credentials(settings: &ClientCredentials, place: &Place<'_>) -> Result<Made, ConfigError> {
    let builder = common!(ClientCredentials, settings, place);
    builder.build().map(Made::new).map_err(refused(place))
}

fn refresh_token(settings: &RefreshToken, place: &Place<'_>) -> Result<Made, ConfigError> {
    let mut builder = common!(RefreshToken, settings, place);
    set!(builder, reuse_window(settings.reuse_window.map(|window| window.0)));
    if let Some(first) = &settings.first {
        builder = builder.first(place.below("first").secret(first)?);
    }
    builder.build().map(Made::new).map_err(refused(place))
}

fn jwt_bearer(settings: &JwtBearer, place: &Place<'_>) -> Result<Made, ConfigError> {
    let mut builder = common!(JwtBearer, settings, place);
    if let Some(key) = &settings.key {
        builder = builder.key(place.below("key").secret(key)?);
    }
    if let Some(assertion) = &settings.assertion {
        builder = builder.assertion(place.below("assertion").secret(assertion)?);
    }
    set!(
        builder,
        key_id(settings.key_id.as_ref()),
        issuer(settings.issuer.as_ref()),
        subject(settings.subject.as_ref()),
        assertion_audience(settings.assertion_audience.as_ref()),
        assertion_life(settings.assertion_life.map(|life| life.0)),
    );
    let claims = settings.claims.iter().flatten();
    builder = claims.fold(builder, |builder, (name, value)| builder.claim(name, value.clone()));
    builder.build().map(Made::new).map_err(refused(place))
}

fn token_exchange(settings: &TokenExchange, place: &Place<'_>) -> Result<Made, ConfigError> {
    let given = |part: &str, exchanged: &Exchanged| {
        let token = place.below(part).below("token").secret(&exchanged.token)?;
        Ok((token, token_type(&exchanged.kind)))
    };
    let (token, kind) = given("subject", &settings.subject)?;
    let mut builder = common!(TokenExchange, settings, place).subject(token, kind);
    if let Some(actor) = &settings.actor {
        let (token, kind) = given("actor", actor)?;
        builder = builder.actor(token, kind);
    }
    set!(builder, wanted(settings.wanted.as_deref().map(token_type)));
    builder.build().map(Made::new).map_err(refused(place))
}

fn token_type(name: &str) -> TokenType {
    match name {
        "access_token" => TokenType::access_token(),
        "jwt" => TokenType::jwt(),
        "id_token" => TokenType::id_token(),
        "refresh_token" => TokenType::refresh_token(),
        uri => TokenType::of(uri),
    }
}

fn wechat_token(settings: &Wechat, place: &Place<'_>) -> Result<Made, ConfigError> {
    let secret = place.below("secret").secret(&settings.secret)?;
    let (builder, budget) = match settings.classic {
        false => (wechat::AccessToken::stable(&settings.app, secret), wechat::stable_budget()),
        true => (wechat::AccessToken::classic(&settings.app, secret), wechat::classic_budget()),
    };
    let source = site!(builder, settings, place).build().map_err(refused(place))?;
    Ok(Made::new(source).with_budget(budget))
}

fn wechat_ticket(
    settings: &WechatTicket,
    place: &Place<'_>,
    parent: &mut dyn FnMut(&Place<'_>, &str) -> Result<TokenManager, ConfigError>,
) -> Result<Made, ConfigError> {
    let builder = wechat::Ticket::jsapi(parent(&place.below("token"), &settings.token)?);
    let mut builder = site!(builder, settings, place);
    set!(builder, kind(settings.kind.as_ref()));
    let source = builder.build().map_err(refused(place))?;
    Ok(Made::new(source).with_budget(wechat::ticket_budget()))
}

fn wecom_token(settings: &Wecom, place: &Place<'_>) -> Result<Made, ConfigError> {
    let builder = wecom::AccessToken::of(&settings.corporation, place.below("secret").secret(&settings.secret)?);
    let source = site!(builder, settings, place).build().map_err(refused(place))?;
    Ok(Made::new(source).with_budget(wecom::budget()))
}

fn github_token(settings: &GithubApp, place: &Place<'_>) -> Result<Made, ConfigError> {
    let key = place.below("key").secret(&settings.key)?;
    let builder = github_app::Installation::of(&settings.app, settings.installation, key);
    let mut builder = site!(builder, settings, place);
    builder = settings.repositories.iter().fold(builder, |builder, name| builder.repository(name));
    builder = settings.permissions.iter().fold(builder, |builder, (name, access)| builder.permission(name, access));
    let source = builder.build().map_err(refused(place))?;
    Ok(Made::new(source).with_budget(github_app::budget()))
}

#[cfg(not(unix))]
fn command(_: &Command, place: &Place<'_>) -> Result<Made, ConfigError> {
    Err(place.error("commands are run on Unix alone"))
}

#[cfg(unix)]
fn command(settings: &Command, place: &Place<'_>) -> Result<Made, ConfigError> {
    let mut source = match (&settings.run[..], &settings.shell) {
        ([program, arguments @ ..], None) => {
            arguments.iter().fold(CommandSource::new(program), |source, argument| source.argument(argument))
        }
        ([], Some(script)) => CommandSource::shell(script),
        _ => return Err(place.error("set either run, a program and its arguments, or shell, a script")),
    };
    source = settings.environment.iter().fold(source, |source, (name, value)| source.environment(name, value));
    source = match (settings.plain_text, settings.life) {
        (true, Some(life)) => source.plain_text(life.0),
        (true, None) => return Err(place.below("plain_text").error("set life too: plain text does not tell it")),
        (false, Some(life)) => source.life(life.0),
        (false, None) => source,
    };
    for (code, class) in &settings.exit_codes {
        let place = place.below("exit_codes");
        let code: u8 = code.parse().map_err(|_| place.below(code).error("is no exit code, a number from 1 to 255"))?;
        source = source.exit_code(code.into(), (*class).into());
    }
    Ok(Made::new(source))
}

impl From<Class> for FailureClass {
    fn from(class: Class) -> FailureClass {
        match class {
            Class::Throttled => FailureClass::Throttled,
            Class::Unavailable => FailureClass::Unavailable,
            Class::CredentialsRejected => FailureClass::CredentialsRejected,
            Class::UnknownOutcome => FailureClass::UnknownOutcome,
        }
    }
}

impl Client {
    fn to_client(&self, place: &Place<'_>) -> Result<issuers::Client, ConfigError> {
        let method = self.method.unwrap_or(match self.secret {
            Some(_) => Method::Basic,
            None => Method::Public,
        });
        let proof = match (&self.secret, method) {
            (None, Method::Certificate | Method::Public) => None,
            (Some(secret), Method::Basic | Method::Post | Method::PrivateKey | Method::Assertion) => {
                Some(place.below("secret").secret(secret)?)
            }
            (None, _) => return Err(place.error("this method needs a secret: set secret, where it or the key is")),
            (Some(_), _) => return Err(place.below("secret").error("this method has none; remove it")),
        };
        let id = &self.id;
        let mut client = match (method, proof) {
            (Method::Basic, Some(secret)) => issuers::Client::basic(id, secret),
            (Method::Post, Some(secret)) => issuers::Client::post(id, secret),
            (Method::PrivateKey, Some(key)) => issuers::Client::private_key(id, key),
            (Method::Assertion, Some(assertion)) => issuers::Client::assertion(id, assertion),
            (Method::Certificate, _) => issuers::Client::certificate(id),
            _ => issuers::Client::public(id),
        };
        set!(client, key_id(self.key_id.as_ref()), audience(self.audience.as_ref()));
        Ok(client)
    }
}

impl Http {
    fn to_http(&self, place: &Place<'_>) -> Result<issuers::Http, ConfigError> {
        let mut http = issuers::Http::new();
        if let Some(proxy) = &self.proxy {
            http = http.proxy(place.below("proxy").secret(proxy)?);
        }
        if let Some(authority) = &self.authority {
            http = http.authority(place.below("authority").secret(authority)?);
        }
        if let Some(pair) = &self.client_certificate {
            let place = place.below("client_certificate");
            http = http
                .client_certificate(place.below("chain").secret(&pair.chain)?, place.below("key").secret(&pair.key)?);
        }
        if self.no_proxy {
            http = http.no_proxy();
        }
        if self.allow_plain_http {
            http = http.allow_plain_http();
        }
        Ok(http)
    }
}
