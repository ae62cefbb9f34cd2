//! The kinds of sources, each with its settings and how it is built of them.

use super::any::AnySource;
use super::values::{Form, Values};
use crate::error::BuildError;
use crate::http::Http;
use crate::oauth::{Client, Grant, OAuthBuilder};
use crate::probe::{Probed, bearer_get};
use crate::refresh_token::{Login, RefreshToken};
use crate::{ClientCredentials, JwtBearer, Secret, TokenExchange, TokenType, github_app, wechat, wecom};
use token_manager::TokenSource;

/// A setting's name and form.
pub(super) type Setting = (&'static str, Form);

pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) settings: &'static [&'static [Setting]],
    pub(super) build: fn(&mut Values) -> Result<AnySource, BuildError>,
}

const PROBE: &[Setting] = &[("probe_url", Form::Text), ("probe_limit", Form::Seconds)];
const HTTP: &[Setting] = &[
    ("proxy", Form::Secret),
    ("no_proxy", Form::Choice),
    ("authority", Form::Secret),
    ("certificate", Form::Secret),
    ("certificate_key", Form::Secret),
    ("allow_plain_http", Form::Choice),
];
const OAUTH: &[Setting] = &[
    ("url", Form::Text),
    ("discover", Form::Text),
    ("client_auth", Form::Text),
    ("client_id", Form::Text),
    ("client_secret", Form::Secret),
    ("client_key", Form::Secret),
    ("client_key_id", Form::Text),
    ("client_audience", Form::Text),
    ("client_assertion", Form::Secret),
    ("scope", Form::Text),
    ("audience", Form::Texts),
    ("resource", Form::Texts),
    ("parameter", Form::Named),
    ("default_life", Form::Seconds),
];
const REFRESH: &[Setting] = &[("reuse_window", Form::Seconds), ("first_refresh_token", Form::Secret)];
const BEARER: &[Setting] = &[
    ("key", Form::Secret),
    ("key_id", Form::Text),
    ("issuer", Form::Text),
    ("subject", Form::Text),
    ("assertion_audience", Form::Text),
    ("assertion_life", Form::Seconds),
    ("assertion", Form::Secret),
    ("claim", Form::Named),
];
const EXCHANGE: &[Setting] = &[
    ("subject_token", Form::Secret),
    ("subject_type", Form::Text),
    ("actor_token", Form::Secret),
    ("actor_type", Form::Text),
    ("wanted_type", Form::Text),
];
const WECHAT: &[Setting] = &[("app_id", Form::Text), ("secret", Form::Secret), ("base_url", Form::Text)];
const TICKET: &[Setting] = &[("type", Form::Text), ("base_url", Form::Text)];
const WECOM: &[Setting] = &[("corp_id", Form::Text), ("secret", Form::Secret), ("base_url", Form::Text)];
const GITHUB: &[Setting] = &[
    ("app_id", Form::Text),
    ("installation", Form::Text),
    ("key", Form::Secret),
    ("repository", Form::Texts),
    ("permission", Form::Named),
    ("base_url", Form::Text),
];
#[cfg(unix)]
const COMMAND: &[Setting] = &[
    ("program", Form::Text),
    ("argument", Form::Texts),
    ("environment", Form::Named),
    ("plain_text", Form::Choice),
    ("life", Form::Seconds),
    ("exit_code", Form::Named),
];

pub(super) const KINDS: &[Kind] = &[
    Kind { name: "client_credentials", settings: &[OAUTH, HTTP, PROBE], build: client_credentials },
    Kind { name: "refresh_token", settings: &[REFRESH, OAUTH, HTTP, PROBE], build: refresh_token },
    Kind { name: "jwt_bearer", settings: &[BEARER, OAUTH, HTTP, PROBE], build: jwt_bearer },
    Kind { name: "token_exchange", settings: &[EXCHANGE, OAUTH, HTTP, PROBE], build: token_exchange },
    Kind { name: "wechat_stable", settings: &[WECHAT, HTTP, PROBE], build: wechat_stable },
    Kind { name: "wechat_classic", settings: &[WECHAT, HTTP, PROBE], build: wechat_classic },
    Kind { name: "wechat_ticket", settings: &[TICKET, HTTP, PROBE], build: wechat_ticket },
    Kind { name: "wecom", settings: &[WECOM, HTTP, PROBE], build: wecom },
    Kind { name: "github_app", settings: &[GITHUB, HTTP, PROBE], build: github },
    #[cfg(unix)]
    Kind { name: "command", settings: &[COMMAND, HTTP, PROBE], build: command },
];

/// Has each new token tried out, if that is set.
pub(super) fn probed(source: AnySource, values: &Values) -> Result<AnySource, BuildError> {
    let Some(url) = values.text("probe_url") else { return Ok(source) };
    let probed = Probed::new(source, bearer_get(url, http(values)?)?);
    Ok(match values.seconds("probe_limit")? {
        Some(limit) => AnySource::new(probed.limit(limit)),
        None => AnySource::new(probed),
    })
}

