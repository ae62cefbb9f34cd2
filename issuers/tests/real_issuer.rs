//! Each grant and each proof of a client, against an issuer that nobody here wrote.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::error::Error as _;
use std::sync::Mutex;
use std::time::Duration;
use testbed::client::agent;
use testbed::oidc::{Oidc, order_at};
use testbed::redis_server::RedisServer;
use testbed::{LONG, on_threads};
use token_manager::{Budget, Error, ErrorKind, FailureClass, FetchError, MemoryStore, TokenManager, TokenSource};
use token_manager_issuers::{
    Client, ClientCredentials, Http, JwtBearer, Login, LoginNeeded, RefreshToken, Secret, TokenExchange, TokenType,
};

const WINDOW: Duration = Duration::from_secs(60);

fn manager(source: impl TokenSource) -> TokenManager {
    TokenManager::builder("t").store(MemoryStore::new()).source(source).deadline(LONG).build().unwrap()
}

/// Has the source bring a token, and returns what is wrong if it brings none.
fn fetch(source: impl TokenSource) -> Result<(), String> {
    match manager(source).get() {
        Ok(token) if token.secret().len() > 20 => Ok(()),
        Ok(token) => Err(format!("{} characters", token.secret().len())),
        Err(error) => Err(told(&error)),
    }
}

fn told(error: &Error) -> String {
    format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
}

#[test]
fn clients_prove_who_they_are_in_each_way() {
    let issuer = Oidc::start(WINDOW);
    let (url, keys) = (issuer.token_url(), issuer.keys());
    let key = |name: &str| Secret::file(keys.path(name));
    let http = || Http::new().authority(Secret::file(keys.path("ca.pem")));
    let clients = [
        ("basic", Client::basic("odd :+%/id", "s%+ :1&=/?\"")),
        ("post", Client::post("post", "in the body &+")),
        ("rsa", Client::private_key("keyed", key("rsa.pem")).key_id("rsa")),
        ("pkcs1", Client::private_key("keyed", key("rsa-pkcs1.pem")).key_id("rsa")),
        ("ec", Client::private_key("keyed", key("ec.pem")).key_id("ec").audience(issuer.url())),
        ("the second of two", Client::post("post", Secret::text("wrong").or("in the body &+".into()))),
    ];
    for (name, client) in clients {
        let source = ClientCredentials::at(&url).client(client.clone()).scope("api").build().unwrap();
        assert_eq!(fetch(source), Ok(()), "{name}");
        let source = ClientCredentials::discover(issuer.url()).client(client).build().unwrap();
        assert_eq!(fetch(source), Ok(()), "{name}, with discovery");
    }
    let (chain, key) = (key("client.pem"), key("client.key"));
    let certified = ClientCredentials::at(issuer.tls_token_url()).client(Client::certificate("certified"));
    let shown = certified.http(http().client_certificate(chain, key)).build().unwrap();
    assert_eq!(fetch(shown), Ok(()));

    let wrong = ClientCredentials::at(&url).client(Client::basic("odd :+%/id", "wrong")).build().unwrap();
    let error = manager(wrong).get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source(FailureClass::CredentialsRejected));
    assert_eq!(error.source().unwrap().to_string(), "the issuer answered 401: invalid_client");
}

#[test]
fn an_assertion_buys_a_token_once() {
    let issuer = Oidc::start(WINDOW);
    let builder = || JwtBearer::at(issuer.token_url()).client(Client::basic("trader", "trade")).issuer("reports");
    let source = builder().key(Secret::file(issuer.keys().path("rsa.pem"))).claim("scope", "api").build().unwrap();
    let manager = manager(source);
    for _ in 0..3 {
        // Each has a number of its own: the issuer takes none twice.
        manager.invalidate(&manager.get().unwrap());
    }
    assert_eq!(issuer.count("requests"), 3);
    let foreign = builder().key(Secret::file(issuer.keys().path("ec.pem"))).build().unwrap();
    assert!(fetch(foreign).unwrap_err().ends_with("the issuer answered 400: invalid_grant"));
    let second = Secret::file(issuer.keys().path("ec.pem")).or(Secret::file(issuer.keys().path("rsa-pkcs1.pem")));
    assert_eq!(fetch(builder().key(second).build().unwrap()), Ok(()));
}

#[test]
fn a_managers_token_is_exchanged_for_another() {
    let issuer = Oidc::start(WINDOW);
    let trader = || Client::basic("trader", "trade");
    let own = manager(ClientCredentials::at(issuer.token_url()).client(trader()).build().unwrap());
    let subject = Secret::from_fn(move || own.get().map(|token| token.secret().to_owned()));
    let exchange = |audience: &str| {
        let builder = TokenExchange::at(issuer.token_url()).client(trader()).audience(audience);
        builder.subject(subject.clone(), TokenType::access_token()).build().unwrap()
    };
    assert_eq!(fetch(exchange("invoices")), Ok(()));
    assert!(fetch(exchange("letters")).unwrap_err().ends_with("the issuer answered 400: invalid_request"));
}

fn refreshing(issuer: &Oidc, window: Duration) -> RefreshSource {
    RefreshToken::at(issuer.token_url()).client(Client::basic("user", "secret")).reuse_window(window)
}

type RefreshSource = token_manager_issuers::OAuthBuilder<RefreshToken>;

