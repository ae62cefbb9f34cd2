//! Sources by names and settings as text: each kind brings a token, and what is wrong is told by its name.

mod support;

use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::{builder, field, granted, in_turn, manager, rotated, told};
use testbed::keys::Keys;
use testbed::stand_in::{StandIn, Told};
use token_manager::{Attempt, FailureClass, FetchError, Fetched, TokenSource};
use token_manager_issuers::by_name::ByName;

fn by_name(kind: &str, settings: &[(&str, &str)]) -> ByName {
    let mut source = ByName::new(kind).unwrap();
    settings.iter().for_each(|(name, value)| source.set(name, value).unwrap());
    source
}

fn source(kind: &str, settings: &[(&str, &str)]) -> impl TokenSource {
    by_name(kind, settings).build().unwrap()
}

fn secret_of(kind: &str, settings: &[(&str, &str)]) -> String {
    manager(source(kind, settings)).get().unwrap().secret().to_owned()
}

fn refused(kind: &str, settings: &[(&str, &str)]) -> String {
    by_name(kind, settings).build().map(drop).unwrap_err().to_string()
}

#[test]
fn an_oauth_client_is_put_together_from_texts() {
    let issuer = in_turn([Some(granted("t1"))]);
    let (url, folder) = (format!("{}/token", issuer.url()), tempfile::tempdir().unwrap());
    let file = folder.path().join("secret");
    std::fs::write(&file, "hunter2\n").unwrap();
    let settings = [
        ("url", &*url),
        ("client_id", "billing"),
        ("client_secret_file", file.to_str().unwrap()),
        ("client_auth", "post"),
        ("scope", "read"),
        ("scope", "read write"),
        ("audience", "a"),
        ("audience", "b"),
        ("parameter.tenant", "7"),
        ("no_proxy", "true"),
    ];
    assert_eq!(secret_of("client_credentials", &settings), "t1");
    let heard = issuer.heard().remove(0);
    let sent = |name| field(&heard, name).unwrap();
    assert_eq!(["client_id", "client_secret", "scope", "tenant"].map(sent), ["billing", "hunter2", "read write", "7"]);
    let audiences = support::form(&heard).into_iter().filter(|(name, _)| name == "audience").map(|(_, value)| value);
    assert_eq!(audiences.collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_second_secret_is_tried_where_the_first_is_refused() {
    let issuer = in_turn([Some(Told::new(401, r#"{"error":"invalid_client"}"#)), Some(granted("t1"))]);
    let url = format!("{}/token", issuer.url());
    let settings = [("url", &*url), ("client_id", "id"), ("second_client_secret", "green"), ("client_secret", "blue")];
    assert_eq!(secret_of("client_credentials", &settings), "t1");
    assert_ne!(issuer.heard()[0].header("authorization"), issuer.heard()[1].header("authorization"));
}

#[test]
fn a_first_refresh_token_is_presented_once_and_its_successors_after_it() {
    let issuer =
        in_turn([Some(rotated("t1", "r1")), Some(rotated("t2", "r2")), Some(refusal()), Some(rotated("t3", "r3"))]);
    let folder = tempfile::tempdir().unwrap();
    let (url, file) = (format!("{}/token", issuer.url()), folder.path().join("refresh"));
    std::fs::write(&file, "r0").unwrap();
    let settings = [("url", &*url), ("client_id", "id"), ("first_refresh_token_file", file.to_str().unwrap())];
    let manager = manager(source("refresh_token", &settings));
    for expected in ["t1", "t2"] {
        let token = manager.get().unwrap();
        assert_eq!(token.secret(), expected);
        manager.invalidate(&token);
    }
    let (class, cause) = told(&manager.get().unwrap_err());
    assert_eq!(class, FailureClass::CredentialsRejected);
    assert_eq!(cause, "the issuer refuses the refresh token; log in anew");

    std::fs::write(&file, "s0").unwrap();
    manager.lift_pause().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "t3");
    let presented = issuer.heard().iter().map(|heard| field(heard, "refresh_token").unwrap()).collect::<Vec<_>>();
    assert_eq!(presented, ["r0", "r1", "r2", "s0"]);
}

fn refusal() -> Told {
    Told::new(400, r#"{"error":"invalid_grant"}"#)
}

#[test]
fn a_login_is_called_where_there_is_no_refresh_token() {
    let issuer = in_turn([Some(rotated("t2", "r2"))]);
    let url = format!("{}/token", issuer.url());
    let mut settings = by_name("refresh_token", &[("url", &url), ("client_id", "id")]);
    settings.set_login(|_: &Attempt| Ok(Fetched::new("t1", Duration::from_secs(3600)).carry("r1")));
    let manager = manager(settings.build().unwrap());
    let token = manager.get().unwrap();
    assert_eq!(token.secret(), "t1");
    manager.invalidate(&token);
    assert_eq!(manager.get().unwrap().secret(), "t2");
    assert_eq!(field(&issuer.heard()[0], "refresh_token").unwrap(), "r1");
}

#[test]
fn assertions_and_exchanges_are_asked_for() {
    let keys = Keys::make();
    let issuer = in_turn([Some(granted("t1")), Some(granted("t2"))]);
    let (url, key) = (format!("{}/token", issuer.url()), keys.path("rsa-pkcs1.pem"));
    let key = key.to_str().unwrap();
    let settings =
        [("url", &*url), ("key_file", key), ("issuer", "me"), ("claim.scope", "read"), ("assertion_life", "30")];
    assert_eq!(secret_of("jwt_bearer", &settings), "t1");
    let settings = [("url", &*url), ("client_id", "id"), ("subject_token", "theirs"), ("wanted_type", "urn:x")];
    assert_eq!(secret_of("token_exchange", &settings), "t2");
    let heard = issuer.heard();
    assert_eq!(field(&heard[0], "assertion").unwrap().split('.').count(), 3);
    assert_eq!(field(&heard[1], "subject_token").unwrap(), "theirs");
    assert_eq!(field(&heard[1], "requested_token_type").unwrap(), "urn:x");
}

#[test]
fn vendors_are_asked() {
    let keys = Keys::make();
    let vendor = StandIn::start(|heard| {
        let path = heard.path.split('?').next().unwrap();
        let body = match path {
            "/app/installations/7/access_tokens" => json!({ "token": path, "expires_at": "2999-01-01T00:00:00Z" }),
            "/cgi-bin/ticket/getticket" => json!({ "ticket": heard.path, "expires_in": 7200 }),
            _ => json!({ "access_token": path, "expires_in": 7200 }),
        };
        Some(Told::new(200, body.to_string()))
    });
    let url = vendor.url();
    let wechat = [("app_id", "wx"), ("secret", "s"), ("base_url", &*url)];
    assert_eq!(secret_of("wechat_stable", &wechat), "/cgi-bin/stable_token");
    assert_eq!(secret_of("wechat_classic", &wechat), "/cgi-bin/token");
    assert_eq!(secret_of("wecom", &[("corp_id", "ww"), ("secret", "s"), ("base_url", &url)]), "/cgi-bin/gettoken");
    let key = keys.path("rsa.pem");
    let github = [
        ("app_id", "Iv1"),
        ("installation", "7"),
        ("key_file", key.to_str().unwrap()),
        ("repository", "website"),
        ("permission.contents", "read"),
        ("base_url", &*url),
    ];
    assert_eq!(secret_of("github_app", &github), "/app/installations/7/access_tokens");
    let body = vendor.heard().pop().unwrap().body;
    assert_eq!(body, r#"{"permissions":{"contents":"read"},"repositories":["website"]}"#);

    let mut ticket = by_name("wechat_ticket", &[("base_url", &url), ("type", "wx_card")]);
    ticket.set_parent(manager(source("wechat_stable", &wechat)));
    let ticket = manager(ticket.build().unwrap()).get().unwrap();
    assert_eq!(ticket.secret(), "/cgi-bin/ticket/getticket?access_token=%2Fcgi-bin%2Fstable_token&type=wx_card");
}

#[cfg(unix)]
#[test]
fn a_command_is_run() {
    let script = "printf \"$COLOUR $1 $#\"; exit ${EXIT-0}";
    let mut settings = vec![
        ("program", "sh"),
        ("argument", "-c"),
        ("argument", script),
        ("argument", "sh"),
        ("argument", "here"),
        ("argument", ""),
        ("environment.COLOUR", "green"),
        ("plain_text", "true"),
        ("life", "3600"),
    ];
    assert_eq!(secret_of("command", &settings), "green here 2");
    settings.extend([("environment.EXIT", "9"), ("exit_code.9", "throttled")]);
    assert_eq!(told(&manager(source("command", &settings)).get().unwrap_err()).0, FailureClass::Throttled);
}

#[test]
fn any_token_can_be_probed() {
    let asked = AtomicU32::new(0);
    let issuer = StandIn::start(move |heard| match heard.path.as_str() {
        "/me" if asked.fetch_add(1, Ordering::Relaxed) == 0 => Some(Told::new(401, "")),
        "/me" => Some(Told::new(200, "")),
        _ => Some(granted("t1")),
    });
    let (url, me) = (format!("{}/token", issuer.url()), format!("{}/me", issuer.url()));
    let settings = [("url", &*url), ("client_id", "id"), ("probe_url", &me), ("probe_limit", "8.5")];
    assert_eq!(secret_of("client_credentials", &settings), "t1");
    assert_eq!(issuer.heard().iter().filter(|heard| heard.header("authorization") == Some("Bearer t1")).count(), 2);
}

#[test]
fn what_is_wrong_is_told_by_its_name_and_no_value_is_quoted() {
    let unknown = ByName::new("oauth").map(drop).unwrap_err().to_string();
    assert!(
        unknown.starts_with("kind: there is none of this name; use client_credentials, refresh_token,"),
        "{unknown}"
    );
    let set = |kind: &str, name: &str, value: &str| {
        let told = ByName::new(kind).unwrap().set(name, value).unwrap_err().to_string();
        assert!(!told.contains("hunter2"), "{told}");
        told
    };
    let told = set("wecom", "secret_", "hunter2");
    assert!(
        told.starts_with("set: wecom has no such setting; it has corp_id, secret[_file|_env], base_url, "),
        "{told}"
    );
    assert!(set("client_credentials", "parameter", "hunter2").contains("parameter.NAME"));
    assert!(set("client_credentials", "parameter.", "hunter2").contains("parameter.NAME"));
    assert_eq!(
        set("client_credentials", "default_life", "hunter2"),
        "default_life: is no number of seconds, such as 30 or 0.5"
    );
    assert_eq!(set("client_credentials", "no_proxy", "hunter2"), "no_proxy: is a choice; give true or false");

    let url = ("url", "https://issuer.example.com/token");
    let id = ("client_id", "id");
    assert_eq!(
        refused("client_credentials", &[id]),
        "url: set either url, the token endpoint, or discover, the issuer"
    );
    assert!(refused("client_credentials", &[url]).starts_with("client: is not set"));
    assert_eq!(
        refused("client_credentials", &[url, ("client_secret", "hunter2")]),
        "client_id: is not set, and is needed"
    );
    let both = [url, id, ("client_secret", "hunter2"), ("client_key", "hunter2")];
    assert_eq!(refused("client_credentials", &both), "client_auth: is not set, and more than one proof is; say which");
    assert!(refused("client_credentials", &[url, id, ("client_auth", "magic")]).starts_with("client_auth: is unknown"));
    let post = [url, id, ("client_auth", "post")];
    assert_eq!(refused("client_credentials", &post), "client_secret: is not set, and is needed");
    assert_eq!(refused("wechat_ticket", &[]), "parent: is not set: give the manager whose tokens buy the tickets");
    assert_eq!(refused("github_app", &[("installation", "x")]), "installation: is no number of an installation");
    #[cfg(unix)]
    assert!(
        refused("command", &[("program", "x"), ("exit_code.x", "throttled")])
            .starts_with("exit_code: write exit_code.NUMBER")
    );
}

#[test]
fn a_login_that_fails_keeps_its_class() {
    let mut settings = by_name("refresh_token", &[("url", "http://127.0.0.1:9/token"), ("client_id", "id")]);
    settings.set_login(|_: &Attempt| Err(FetchError::unavailable("nobody is there to log in")));
    let manager = builder(settings.build().unwrap()).build().unwrap();
    assert_eq!(told(&manager.get().unwrap_err()), (FailureClass::Unavailable, "nobody is there to log in".to_owned()));
}
