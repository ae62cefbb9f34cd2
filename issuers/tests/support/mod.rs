//! What these tests share: a manager around a source, and what became of a fetch.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::error::Error as _;
use std::time::Duration;
use testbed::LONG;
use testbed::stand_in::{Heard, StandIn, Told};
use token_manager::{Builder, Error, ErrorKind, FailureClass, MemoryStore, TokenManager, TokenSource};
use token_manager_issuers::{Client, ClientCredentials, OAuth, OAuthBuilder, RefreshToken};

pub fn builder(source: impl TokenSource) -> Builder {
    TokenManager::builder("t").store(MemoryStore::new()).source(source).deadline(LONG).margin(Duration::from_millis(1))
}

pub fn manager(source: impl TokenSource) -> TokenManager {
    builder(source).build().unwrap()
}

/// The class of a failure, and what its source said.
pub fn failure(source: impl TokenSource) -> (FailureClass, String) {
    told(&manager(source).get().unwrap_err())
}

pub fn told(error: &Error) -> (FailureClass, String) {
    let ErrorKind::Source(class) = error.kind() else { panic!("{error:?}") };
    (class, error.source().unwrap().to_string())
}

pub fn at(url: &str) -> OAuthBuilder<ClientCredentials> {
    ClientCredentials::at(format!("{url}/token")).client(Client::basic("id", "secret"))
}

pub fn client_credentials(issuer: &StandIn) -> OAuth<ClientCredentials> {
    at(&issuer.url()).build().unwrap()
}

pub fn refresh_token(issuer: &StandIn) -> OAuthBuilder<RefreshToken> {
    RefreshToken::at(format!("{}/token", issuer.url())).client(Client::basic("id", "secret"))
}

/// An issuer that always says this.
pub fn saying(status: u16, body: &str) -> StandIn {
    let body = body.to_owned();
    StandIn::start(move |_| Some(Told::new(status, &*body)))
}

/// An issuer that says these, in turn.
pub fn in_turn(answers: impl IntoIterator<Item = Option<Told>>) -> StandIn {
    let answers: Vec<_> = answers.into_iter().collect();
    let answers = std::sync::Mutex::new(answers.into_iter());
    StandIn::start(move |_| answers.lock().unwrap().next().expect("no more answers"))
}

pub fn granted(token: &str) -> Told {
    Told::new(200, format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#))
}

/// A grant with the next refresh token.
pub fn rotated(token: &str, refresh: &str) -> Told {
    let body =
        format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600,"refresh_token":"{refresh}"}}"#);
    Told::new(200, body)
}

/// What was sent in a form, as pairs.
pub fn form(heard: &Heard) -> Vec<(String, String)> {
    form_urlencoded::parse(heard.body.as_bytes()).into_owned().collect()
}

pub fn field(heard: &Heard, name: &str) -> Option<String> {
    form(heard).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}