#[test]
fn a_refresh_token_is_replaced_each_time_and_never_presented_twice() {
    let issuer = Oidc::start(Duration::ZERO);
    let url = issuer.url().to_owned();
    let log_in = move |_: &_| Ok(Login::refresh_token(order_at(&url, "login")));
    let manager = manager(refreshing(&issuer, Duration::ZERO).bootstrap(log_in).build().unwrap());
    for _ in 0..10 {
        let own = manager.clone();
        let tokens = on_threads(25, move |_| own.get().unwrap());
        assert!(tokens.iter().all(|token| token.generation() == tokens[0].generation()));
        manager.invalidate(&tokens[0]);
    }
    let stats = issuer.stats();
    let counts =
        ["logins", "rotations", "inside", "outside", "revoked", "invalid_grant"].map(|what| stats[what].as_u64());
    assert_eq!(counts, [1, 10, 0, 0, 0, 0].map(Some));
}

#[test]
fn tokens_for_two_audiences_share_one_login_and_its_refresh_token() {
    let (issuer, redis) = (Oidc::start(Duration::ZERO), RedisServer::start().expect("a private Redis"));
    let of = |audience: &'static str| {
        let url = issuer.url().to_owned();
        let log_in = move |_: &_| Ok(Login::refresh_token(order_at(&url, "login")));
        let source = refreshing(&issuer, Duration::ZERO).resource(audience).bootstrap(log_in).build().unwrap();
        let builder = TokenManager::builder(&audience[8..9]).grant("login").source(source).deadline(LONG);
        let budget = Budget::per_minute(60_000).burst(1_000);
        (audience, builder.budget(budget).redis(&redis.url()).unwrap().build().unwrap())
    };
    // As two processes would have them: each manager has a name and connections of its own.
    let audiences = ["https://a.example.com", "https://b.example.com"];
    let managers = [audiences, audiences].concat().into_iter().map(of).collect::<Vec<_>>();
    on_threads(20, move |number| {
        let (audience, manager) = &managers[number % 4];
        for _ in 0..5 {
            let token = manager.get().unwrap();
            assert_eq!(audience_of(token.secret()), *audience);
            manager.invalidate(&token);
        }
    });
    let stats = issuer.stats();
    let counts = ["logins", "inside", "outside", "revoked", "invalid_grant"].map(|what| stats[what].as_u64());
    assert_eq!(counts, [1, 0, 0, 0, 0].map(Some), "{stats}");
    assert!(stats["rotations"].as_u64() >= Some(10), "{stats}");
}

/// For whom a JWT is.
fn audience_of(token: &str) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["aud"].as_str().unwrap().to_owned()
}

#[test]
fn who_needs_a_login_and_has_no_hook_is_told_so_by_a_typed_error() {
    let issuer = Oidc::start(Duration::ZERO);
    let error = manager(refreshing(&issuer, WINDOW).build().unwrap()).get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source(FailureClass::CredentialsRejected));
    assert_eq!(error.source().unwrap().downcast_ref(), Some(&LoginNeeded::NoRefreshToken));
    assert_eq!(issuer.count("requests"), 0);
}

#[test]
fn a_refresh_token_that_the_issuer_refuses_leads_to_a_login_and_is_not_shown_again() {
    let issuer = Oidc::start(Duration::ZERO);
    let stolen = order_at(issuer.url(), "login");
    let (url, mut logins) = (issuer.url().to_owned(), vec![None, Some(stolen.clone())]);
    let logins = Mutex::new(move || logins.pop().unwrap_or_else(|| Some(order_at(&url, "login"))));
    let hook = move |_: &_| match logins.lock().unwrap()() {
        Some(refresh) => Ok(Login::refresh_token(refresh)),
        None => Err(FetchError::unavailable("nobody is at home")),
    };
    let manager = manager(refreshing(&issuer, Duration::ZERO).bootstrap(hook).build().unwrap());
    manager.invalidate(&manager.get().unwrap());
    // Whoever stole the first refresh token presents it again: the issuer revokes the whole grant.
    let thief = agent().post(issuer.token_url()).header("authorization", "Basic dXNlcjpzZWNyZXQ=");
    let thief = thief.content_type("application/x-www-form-urlencoded");
    let refused = thief.send(format!("grant_type=refresh_token&refresh_token={stolen}")).unwrap();
    assert_eq!((refused.status().as_u16(), issuer.count("revoked")), (400, 1));

    let counts = || ["requests", "logins", "rotations", "invalid_grant"].map(|what| issuer.count(what));
    assert_eq!(told(&manager.get().unwrap_err()).split_once(": ").unwrap().1, "nobody is at home");
    assert_eq!(counts(), [3, 1, 1, 2], "the thief is refused, and what the manager has left");
    manager.lift_pause().unwrap();
    assert!(manager.get().is_ok());
    assert_eq!(counts(), [4, 2, 2, 2]);
}

#[test]
fn an_issuers_own_authority_is_needed_and_a_client_without_its_certificate_is_refused() {
    let issuer = Oidc::start(WINDOW);
    let post = || ClientCredentials::at(issuer.tls_token_url()).client(Client::post("post", "in the body &+"));
    let unknown = manager(post().build().unwrap()).get().unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Source(FailureClass::Unavailable));
    assert!(told(&unknown).contains("UnknownIssuer"), "{}", told(&unknown));
    let authority = Secret::file(issuer.keys().path("ca.pem"));
    assert_eq!(fetch(post().http(Http::new().authority(authority.clone())).build().unwrap()), Ok(()));
    let certified = ClientCredentials::at(issuer.tls_token_url()).client(Client::certificate("certified"));
    let refused = certified.http(Http::new().authority(authority)).build().unwrap_err();
    assert_eq!(refused.setting(), "client");
}
