//! What each grant and each proof of a client sends.

mod support;

use support::{form, granted, manager};
use testbed::stand_in::StandIn;
use token_manager::TokenSource;
use token_manager_issuers::{Client, ClientCredentials, JwtBearer, Secret, TokenExchange, TokenType};

/// The form that a source sends to an issuer, in its order.
fn sent<S: TokenSource>(source: impl FnOnce(String) -> S) -> Vec<(String, String)> {
    let issuer = StandIn::start(|_| Some(granted("token")));
    manager(source(format!("{}/token", issuer.url()))).get().unwrap();
    form(&issuer.heard()[0])
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

#[test]
fn what_was_set_is_what_is_sent() {
    let issuer = StandIn::start(|_| Some(granted("token")));
    let url = format!("{}/token", issuer.url());
    let source =
        ClientCredentials::at(url).client(Client::basic("an id/%+", "a:secret é")).scope("none").scope("read write");
    let source =
        source.audience("one").audience("two").resource("https://api.example.com/?a=b&c").parameter("tenant", "x y");
    manager(source.build().unwrap()).get().unwrap();
    let heard = &issuer.heard()[0];
    let expected = pairs([
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
        ("audience", "one"),
        ("audience", "two"),
        ("resource", "https://api.example.com/?a=b&c"),
        ("tenant", "x y"),
    ]);
    assert_eq!(form(heard), expected);
    // an+id%2F%25%2B:a%3Asecret+%C3%A9, as RFC 6749 §2.3.1 wants it.
    let basic = "Basic YW4raWQlMkYlMjUlMkI6YSUzQXNlY3JldCslQzMlQTk=";
    assert_eq!(heard.header("authorization"), Some(basic));
    assert_eq!((heard.method.as_str(), heard.path.as_str()), ("POST", "/token"));
    assert_eq!(heard.header("content-type"), Some("application/x-www-form-urlencoded"));
}

#[test]
fn a_client_may_prove_nothing_or_show_what_its_platform_has_signed() {
    let of = |client: Client| sent(|url| ClientCredentials::at(url).client(client).build().unwrap());
    let grant = ("grant_type", "client_credentials");
    assert_eq!(of(Client::public("id")), pairs([grant, ("client_id", "id")]));
    let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let expected = pairs([grant, ("client_id", "id"), kind, ("client_assertion", "a.b.c")]);
    assert_eq!(of(Client::assertion("id", "a.b.c")), expected);
    assert_eq!(of(Client::post("id", "secret")), pairs([grant, ("client_id", "id"), ("client_secret", "secret")]));
}

#[test]
fn an_assertion_that_is_signed_already_is_sent_as_it_is() {
    let form = sent(|url| JwtBearer::at(url).assertion(Secret::text("a.b.c")).scope("read").build().unwrap());
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    assert_eq!(form, pairs([("grant_type", grant), ("assertion", "a.b.c"), ("scope", "read")]));
}

#[test]
fn an_exchange_names_whom_it_is_for_who_acts_and_what_is_wanted() {
    let form = sent(|url| {
        let exchange =
            TokenExchange::at(url).subject("user", TokenType::id_token()).actor("we", TokenType::access_token());
        exchange.wanted(TokenType::of("urn:example:ticket")).build().unwrap()
    });
    let expected = pairs([
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", "user"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("actor_token", "we"),
        ("actor_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("requested_token_type", "urn:example:ticket"),
    ]);
    assert_eq!(form, expected);
}
