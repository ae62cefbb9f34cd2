//! What an issuer's answers mean: lives, error codes, statuses, Retry-After, discovery.

mod support;

use serde_json::json;
use std::time::{Duration, SystemTime};
use support::{
    at, client_credentials, failure, field, granted, in_turn, manager, refresh_token, rotated, saying, told,
};
use testbed::keys::Keys;
use testbed::stand_in::{StandIn, Told};
use token_manager::FailureClass::{self, CredentialsRejected, Throttled, Unavailable, UnknownOutcome};
use token_manager_issuers::{Client, ClientCredentials, Http, Login, LoginNeeded, Secret};

#[test]
fn expires_in_is_taken_as_it_comes() {
    const TEN_YEARS: f64 = 315_360_000.0;
    let table = [
        (json!(3600), 3600.0),
        (json!("3600"), 3600.0),
        (json!(" 60 "), 60.0),
        (json!(90.75), 90.75),
        (json!(1e300), TEN_YEARS),
        (json!(u64::MAX), TEN_YEARS),
        (json!(0), 77.0),
        (json!("0"), 77.0),
        (json!(-1), 77.0),
        (json!(0.0001), 77.0),
        (json!("NaN"), 77.0),
        (json!("an hour"), 77.0),
        (json!(null), 77.0),
        (json!([3600]), 77.0),
    ];
    for (value, seconds) in table {
        let issuer = saying(200, &json!({ "access_token": "token", "expires_in": value }).to_string());
        let source = at(&issuer.url()).default_life(Duration::from_secs(77)).build().unwrap();
        let left = manager(source).get().unwrap().expires_in().as_secs_f64();
        assert!(left <= seconds && left > seconds - 5.0, "{value}: {left}");
    }
    let issuer = saying(200, r#"{ "access_token": "token" }"#);
    let left = manager(client_credentials(&issuer)).get().unwrap().expires_in();
    assert!(left <= Duration::from_secs(300) && left > Duration::from_secs(295), "{left:?}");
}

#[test]
fn error_codes_and_statuses_have_their_classes_and_nothing_else_is_shown() {
    let error = |code: &str| json!({ "error": code, "error_description": "leak", "error_uri": "leak" }).to_string();
    let table: [(u16, String, FailureClass, &str); 22] = [
        (401, error("invalid_client"), CredentialsRejected, ": invalid_client"),
        (400, error("invalid_client"), CredentialsRejected, ": invalid_client"),
        (400, error("unauthorized_client"), CredentialsRejected, ": unauthorized_client"),
        (400, error("invalid_grant"), CredentialsRejected, ": invalid_grant"),
        (400, error("invalid_scope"), CredentialsRejected, ": invalid_scope"),
        (400, error("invalid_target"), CredentialsRejected, ": invalid_target"),
        (400, error("temporarily_unavailable"), Unavailable, ": temporarily_unavailable"),
        (500, error("server_error"), Unavailable, ": server_error"),
        (502, error("server_error"), Unavailable, ": server_error"),
        (400, error("slow_down"), Throttled, ": slow_down"),
        (429, error("invalid_request"), Throttled, ": invalid_request"),
        (400, error("leak"), CredentialsRejected, ": an error of its own"),
        (200, error("invalid_client"), CredentialsRejected, ": invalid_client"),
        (401, "leak".into(), CredentialsRejected, ""),
        (403, "leak".into(), CredentialsRejected, ""),
        (404, "leak".into(), Unavailable, ": check its address"),
        (429, "leak".into(), Throttled, ""),
        (500, "leak".into(), Unavailable, ""),
        (503, "leak".into(), Unavailable, ""),
        (504, "leak".into(), UnknownOutcome, ": a gateway may have passed the request on"),
        (200, "leak".into(), UnknownOutcome, ": there is no access_token in it"),
        (
            200,
            r#"{"access_token":"leak","token_type":"DPoP"}"#.into(),
            UnknownOutcome,
            ": its token_type is not Bearer, and more than the token is needed to use it",
        ),
    ];
    for (status, body, class, what) in table {
        let issuer = saying(status, &body);
        let expected = (class, format!("the issuer answered {status}{what}"));
        assert_eq!(failure(client_credentials(&issuer)), expected, "{body}");
        assert_eq!(issuer.heard().len(), 1, "{body}");
    }
    let moved = StandIn::start(|_| Some(Told::new(307, "").header("Location", "/elsewhere")));
    let (class, what) = failure(client_credentials(&moved));
    assert!(class == Unavailable && what.contains("redirect"), "{what}");
    assert_eq!(moved.heard().len(), 1);
}

#[test]
fn retry_after_is_read_in_seconds_and_as_a_date_by_the_issuers_own_clock() {
    let date = |seconds: u64| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(40));
    let table = [
        (429, vec![("Retry-After", "17".to_owned())], Some(17)),
        (503, vec![("Retry-After", "17".to_owned())], Some(17)),
        (429, vec![("Date", date(1_000_000)), ("Retry-After", date(1_000_023))], Some(23)),
        (429, vec![("Date", date(1_000_000)), ("Retry-After", date(999_999))], Some(1)),
        (503, vec![("Retry-After", soon)], Some(40)),
        (503, vec![("Retry-After", "soon".to_owned())], None),
    ];
    for (status, headers, seconds) in table {
        let shown = headers.clone();
        let issuer = StandIn::start(move |_| {
            let told = Told::new(status, "");
            Some(headers.iter().fold(told, |told, (name, value)| told.header(name, value.as_str())))
        });
        let error = manager(client_credentials(&issuer)).get().unwrap_err();
        let pause = error.retry_after().unwrap().as_secs_f64();
        match seconds {
            Some(seconds) => {
                assert!(pause <= f64::from(seconds) && pause > f64::from(seconds) - 3.0, "{shown:?}: {pause}")
            }
            None => assert!(pause < 2.0, "{shown:?}: {pause}"),
        }
    }
}

