//! WeChat's tokens and tickets: the published rules, the codes, and what a lost answer means.

use crate::standin::{Vendor, nobody};
use crate::tencent::{LIFE, OVERLAP, Tencent};
use crate::{class_and_cause, failure_of};
use std::collections::BTreeSet;
use std::time::Duration;
use testbed::child::{Dialogue, say, told};
use testbed::redis_server::RedisServer;
use testbed::{Backing, LONG, on_threads, wait_until};
use token_manager::{FailureClass, TokenManager, Verdict};
use token_manager_issuers::wechat::{AccessToken, AccessTokenBuilder, Ticket};
use token_manager_issuers::{Secret, wechat};

const CLASSIC: &str = "/cgi-bin/token";
const STABLE: &str = "/cgi-bin/stable_token";

fn stable(url: &str) -> AccessTokenBuilder {
    AccessToken::stable("wx01", "hunter2&?").base_url(url)
}

fn classic(url: &str) -> AccessTokenBuilder {
    AccessToken::classic("wx01", "hunter2&?").base_url(url)
}

fn manager(source: AccessTokenBuilder) -> TokenManager {
    Backing::memory().builder("t").source(source.build().unwrap()).build().unwrap()
}

/// Calls the API with this token; it answers 200 with a code.
fn api(url: &str, token: &str) -> i64 {
    let url = format!("{url}/cgi-bin/get_api_domain_ip?access_token={token}");
    let answer = ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap();
    serde_json::from_str::<serde_json::Value>(&answer).unwrap()["errcode"].as_i64().unwrap_or(0)
}

#[test]
fn a_stable_token_comes_back_within_its_life_and_its_successor_shortly_before_its_end() {
    let wechat = Vendor::start(Tencent::new());
    let manager = manager(stable(&wechat.url()));
    let first = manager.get().unwrap();
    assert_eq!(first.secret(), "stable-1");
    manager.invalidate(&first);
    let again = manager.get().unwrap();
    assert_eq!(again.secret(), "stable-1");
    assert!(again.generation() > first.generation());

    wechat.advance(LIFE - OVERLAP);
    manager.invalidate(&again);
    assert_eq!(manager.get().unwrap().secret(), "stable-2");
    assert_eq!(api(&wechat.url(), "stable-1"), 0, "both are taken for five minutes");
    wechat.advance(OVERLAP);
    assert_eq!(api(&wechat.url(), "stable-1"), 42001);
    assert_eq!(api(&wechat.url(), "stable-2"), 0);
    assert_eq!(wechat.with(|books| (books.asked_for(STABLE), books.issued)), (3, 2));
}

#[test]
fn a_classic_token_revokes_the_last_one_after_five_minutes() {
    let wechat = Vendor::start(Tencent::new());
    let manager = manager(classic(&wechat.url()));
    let first = manager.get().unwrap();
    manager.invalidate(&first);
    assert_eq!(manager.get().unwrap().secret(), "classic-2");
    assert_eq!((api(&wechat.url(), "classic-1"), api(&wechat.url(), "classic-2")), (0, 0));
    wechat.advance(OVERLAP);
    assert_eq!((api(&wechat.url(), "classic-1"), api(&wechat.url(), "classic-2")), (42001, 0));
}

#[test]
fn a_fleet_of_four_processes_asks_once_and_once_more_for_a_token_that_was_ended() {
    let (wechat, redis) = (Vendor::start(Tencent::new()), RedisServer::start().unwrap());
    let orders = format!("{} {}", redis.url(), wechat.url());
    let child = || Dialogue::start(&["wechat::child_of_a_fleet", "--exact", "--nocapture"], &[("FLEET", &orders)]);
    let mut fleet: Vec<_> = std::iter::repeat_with(child).take(4).collect();
    let mut saw = |line: &str| -> BTreeSet<String> {
        fleet.iter_mut().for_each(|child| child.process.tell(line));
        fleet.iter_mut().map(|child| child.expect("> used ")).collect()
    };
    assert_eq!(saw("go"), BTreeSet::from(["classic-1".to_owned()]));
    assert_eq!(saw("go"), BTreeSet::from(["classic-1".to_owned()]));
    assert_eq!(wechat.with(|books| books.asked_for(CLASSIC)), 1);

    wechat.with(|books| books.end("classic-1"));
    assert_eq!(saw("go"), BTreeSet::from(["classic-2".to_owned()]));
    assert_eq!(wechat.with(|books| books.asked_for(CLASSIC)), 2);
}