fn http(values: &Values) -> Result<Http, BuildError> {
    let mut http = Http::new();
    if let Some(url) = values.secret("proxy") {
        http = http.proxy(url);
    }
    if values.is_set("no_proxy") {
        http = http.no_proxy();
    }
    if let Some(pem) = values.secret("authority") {
        http = http.authority(pem);
    }
    if let Some(chain) = values.secret("certificate") {
        http = http.client_certificate(chain, values.needed_secret("certificate_key")?);
    }
    Ok(if values.is_set("allow_plain_http") { http.allow_plain_http() } else { http })
}

/// Returns the client, known by what is set: a secret, a key, an assertion or nothing, unless `client_auth` says it.
fn client(values: &Values) -> Result<Option<Client>, BuildError> {
    let Some(id) = values.text("client_id") else {
        let proof =
            ["client_secret", "client_key", "client_assertion"].iter().any(|name| values.secret(name).is_some());
        return if proof { values.needed("client_id").map(|_| None) } else { Ok(None) };
    };
    let secret = |name| values.needed_secret(name);
    let client = match values.text("client_auth") {
        Some("basic") => Client::basic(id, secret("client_secret")?),
        Some("post") => Client::post(id, secret("client_secret")?),
        Some("private_key") => Client::private_key(id, secret("client_key")?),
        Some("assertion") => Client::assertion(id, secret("client_assertion")?),
        Some("certificate") => Client::certificate(id),
        Some("public") => Client::public(id),
        Some(_) => {
            let ways = "is unknown; use basic, post, private_key, assertion, certificate or public";
            return Err(BuildError::new("client_auth", ways));
        }
        None => {
            let given = |name| values.secret(name);
            match (given("client_secret"), given("client_key"), given("client_assertion")) {
                (Some(secret), None, None) => Client::basic(id, secret),
                (None, Some(key), None) => Client::private_key(id, key),
                (None, None, Some(assertion)) => Client::assertion(id, assertion),
                (None, None, None) => Client::public(id),
                _ => return Err(BuildError::new("client_auth", "is not set, and more than one proof is; say which")),
            }
        }
    };
    let client = values.text("client_key_id").into_iter().fold(client, Client::key_id);
    Ok(Some(values.text("client_audience").into_iter().fold(client, Client::audience)))
}

/// Starts a grant at its address and gives it what all grants have.
fn oauth<G: Grant>(
    values: &Values,
    at: fn(String) -> OAuthBuilder<G>,
    discover: fn(String) -> OAuthBuilder<G>,
) -> Result<OAuthBuilder<G>, BuildError> {
    let builder = match (values.text("url"), values.text("discover")) {
        (Some(url), None) => at(url.to_owned()),
        (None, Some(issuer)) => discover(issuer.to_owned()),
        _ => return Err(BuildError::new("url", "set either url, the token endpoint, or discover, the issuer")),
    };
    let builder = client(values)?.into_iter().fold(builder.http(http(values)?), OAuthBuilder::client);
    let builder = values.text("scope").into_iter().fold(builder, OAuthBuilder::scope);
    let builder = values.texts("audience").fold(builder, OAuthBuilder::audience);
    let builder = values.texts("resource").fold(builder, OAuthBuilder::resource);
    let parameters = values.named("parameter");
    let builder = parameters.fold(builder, |builder, (name, value)| builder.parameter(name, value));
    Ok(values.seconds("default_life")?.into_iter().fold(builder, OAuthBuilder::default_life))
}

fn client_credentials(values: &mut Values) -> Result<AnySource, BuildError> {
    Ok(AnySource::new(oauth(values, ClientCredentials::at, ClientCredentials::discover)?.build()?))
}

fn refresh_token(values: &mut Values) -> Result<AnySource, BuildError> {
    let mut builder = oauth(values, RefreshToken::at, RefreshToken::discover)?;
    if let Some(window) = values.seconds("reuse_window")? {
        builder = builder.reuse_window(window);
    }
    let builder = match (values.login.take(), values.secret("first_refresh_token")) {
        (Some(_), Some(_)) => {
            return Err(BuildError::new("first_refresh_token", "is set, and so is a login; only one can be used"));
        }
        (Some(login), None) => builder.bootstrap(move |attempt| login.fetch(attempt).map(Login::from)),
        (None, Some(first)) => builder.first(first),
        (None, None) => builder,
    };
    Ok(AnySource::new(builder.build()?))
}

