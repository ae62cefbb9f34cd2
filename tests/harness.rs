//! The issuer, its client and the private Redis that the other tests stand on do what they say.

use std::thread;
use std::time::{Duration, Instant};
use testbed::issuer::{Fault, Issuer, Options};
use testbed::redis_server::RedisServer;

const SOON: Duration = Duration::from_secs(5);

fn agent() -> ureq::Agent {
    ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build())
}

fn get(url: &str, limit: Duration) -> Result<(u16, String), ureq::Error> {
    let request = agent().get(url).header("Connection", "close").config().timeout_global(Some(limit)).build();
    let mut answer = request.call()?;
    Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
}

fn token(issuer: &Issuer) -> String {
    let (status, body) = get(&format!("{}/token", issuer.url()), SOON).unwrap();
    assert_eq!(status, 200);
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["token_type"], "Bearer");
    json["access_token"].as_str().unwrap().to_string()
}

fn verify(issuer: &Issuer, secret: &str) -> u16 {
    let request = agent().get(format!("{}/verify", issuer.url())).header("Authorization", format!("Bearer {secret}"));
    request.header("Connection", "close").call().unwrap().status().as_u16()
}

#[test]
fn only_the_newest_token_is_valid_when_issuing_revokes() {
    let issuer = Issuer::start("127.0.0.1:0", Options { revoke_on_issue: true, ..Options::default() }).unwrap();
    let (old, new) = (token(&issuer), token(&issuer));
    assert_eq!((verify(&issuer, &old), verify(&issuer, &new), verify(&issuer, "unknown")), (401, 200, 401));
    issuer.set(|options| options.revoke_on_issue = false);
    let newer = token(&issuer);
    assert!(issuer.is_valid(&new) && issuer.is_valid(&newer));
    issuer.revoke();
    assert!(!issuer.is_valid(&new) && !issuer.is_valid(&newer));
    let stats = issuer.stats();
    assert_eq!((stats.asked, stats.issued, stats.max_in_flight, stats.verified, stats.rejected), (3, 3, 1, 1, 2));
}

#[test]
fn a_held_request_holds_up_nobody_else_and_is_issued_on_release() {
    let issuer = Issuer::start("127.0.0.1:0", Options::default()).unwrap();
    issuer.hold();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| token(&issuer));
        }
        assert!(issuer.wait_for(|stats| stats.in_flight == 20, SOON));
        assert_eq!((issuer.stats().issued, verify(&issuer, "unknown")), (0, 401));
        assert!(!issuer.wait_for(|stats| stats.issued > 0, Duration::from_millis(50)));
        issuer.release();
        assert!(issuer.wait_for(|stats| stats.issued == 20 && stats.in_flight == 0, SOON));
    });
    assert_eq!(issuer.stats().max_in_flight, 20);
}

#[test]
fn a_rate_limit_refuses_what_exceeds_it_and_says_when_to_come_back() {
    let issuer = Issuer::start("127.0.0.1:0", Options { rate: 30, burst: 2, ..Options::default() }).unwrap();
    let url = format!("{}/token", issuer.url());
    let answers = [(); 3].map(|()| agent().get(&url).header("Connection", "close").call().unwrap());
    assert_eq!(answers.each_ref().map(|answer| answer.status().as_u16()), [200, 200, 429]);
    assert_eq!(answers[2].headers().get("Retry-After").unwrap(), "2");
    assert_eq!(issuer.stats().refused, 1);
}