#[test]
fn the_second_secret_is_tried_once_where_the_first_is_refused_and_nowhere_else() {
    let refused = || Some(Told::new(401, r#"{"error":"invalid_client"}"#));
    let two = || Client::post("id", Secret::text("blue").or(Secret::text("green").or(Secret::text("never"))));
    let sent =
        |issuer: &StandIn| issuer.heard().iter().filter_map(|heard| field(heard, "client_secret")).collect::<Vec<_>>();
    let source = |issuer: &StandIn| at(&issuer.url()).client(two()).build().unwrap();

    let issuer = in_turn([refused(), Some(granted("token"))]);
    assert_eq!(manager(source(&issuer)).get().unwrap().secret(), "token");
    assert_eq!(sent(&issuer), ["blue", "green"]);
    let issuer = in_turn([refused(), refused()]);
    assert_eq!(failure(source(&issuer)).0, CredentialsRejected);
    assert_eq!(sent(&issuer), ["blue", "green"]);
    for body in [r#"{"error":"invalid_grant"}"#, r#"{"error":"invalid_scope"}"#] {
        let issuer = in_turn([Some(Told::new(400, body))]);
        assert_eq!(failure(source(&issuer)).0, CredentialsRejected);
        assert_eq!(sent(&issuer), ["blue"], "{body}");
    }
}

#[test]
fn an_issuers_metadata_is_asked_once_and_believed_only_of_itself() {
    let issuer = StandIn::start(|heard| {
        let host = format!("http://{}", heard.header("host")?);
        let endpoint = format!("{host}/deep/token");
        Some(match heard.path.as_str() {
            "/.well-known/oauth-authorization-server/tenant" => Told::new(404, ""),
            "/tenant/.well-known/openid-configuration" => {
                Told::new(200, json!({ "issuer": format!("{host}/tenant"), "token_endpoint": endpoint }).to_string())
            }
            "/.well-known/oauth-authorization-server/liar" => {
                Told::new(200, json!({ "issuer": host, "token_endpoint": endpoint }).to_string())
            }
            "/.well-known/oauth-authorization-server/plain" => {
                let endpoint = "http://issuer.example.com/token";
                Told::new(200, json!({ "issuer": format!("{host}/plain"), "token_endpoint": endpoint }).to_string())
            }
            "/.well-known/oauth-authorization-server/certified" => {
                let aliases = json!({ "token_endpoint": format!("{host}/certified/token") });
                let own = format!("{host}/certified");
                let known = json!({ "issuer": own, "token_endpoint": endpoint, "mtls_endpoint_aliases": aliases });
                Told::new(200, known.to_string())
            }
            "/deep/token" | "/certified/token" => granted("token"),
            _ => Told::new(503, ""),
        })
    });
    let of = |path: &str| {
        let builder = ClientCredentials::discover(format!("{}{path}", issuer.url()));
        builder.client(Client::basic("id", "secret")).build().unwrap()
    };
    let manager = manager(of("/tenant"));
    (0..3).for_each(|_| manager.invalidate(&manager.get().unwrap()));
    let paths: Vec<String> = issuer.heard().into_iter().map(|heard| heard.path).collect();
    let well_known = ["/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"];
    assert_eq!(paths, [&well_known[..], &["/deep/token"; 3]].concat());
    // RFC 8705 §5: who shows a certificate asks where that is looked at.
    let keys = Keys::make();
    let http = Http::new().client_certificate(keys.text("client.pem"), keys.text("client.key"));
    let certified = ClientCredentials::discover(format!("{}/certified", issuer.url())).http(http);
    assert!(support::manager(certified.client(Client::certificate("id")).build().unwrap()).get().is_ok());
    assert_eq!(issuer.heard().last().unwrap().path, "/certified/token");
    for (path, said) in [("/liar", "names another issuer"), ("/plain", "not https"), ("/broken", "answered 503")] {
        let (class, what) = failure(of(path));
        assert!(class == Unavailable && what.contains(said), "{path}: {what}");
    }
}

#[test]
fn an_unknown_outcome_is_replayed_within_the_window_and_never_outside() {
    let window = Duration::from_secs(60);
    let log_in = |_: &_| Ok(Login::refresh_token("first"));
    let lost = || in_turn([Some(rotated("one", "second")), None, Some(rotated("two", "third"))]);
    let presented =
        |issuer: &StandIn| issuer.heard().iter().filter_map(|heard| field(heard, "refresh_token")).collect::<Vec<_>>();

    let issuer = lost();
    let within = manager(refresh_token(&issuer).reuse_window(window).bootstrap(log_in).build().unwrap());
    within.invalidate(&within.get().unwrap());
    assert_eq!(told(&within.get().unwrap_err()).0, UnknownOutcome);
    within.lift_pause().unwrap();
    assert_eq!(within.get().unwrap().secret(), "two");
    assert_eq!(presented(&issuer), ["first", "second", "second"]);

    let issuer = lost();
    let outside = manager(refresh_token(&issuer).bootstrap(log_in).build().unwrap());
    outside.invalidate(&outside.get().unwrap());
    assert_eq!(told(&outside.get().unwrap_err()).0, UnknownOutcome);
    outside.lift_pause().unwrap();
    assert_eq!(outside.get().unwrap().secret(), "two");
    assert_eq!(presented(&issuer), ["first", "second", "first"], "the hook logged in once more");
}

#[test]
fn a_refresh_token_is_not_presented_when_somebody_else_may_have_done_so() {
    let issuer = in_turn([Some(rotated("one", "second")), Some(rotated("two", "third"))]);
    let lease = Duration::from_secs(2);
    let slow = std::sync::atomic::AtomicU32::new(0);
    // As a process that is stopped for longer than its lease, right after it was granted the right to fetch.
    let secret = Secret::from_fn(move || {
        if slow.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1 {
            std::thread::sleep(lease);
        }
        Ok::<_, std::convert::Infallible>("secret".to_owned())
    });
    let source =
        refresh_token(&issuer).client(Client::post("id", secret)).bootstrap(|_| Ok(Login::refresh_token("first")));
    let manager = support::builder(source.build().unwrap()).lease(lease).build().unwrap();
    manager.invalidate(&manager.get().unwrap());
    assert_eq!(told(&manager.get().unwrap_err()).0, Unavailable);
    assert_eq!(issuer.heard().len(), 1);
    // Nobody else has: so it is as good as before.
    manager.lift_pause().unwrap();
    assert_eq!(manager.get().unwrap().secret(), "two");
    assert_eq!(field(&issuer.heard()[1], "refresh_token").unwrap(), "second");
}

#[test]
fn whoever_broke_down_may_have_consumed_a_refresh_token_unless_it_says_that_it_did_not() {
    let table = [
        (Told::new(500, ""), UnknownOutcome, true),
        (Told::new(502, ""), UnknownOutcome, true),
        (Told::new(503, ""), Unavailable, false),
        (Told::new(500, r#"{"error":"server_error"}"#), Unavailable, false),
        (Told::new(429, ""), Throttled, false),
        (Told::new(200, "{}"), UnknownOutcome, true),
    ];
    for (answer, class, is_lost) in table {
        let issuer = in_turn([Some(rotated("one", "second")), Some(answer), Some(rotated("two", "third"))]);
        let login = std::sync::Mutex::new(Some(Login::refresh_token("first")));
        let hook = move |_: &_| login.lock().unwrap().take().ok_or(token_manager::FetchError::unavailable("nobody"));
        let manager = manager(refresh_token(&issuer).bootstrap(hook).build().unwrap());
        manager.invalidate(&manager.get().unwrap());
        assert_eq!(told(&manager.get().unwrap_err()).0, class);
        manager.lift_pause().unwrap();
        let next = manager.get().map(|token| token.secret().to_owned()).map_err(|error| told(&error).1);
        assert_eq!(next, if is_lost { Err("nobody".to_owned()) } else { Ok("two".to_owned()) });
    }
}

#[test]
fn a_refresh_token_that_is_not_replaced_is_used_again() {
    let issuer = StandIn::start(|_| Some(granted("token")));
    let source = refresh_token(&issuer).bootstrap(|_| Ok(Login::refresh_token("for ever"))).build().unwrap();
    let manager = manager(source);
    (0..3).for_each(|_| manager.invalidate(&manager.get().unwrap()));
    let presented = issuer.heard().iter().filter_map(|heard| field(heard, "refresh_token")).collect::<Vec<_>>();
    assert_eq!(presented, ["for ever"; 3]);
}

#[test]
fn a_hook_can_bring_the_token_too_and_a_refused_login_is_typed() {
    let issuer = in_turn([Some(Told::new(400, r#"{"error":"invalid_grant"}"#))]);
    let hour = Duration::from_secs(3600);
    let both = move |_: &_| Ok(token_manager::Fetched::new("brought", hour).carry("refresh").into());
    let source = refresh_token(&issuer).bootstrap(both).build().unwrap();
    assert_eq!(manager(source).get().unwrap().secret(), "brought");
    assert_eq!(issuer.heard().len(), 0);
    let stale = refresh_token(&issuer).bootstrap(|_| Ok(Login::refresh_token("stale"))).build().unwrap();
    let error = manager(stale).get().unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.downcast_ref(), Some(&LoginNeeded::Refused));
}