/// One process of the fleet: ten threads call the API, each time that it is told to.
#[test]
fn child_of_a_fleet() {
    let Ok(orders) = std::env::var("FLEET") else { return };
    let (redis, url) = orders.split_once(' ').expect("two addresses");
    let builder = TokenManager::builder("wechat").redis(redis).expect("a URL").budget(wechat::classic_budget());
    let manager = builder.deadline(LONG).source(classic(url).build().unwrap()).build().unwrap();
    let _fresh = manager.keep_fresh().unwrap();
    for _ in told() {
        let (manager, url) = (manager.clone(), url.to_owned());
        let used: BTreeSet<String> = on_threads(10, move |_| {
            let call = |token: &token_manager::Token| match api(&url, token.secret()) {
                0 => Verdict::Accepted(token.secret().to_owned()),
                code => Verdict::Unauthorized(format!("errcode {code}")),
            };
            manager.with_token(call).unwrap()
        })
        .into_iter()
        .collect();
        say(&format!("> used {}", used.into_iter().collect::<Vec<_>>().join(",")));
    }
}

#[test]
fn codes_have_classes() {
    use FailureClass::{CredentialsRejected, Throttled, Unavailable};
    let wechat = Vendor::start(Tencent::new());
    for (code, class, pause) in [
        (-1, Unavailable, None),
        (40001, CredentialsRejected, None),
        (40013, CredentialsRejected, None),
        (40125, CredentialsRejected, None),
        (40164, CredentialsRejected, None),
        (40243, CredentialsRejected, None),
        (42001, CredentialsRejected, None),
        (45009, Throttled, Some(3600)),
        (45011, Throttled, Some(60)),
        (48001, CredentialsRejected, None),
        (50002, CredentialsRejected, None),
        (89503, CredentialsRejected, None),
        (89507, CredentialsRejected, Some(3600)),
        (12345, Unavailable, None),
    ] {
        wechat.with(|books| books.always = Some(code));
        for source in [stable(&wechat.url()), classic(&wechat.url())] {
            let error = manager(source).get().unwrap_err();
            let (found, cause) = class_and_cause(&error);
            assert_eq!(found, class, "{code}");
            assert!(cause.starts_with(&format!("the issuer answered errcode {code}: ")), "{cause}");
            if let Some(pause) = pause {
                let told = error.retry_after().expect("a pause").as_secs();
                assert!((pause - 20..=pause).contains(&told), "{code}: {told}");
            }
        }
    }
}

#[test]
fn wrong_credentials_are_told_and_a_second_secret_is_tried_once() {
    let wechat = Vendor::start(Tencent::new());
    let url = wechat.url();
    let (class, cause) = failure_of(AccessToken::stable("wx02", "hunter2&?").base_url(&url).build().unwrap());
    assert_eq!(class, FailureClass::CredentialsRejected);
    assert_eq!(cause, "the issuer answered errcode 40013: wrong app or corporation id");
    for (source, path) in [
        (AccessToken::stable("wx01", Secret::text("old").or(Secret::text("hunter2&?"))), STABLE),
        (AccessToken::classic("wx01", Secret::text("old").or(Secret::text("hunter2&?"))), CLASSIC),
    ] {
        let before = wechat.with(|books| books.asked_for(path));
        assert!(manager(source.base_url(&url)).get().is_ok());
        assert_eq!(wechat.with(|books| books.asked_for(path)) - before, 2);
    }
}

#[test]
fn a_lost_answer_is_an_unknown_outcome_only_where_it_may_have_revoked_a_token() {
    let wechat = Vendor::start(Tencent::new());
    for (source, class) in
        [(stable(&wechat.url()), FailureClass::Unavailable), (classic(&wechat.url()), FailureClass::UnknownOutcome)]
    {
        wechat.with(|books| books.lost = 1);
        assert_eq!(failure_of(source.build().unwrap()).0, class);
    }
    for source in [stable(&nobody()), classic(&nobody())] {
        assert_eq!(failure_of(source.build().unwrap()).0, FailureClass::Unavailable, "nothing was sent");
    }
}

#[test]
fn an_issuer_that_never_answers_is_given_up_before_the_source_is() {
    let wechat = Vendor::start(Tencent::new());
    wechat.with(|books| books.mute = true);
    for (source, class) in
        [(stable(&wechat.url()), FailureClass::Unavailable), (classic(&wechat.url()), FailureClass::UnknownOutcome)]
    {
        let limit = Duration::from_secs(4);
        let builder = Backing::memory().builder("t").fetch_limit(limit).lease(limit);
        let manager = builder.source(source.build().unwrap()).build().unwrap();
        let (found, cause) = class_and_cause(&manager.get().unwrap_err());
        assert_eq!(found, class);
        assert_eq!(cause, "no usable answer came to what was sent: it took too long");
        assert_eq!(manager.stats().abandoned, 0);
    }
}