#[test]
fn every_fault_shows_on_the_wire() {
    let issuer = Issuer::start("127.0.0.1:0", Options { control: true, ..Options::default() }).unwrap();
    let ask = |fault: &str| {
        assert_eq!(get(&format!("{}/control?fault={fault}", issuer.url()), SOON).unwrap().0, 200);
        get(&format!("{}/token", issuer.url()), Duration::from_millis(500))
    };
    assert_eq!(ask("status:503").unwrap().0, 503);
    assert_eq!(ask("throttle:7").unwrap().0, 429);
    assert!(ask("life-zero").unwrap().1.contains(r#""expires_in":0}"#));
    assert!(ask("life-negative").unwrap().1.contains(r#""expires_in":-1}"#));
    assert!(ask("life-huge").unwrap().1.contains(r#""expires_in":9223372036854775807}"#));
    assert!(ask("empty-token").unwrap().1.contains(r#""access_token":"""#));
    assert!(ask("garbage").unwrap().1.starts_with("<html>"));
    assert!(matches!(ask("truncated-body"), Err(ureq::Error::Io(_))));
    assert!(matches!(ask("hang"), Err(ureq::Error::Timeout(_))));
    assert_eq!(get(&format!("{}/control?fault=nonsense", issuer.url()), SOON).unwrap().0, 400);
    issuer.set(|options| options.fault = Fault::None);
    token(&issuer);
    let stats = issuer.stats();
    assert_eq!((stats.asked, stats.issued, stats.refused, stats.failed, stats.in_flight), (10, 5, 1, 3, 1));
    let (started, url) = (Instant::now(), issuer.url());
    drop(issuer);
    assert!(started.elapsed() < Duration::from_secs(1), "a hanging request held up the end");
    assert!(matches!(get(&url, SOON), Err(ureq::Error::Io(_) | ureq::Error::ConnectionFailed)));
}

#[test]
fn the_client_tells_every_fault_by_its_class_and_repeats_no_body() {
    let issuer = Issuer::start("127.0.0.1:0", Options::default()).unwrap();
    let agent = testbed::client::agent();
    let ask = |fault: Fault| {
        issuer.set(|options| options.fault = fault);
        match testbed::client::ask(&agent, &issuer.url(), Duration::from_millis(500)) {
            Ok(issued) => format!("token of {:?}", issued.life),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                assert!(!cause.contains("token-") && !cause.contains("Welcome"), "{cause}");
                error.to_string()
            }
        }
    };
    assert_eq!(ask(Fault::None), "token of 5s");
    assert_eq!(ask(Fault::LifeZero), "token of 0ns");
    assert_eq!(ask(Fault::LifeHuge), format!("token of {}s", i64::MAX));
    assert_eq!(ask(Fault::EmptyToken), "token of 5s");
    assert_eq!(ask(Fault::Status(503)), "unavailable");
    assert_eq!(ask(Fault::Status(401)), "credentials_rejected");
    assert_eq!(ask(Fault::Throttle { retry_after: Some(3) }), "throttled");
    for fault in [Fault::Hang, Fault::TruncatedBody, Fault::Garbage, Fault::LifeNegative] {
        assert_eq!(ask(fault), "unknown_outcome");
    }
    let url = issuer.url();
    issuer.set(|options| options.fault = Fault::None);
    let secret = testbed::client::ask(&agent, &url, SOON).map(|issued| issued.secret).unwrap();
    assert_eq!(testbed::client::verify(&agent, &url, &secret, SOON), Ok(testbed::client::Verified::Valid));
    issuer.revoke();
    let rejected = testbed::client::verify(&agent, &url, &secret, SOON);
    assert!(matches!(rejected, Ok(testbed::client::Verified::Rejected(Some(_)))), "{rejected:?}");
    drop(issuer);
    assert_eq!(testbed::client::ask(&agent, &url, SOON).map(|_| ()).unwrap_err().to_string(), "unavailable");
}

#[test]
fn a_private_redis_can_be_killed_restarted_and_paused() {
    let mut redis = RedisServer::start_with(&["--maxmemory", "50mb"]).unwrap();
    assert_eq!(redis.command(&["SET", "key", "a\r\nvalue"]), "OK");
    assert_eq!(redis.command(&["MGET", "key", "none"]), "a\r\nvalue\n(nil)");
    assert!(redis.try_command(&["HGET", "key", "field"]).unwrap_err().starts_with("WRONGTYPE"));
    let url = redis.url();
    redis.pause();
    thread::scope(|scope| {
        let answer = scope.spawn(|| testbed::redis_server::ask(&url, &["DBSIZE"]));
        thread::sleep(Duration::from_millis(50));
        assert!(!answer.is_finished());
        redis.resume();
        assert_eq!(answer.join().unwrap().unwrap(), "1");
    });
    redis.kill();
    assert!(redis.try_command(&["PING"]).is_err());
    redis.restart().unwrap();
    assert_eq!((redis.command(&["DBSIZE"]), redis.url()), ("0".into(), url));
    let _second = RedisServer::start().unwrap();
}
