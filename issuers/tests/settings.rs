//! What `build` refuses, and that its message names the setting and says what to do.

use std::time::Duration;
use testbed::keys::Keys;
use token_manager_issuers::{
    BuildError, Client, ClientCredentials, Http, JwtBearer, OAuthBuilder, RefreshToken, Secret, TokenExchange,
};

const URL: &str = "https://issuer.example.com/token";

fn client() -> Client {
    Client::basic("id", "secret")
}

fn at(url: &str) -> OAuthBuilder<ClientCredentials> {
    ClientCredentials::at(url).client(client())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, BuildError>, setting: &str, said: &str) {
    let error = result.expect_err(said);
    assert!(error.setting() == setting && error.to_string().contains(said), "{error}");
}

#[test]
fn addresses_have_to_be_https_but_on_this_machine() {
    for url in [URL, "http://127.0.0.1:8080/token", "http://localhost/token", "http://[::1]:1/token"] {
        at(url).build().unwrap();
    }
    at("http://10.0.0.1/token").http(Http::new().allow_plain_http()).build().unwrap();
    for url in ["http://issuer.example.com/token", "http://127.0.0.1.example.com/token"] {
        refused(at(url).build(), "at", "use https");
    }
    refused(at("ftp://issuer.example.com").build(), "at", "has to begin with https://");
    refused(at("").build(), "at", "is no URL");
    refused(at("/token").build(), "at", "names no host");
    refused(ClientCredentials::discover("http://example.com").client(client()).build(), "discover", "use https");
    let hidden = at("ftp://user:leak@issuer.example.com/?leak").build().unwrap_err();
    assert!(!hidden.to_string().contains("leak"), "{hidden}");
}

#[test]
fn whatever_is_missing_or_contradicts_itself_is_named() {
    refused(ClientCredentials::at(URL).build(), "client", "Client::basic");
    refused(RefreshToken::at(URL).build(), "client", "Client::basic");
    refused(ClientCredentials::at(URL).client(Client::basic("", "secret")).build(), "client", "its id is empty");
    refused(ClientCredentials::at(URL).client(Client::post("id", "")).build(), "client", "is empty");
    refused(ClientCredentials::at(URL).client(Client::certificate("id")).build(), "client", "Http::client_certificate");
    refused(at(URL).parameter("grant_type", "password").build(), "parameter", "`grant_type` is set by the source");
    refused(at(URL).default_life(Duration::ZERO).build(), "default_life", "below a millisecond");
    refused(at(URL).http(Http::new().proxy("socks5://127.0.0.1:1")).build(), "proxy", "http://host:3128");
    refused(TokenExchange::at(URL).build(), "subject", "is not set");
    refused(JwtBearer::at(URL).build(), "key", "is not set");
    let both = JwtBearer::at(URL).key(Secret::file("missing")).assertion("ready");
    refused(both.build(), "key", "give one of them");
    let signing = || JwtBearer::at(URL).key(Secret::file("missing"));
    refused(signing().build(), "issuer", "is not set");
    let life = Duration::from_secs(7200);
    refused(signing().issuer("me").assertion_life(life).build(), "assertion_life", "one second to 3600s");
    refused(signing().issuer("me").claim("exp", "never").build(), "claim", "`exp` is set by the source");
}

#[test]
fn a_key_that_cannot_sign_is_refused_with_what_to_do_and_one_that_is_not_there_yet_is_awaited() {
    let keys = Keys::make();
    let build = |name: &str| {
        ClientCredentials::at(URL).client(Client::private_key("id", Secret::file(keys.path(name)))).build()
    };
    for name in ["rsa.pem", "rsa-pkcs1.pem", "ec.pem", "missing.pem"] {
        build(name).unwrap();
    }
    refused(build("ec-sec1.pem"), "client", "openssl pkcs8 -topk8 -nocrypt");
    refused(build("encrypted.pem"), "client", "openssl pkcs8 -topk8 -nocrypt");
    refused(build("p384.pem"), "client", "a P-256 key, is needed");
    refused(build("ca.pem"), "client", "is no PEM with a private key");
}