fn jwt_bearer(values: &mut Values) -> Result<AnySource, BuildError> {
    let builder = oauth(values, JwtBearer::at, JwtBearer::discover)?;
    let builder = values.secret("key").into_iter().fold(builder, OAuthBuilder::key);
    let builder = values.text("key_id").into_iter().fold(builder, OAuthBuilder::key_id);
    let builder = values.text("issuer").into_iter().fold(builder, OAuthBuilder::issuer);
    let builder = values.text("subject").into_iter().fold(builder, OAuthBuilder::<JwtBearer>::subject);
    let builder = values.text("assertion_audience").into_iter().fold(builder, OAuthBuilder::assertion_audience);
    let builder = values.named("claim").fold(builder, |builder, (name, value)| builder.claim(name, value));
    let builder = values.seconds("assertion_life")?.into_iter().fold(builder, OAuthBuilder::assertion_life);
    let builder = values.secret("assertion").into_iter().fold(builder, OAuthBuilder::assertion);
    Ok(AnySource::new(builder.build()?))
}

fn token_exchange(values: &mut Values) -> Result<AnySource, BuildError> {
    let mut builder = oauth(values, TokenExchange::at, TokenExchange::discover)?;
    let kind = |setting| values.text(setting).map_or_else(TokenType::access_token, TokenType::of);
    builder = builder.subject(values.needed_secret("subject_token")?, kind("subject_type"));
    if let Some(actor) = values.secret("actor_token") {
        builder = builder.actor(actor, kind("actor_type"));
    }
    if let Some(wanted) = values.text("wanted_type") {
        builder = builder.wanted(TokenType::of(wanted));
    }
    Ok(AnySource::new(builder.build()?))
}

/// How a vendor's builder starts: with an id and a secret.
type Start<B> = fn(String, Secret) -> B;

fn wechat_token(values: &Values, start: Start<wechat::AccessTokenBuilder>) -> Result<AnySource, BuildError> {
    let builder = start(values.needed("app_id")?.to_owned(), values.needed_secret("secret")?).http(http(values)?);
    Ok(AnySource::new(values.text("base_url").into_iter().fold(builder, |builder, url| builder.base_url(url)).build()?))
}

fn wechat_stable(values: &mut Values) -> Result<AnySource, BuildError> {
    wechat_token(values, wechat::AccessToken::stable)
}

fn wechat_classic(values: &mut Values) -> Result<AnySource, BuildError> {
    wechat_token(values, wechat::AccessToken::classic)
}

fn wechat_ticket(values: &mut Values) -> Result<AnySource, BuildError> {
    let missing = || BuildError::new("parent", "is not set: give the manager whose tokens buy the tickets");
    let builder = wechat::Ticket::jsapi(values.parent.take().ok_or_else(missing)?).http(http(values)?);
    let builder = values.text("type").into_iter().fold(builder, |builder, kind| builder.kind(kind));
    Ok(AnySource::new(values.text("base_url").into_iter().fold(builder, |builder, url| builder.base_url(url)).build()?))
}

fn wecom(values: &mut Values) -> Result<AnySource, BuildError> {
    let builder = wecom::AccessToken::of(values.needed("corp_id")?, values.needed_secret("secret")?);
    let builder = builder.http(http(values)?);
    Ok(AnySource::new(values.text("base_url").into_iter().fold(builder, |builder, url| builder.base_url(url)).build()?))
}

fn github(values: &mut Values) -> Result<AnySource, BuildError> {
    let number = values.needed("installation")?.parse();
    let number = number.map_err(|_| BuildError::new("installation", "is no number of an installation"))?;
    let key = values.needed_secret("key")?;
    let builder = github_app::Installation::of(values.needed("app_id")?, number, key).http(http(values)?);
    let builder = values.texts("repository").fold(builder, |builder, name| builder.repository(name));
    let builder = values.named("permission").fold(builder, |builder, (name, access)| builder.permission(name, access));
    Ok(AnySource::new(values.text("base_url").into_iter().fold(builder, |builder, url| builder.base_url(url)).build()?))
}

#[cfg(unix)]
fn command(values: &mut Values) -> Result<AnySource, BuildError> {
    use crate::command::CommandSource;
    use token_manager::FailureClass;
    let source = values.texts("argument").fold(CommandSource::new(values.needed("program")?), CommandSource::argument);
    let variables = values.named("environment");
    let mut source = variables.fold(source, |source, (name, value)| source.environment(name, value));
    let life = values.seconds("life")?;
    source = match (values.is_set("plain_text"), life) {
        (true, Some(life)) => source.plain_text(life),
        (true, None) => {
            return Err(BuildError::new("life", "is not set; a token in plain text does not say how long it lives"));
        }
        (false, life) => life.into_iter().fold(source, CommandSource::life),
    };
    for (code, class) in values.named("exit_code") {
        let known = FailureClass::ALL.into_iter().find(|known| known.as_str() == class);
        let classes = FailureClass::ALL.map(FailureClass::as_str).join(", ");
        let wrong = || BuildError::new("exit_code", format!("write exit_code.NUMBER, and one of {classes}"));
        source = source.exit_code(code.parse().map_err(|_| wrong())?, known.ok_or_else(wrong)?);
    }
    Ok(AnySource::new(source))
}
