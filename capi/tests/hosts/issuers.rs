//! The library's own sources from C, over real HTTP: a program that has none of its own.

use crate::toolchain::{Build, Link, compile, run};
use std::process::Command;
use testbed::redis_server::RedisServer;
use testbed::stand_in::{Heard, StandIn, Told};

/// An issuer that replaces refresh tokens, and takes each one once; and WeChat.
fn issuer() -> StandIn {
    StandIn::start(|heard| {
        let path = heard.path.split('?').next().unwrap_or_default();
        let (status, body) = match (path, grant(heard).as_str()) {
            ("/token", "grant_type=client_credentials&scope=read") => (200, tokens("c-one", None)),
            ("/token", "grant_type=refresh_token&refresh_token=r-one&client_id=app") => {
                (200, tokens("r-two for r-one", Some("r-two")))
            }
            ("/token", "grant_type=refresh_token&refresh_token=r-two&client_id=app") => {
                (200, tokens("r-three for r-two", Some("r-three")))
            }
            ("/cgi-bin/stable_token", _) => (200, tokens("wx", None)),
            ("/cgi-bin/ticket/getticket", _) => (200, r#"{"errcode":0,"ticket":"ticket","expires_in":7200}"#.into()),
            _ => (400, r#"{"error":"invalid_request"}"#.into()),
        };
        Some(Told::new(status, body))
    })
}

fn grant(heard: &Heard) -> String {
    heard.body.clone()
}

fn tokens(token: &str, refresh: Option<&str>) -> String {
    let refresh = refresh.map(|refresh| format!(r#","refresh_token":"{refresh}""#)).unwrap_or_default();
    format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600{refresh}}}"#)
}

/// Runs the host, under another command or none, and returns how often the issuer was asked for what.
fn asked(before: &[&str], link: Link, build: Build, more: &[&str]) -> [usize; 3] {
    let (redis, issuer) = (RedisServer::start().expect("a Redis"), issuer());
    let program = compile("issuers.c", build, link, more).to_string_lossy().into_owned();
    let words: Vec<&str> = before.iter().copied().chain([&*program]).collect();
    let shown = run(Command::new(words[0]).args(&words[1..]).args([&redis.url(), &issuer.url()]));
    assert_eq!(shown.lines().filter(|line| line.starts_with("ok ")).count(), 5, "{shown}");
    let heard = issuer.heard();
    let basic = heard[0].header("authorization").expect("a header");
    assert_eq!(basic, "Basic YmlsbGluZzpzM2NyZXQrJTI2", "the secret is form-encoded (RFC 6749 §2.3.1)");
    ["client_credentials", "refresh_token", "/cgi-bin/"]
        .map(|what| heard.iter().filter(|heard| format!("{} {}", heard.path, heard.body).contains(what)).count())
}

#[test]
fn a_c_program_gets_tokens_without_any_http_of_its_own() {
    for link in [Link::Shared, Link::Static] {
        assert_eq!(asked(&[], link, Build::Release, &[]), [1, 2, 3]);
    }
    assert_eq!(asked(&[], Link::Shared, Build::Debug, &[]), [1, 2, 3]);
}

#[test]
fn valgrind_finds_no_error_and_no_leak_in_the_issuers() {
    let kinds = "--errors-for-leak-kinds=definite,indirect";
    let valgrind = ["valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full", kinds];
    assert_eq!(asked(&valgrind, Link::Shared, Build::Release, &[]), [1, 2, 3]);
}

#[test]
fn address_sanitizer_finds_nothing_in_the_issuers() {
    assert_eq!(asked(&[], Link::Static, Build::Release, &["-fsanitize=address", "-fno-omit-frame-pointer"]), [1, 2, 3]);
}
