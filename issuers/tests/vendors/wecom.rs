//! WeCom's tokens: the same one within its life, and codes in answers of status 200.

use crate::standin::Vendor;
use crate::tencent::{LIFE, Tencent};
use crate::{class_and_cause, failure_of};
use testbed::Backing;
use token_manager::{FailureClass, TokenManager};
use token_manager_issuers::wecom::AccessToken;

fn manager(url: &str) -> TokenManager {
    let source = AccessToken::of("wx01", "hunter2&?").base_url(url).build().unwrap();
    Backing::memory().builder("t").source(source).build().unwrap()
}

#[test]
fn the_same_token_comes_back_within_its_life() {
    let wecom = Vendor::start(Tencent::new());
    let manager = manager(&wecom.url());
    let first = manager.get().unwrap();
    manager.invalidate(&first);
    let again = manager.get().unwrap();
    assert_eq!((first.secret(), again.secret()), ("wecom-1", "wecom-1"));
    wecom.advance(LIFE);
    manager.invalidate(&again);
    assert_eq!(manager.get().unwrap().secret(), "wecom-2");
}

#[test]
fn a_token_that_was_ended_before_its_time_is_replaced() {
    let wecom = Vendor::start(Tencent::new());
    let manager = manager(&wecom.url());
    let first = manager.get().unwrap();
    wecom.with(|books| books.end(first.secret()));
    manager.invalidate(&first);
    assert_eq!(manager.get().unwrap().secret(), "wecom-2");
}

#[test]
fn codes_have_classes() {
    use FailureClass::{CredentialsRejected, Throttled, Unavailable};
    let wecom = Vendor::start(Tencent::new());
    for (code, class, pause) in [
        (-1, Unavailable, None),
        (40001, CredentialsRejected, None),
        (40013, CredentialsRejected, None),
        (41004, CredentialsRejected, None),
        (45009, Throttled, Some(60)),
        (45033, Throttled, Some(60)),
        (60020, CredentialsRejected, None),
        (54321, Unavailable, None),
    ] {
        wecom.with(|books| books.always = Some(code));
        let error = manager(&wecom.url()).get().unwrap_err();
        assert_eq!(class_and_cause(&error).0, class, "{code}");
        if let Some(pause) = pause {
            let told = error.retry_after().expect("a pause").as_secs();
            assert!((pause - 20..=pause).contains(&told), "{code}: {told}");
        }
    }
}

#[test]
fn wrong_credentials_are_told_and_lost_answers_cast_no_doubt() {
    let wecom = Vendor::start(Tencent::new());
    let ask = |id: &str, secret: &str| AccessToken::of(id, secret).base_url(wecom.url()).build().unwrap();
    let (class, cause) = failure_of(ask("wx01", "wrong"));
    assert_eq!(
        (class, &*cause),
        (FailureClass::CredentialsRejected, "the issuer answered errcode 40001: wrong secret")
    );
    assert_eq!(failure_of(ask("ww02", "hunter2&?")).0, FailureClass::CredentialsRejected);
    wecom.with(|books| books.lost = 1);
    assert_eq!(failure_of(ask("wx01", "hunter2&?")).0, FailureClass::Unavailable);
}