#[test]
fn a_classic_token_whose_successor_was_lost_is_doubted_and_refreshed_once_more() {
    let wechat = Vendor::start(Tencent::new());
    let manager = manager(classic(&wechat.url()));
    let first = manager.get().unwrap();
    wechat.with(|books| books.lost = 1);
    manager.invalidate(&first);
    assert!(manager.get().is_err());
    assert_eq!(wechat.with(|books| books.issued), 2, "it was issued, and classic-1 will be revoked");
    wait_until("the pause is over", || manager.get().is_ok());
    assert_eq!(manager.get().unwrap().secret(), "classic-3");
}

#[test]
fn the_classic_quota_is_told_and_its_budget_keeps_within_it() {
    let mut books = Tencent::new();
    books.quota = 0;
    let wechat = Vendor::start(books);
    let error = manager(classic(&wechat.url())).get().unwrap_err();
    assert_eq!(class_and_cause(&error).0, FailureClass::Throttled);
    let in_a_day =
        |budget: token_manager::Budget| 86_400 / budget.emission_interval().as_secs() + u64::from(budget.max_burst());
    assert_eq!(in_a_day(wechat::classic_budget()), 1_450);
    assert_eq!(in_a_day(wechat::stable_budget()), 86_410);
}

#[test]
fn a_leaked_stable_token_is_revoked_by_force_and_the_fleet_gets_its_successor() {
    let wechat = Vendor::start(Tencent::new());
    let source = std::sync::Arc::new(stable(&wechat.url()).build().unwrap());
    let shared = source.clone();
    let fetch = move |attempt: &token_manager::Attempt| token_manager::TokenSource::fetch(&*shared, attempt);
    let manager = Backing::memory().builder("t").source(fetch).build().unwrap();
    let leaked = manager.get().unwrap();
    source.force_refresh(LONG).unwrap();
    assert_eq!(api(&wechat.url(), leaked.secret()), 40001);
    manager.invalidate(&leaked);
    assert_eq!(manager.get().unwrap().secret(), "stable-2");
    let classic = classic(&wechat.url()).build().unwrap();
    assert!(classic.force_refresh(LONG).is_err());
}

#[test]
fn a_ticket_is_bought_with_the_accounts_token_and_a_refused_token_is_replaced() {
    for backing in Backing::both() {
        let wechat = Vendor::start(Tencent::new());
        let (url, tokens) = (wechat.url(), backing.builder("tokens"));
        let tokens = tokens.source(classic(&url).build().unwrap()).build().unwrap();
        let ticket = Ticket::jsapi(tokens.clone()).base_url(&url).build().unwrap();
        let tickets = backing.builder("tickets").source(ticket).build().unwrap();
        assert_eq!(tickets.get().unwrap().secret(), "jsapi of classic-1");

        wechat.with(|books| books.end("classic-1"));
        tickets.invalidate(&tickets.get().unwrap());
        assert_eq!(tickets.get().unwrap().secret(), "jsapi of classic-2");
        assert_eq!(tokens.get().unwrap().secret(), "classic-2");
        assert_eq!(
            wechat.with(|books| (books.asked_for(CLASSIC), books.asked_for("/cgi-bin/ticket/getticket"))),
            (2, 3)
        );
    }
}

#[test]
fn a_ticket_that_is_refused_otherwise_leaves_the_token_alone() {
    let wechat = Vendor::start(Tencent::new());
    let tokens = manager(classic(&wechat.url()));
    assert_eq!(tokens.get().unwrap().secret(), "classic-1");
    wechat.with(|books| books.always = Some(45009));
    let ticket = Ticket::jsapi(tokens.clone()).base_url(wechat.url()).kind("wx_card").build().unwrap();
    assert_eq!(failure_of(ticket).0, FailureClass::Throttled);
    assert_eq!(tokens.get().unwrap().secret(), "classic-1");
}

#[test]
fn what_cannot_be_asked_is_refused_by_its_name() {
    let refused = |source: AccessTokenBuilder| source.build().unwrap_err().to_string();
    assert_eq!(refused(AccessToken::stable("", "s")), "app: is empty; give the account's AppID");
    assert_eq!(refused(AccessToken::stable("wx01", "")), "secret: is empty; give the secret");
    assert!(refused(stable("http://example.com")).starts_with("base_url: begins with http"));
}
