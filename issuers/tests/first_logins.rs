//! A login that somebody leaves as a secret: presented once, whichever process fetches and however often processes start anew.

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use support::{field, granted, in_turn, refresh_token, rotated, told};
use tempfile::TempDir;
use testbed::oidc::{Oidc, order_at};
use testbed::stand_in::{StandIn, Told};
use token_manager::store::Store;
use token_manager::{FailureClass, Fetched, FileStore, TokenManager};
use token_manager_issuers::{Client, Login, LoginNeeded, OAuthBuilder, RefreshToken, Secret};

/// What outlives processes: a store, and the file that logins are left in.
struct Host {
    folder: TempDir,
    store: Arc<FileStore>,
}

impl Host {
    fn new(login: &str) -> Host {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::open(folder.path().join("store")).unwrap());
        let host = Host { folder, store };
        host.leave(login);
        host
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("login")
    }

    fn leave(&self, login: &str) {
        fs::write(self.file(), format!("{login}\n")).unwrap();
    }

    fn first(&self) -> Secret {
        Secret::file(self.file())
    }

    /// A process that has just started, and knows nothing but what the store has.
    fn process(&self, source: OAuthBuilder<RefreshToken>) -> TokenManager {
        let store: Arc<dyn Store> = self.store.clone();
        support::builder(source.build().unwrap()).store(store).build().unwrap()
    }

    /// Has a new process replace the token that there is.
    fn next(&self, source: OAuthBuilder<RefreshToken>) -> Result<String, LoginNeeded> {
        let process = self.process(source);
        process.lift_pause().unwrap();
        let next = process.get().map(|token| {
            process.invalidate(&token);
            token.secret().to_owned()
        });
        next.map_err(|error| {
            let cause = std::error::Error::source(&error).unwrap();
            *cause.downcast_ref().unwrap_or_else(|| panic!("{cause}"))
        })
    }
}

fn refusal() -> Told {
    Told::new(400, r#"{"error":"invalid_grant"}"#)
}

fn presented(issuer: &StandIn) -> Vec<String> {
    issuer.heard().iter().filter_map(|heard| field(heard, "refresh_token")).collect()
}

#[test]
fn one_that_was_presented_is_never_presented_again_while_the_store_knows_what_came_of_it() {
    let issuer = in_turn([Some(rotated("t1", "r1")), Some(rotated("t2", "r2")), Some(refusal())]);
    let host = Host::new("r0");
    let source = || refresh_token(&issuer).first(host.first());
    assert_eq!(host.next(source()), Ok("t1".into()));
    assert_eq!(host.next(source()), Ok("t2".into()));
    assert_eq!(host.next(source()), Err(LoginNeeded::Refused));
    assert_eq!(presented(&issuer), ["r0", "r1", "r2"]);
}

#[test]
fn a_new_one_is_taken_at_once_by_a_process_that_never_saw_the_old_one() {
    let answers = [rotated("t1", "r1"), refusal(), rotated("t2", "s1"), rotated("t3", "s2"), rotated("t4", "u1")];
    let issuer = in_turn(answers.map(Some));
    let host = Host::new("r0");
    let source = || refresh_token(&issuer).first(host.first());
    assert_eq!(host.next(source()), Ok("t1".into()));
    assert_eq!(host.next(source()), Err(LoginNeeded::Refused));
    host.leave("s0");
    assert_eq!(host.next(source()), Ok("t2".into()), "the carried one is dead");
    assert_eq!(host.next(source()), Ok("t3".into()));
    host.leave("u0");
    assert_eq!(host.next(source()), Ok("t4".into()), "the carried one is alive");
    assert_eq!(presented(&issuer), ["r0", "r1", "s0", "s1", "u0"]);
}

#[test]
fn one_that_is_only_read_does_not_count_as_presented() {
    let nobody = RefreshToken::at("http://127.0.0.1:1/").client(Client::basic("id", "secret"));
    let issuer = in_turn([Some(Told::new(503, "")), Some(rotated("t1", "r1"))]);
    let host = Host::new("r0");
    let process = host.process(nobody.first(host.first()));
    for _ in 0..2 {
        assert_eq!(told(&process.get().unwrap_err()).0, FailureClass::Unavailable);
        process.lift_pause().unwrap();
    }
    let process = host.process(refresh_token(&issuer).first(host.first()));
    assert_eq!(told(&process.get().unwrap_err()).0, FailureClass::Unavailable);
    process.lift_pause().unwrap();
    assert_eq!(process.get().unwrap().secret(), "t1");
    assert_eq!(presented(&issuer), ["r0", "r0"]);
}

#[test]
fn one_whose_outcome_nobody_knows_is_presented_again_within_the_window_and_never_outside() {
    for (window, expected) in [(Duration::from_secs(60), 2), (Duration::ZERO, 1)] {
        let issuer = in_turn([None, Some(rotated("t1", "r1"))]);
        let host = Host::new("r0");
        let process = host.process(refresh_token(&issuer).first(host.first()).reuse_window(window));
        assert_eq!(told(&process.get().unwrap_err()).0, FailureClass::UnknownOutcome);
        process.lift_pause().unwrap();
        let again = process.get();
        assert_eq!(again.is_ok(), expected == 2, "{again:?}");
        assert_eq!(presented(&issuer).len(), expected);
    }
}

#[test]
fn an_old_one_that_is_put_back_or_a_wrong_one_does_not_displace_the_login_that_is_alive() {
    let answers = [rotated("t1", "r1"), rotated("t2", "s1"), rotated("t3", "s2"), refusal(), rotated("t4", "s3")];
    let issuer = in_turn(answers.into_iter().chain([rotated("t5", "s4")]).map(Some));
    let host = Host::new("r0");
    let source = || refresh_token(&issuer).first(host.first());
    assert_eq!(host.next(source()), Ok("t1".into()));
    host.leave("s0");
    assert_eq!(host.next(source()), Ok("t2".into()));
    host.leave("r0");
    assert_eq!(host.next(source()), Ok("t3".into()));
    host.leave("wrong");
    assert_eq!(host.next(source()), Ok("t4".into()), "with the carried one, in the same fetch");
    assert_eq!(host.next(source()), Ok("t5".into()), "and nobody tries the wrong one again");
    fs::remove_file(host.file()).unwrap();
    let issuer = in_turn([Some(granted("t6"))]);
    assert_eq!(host.next(refresh_token(&issuer).first(host.first())), Ok("t6".into()), "it is not needed");
    assert_eq!(presented(&issuer), ["s4"]);
}

#[test]
fn a_refresh_token_that_was_carried_without_a_digest_is_understood() {
    let answers = [rotated("t2", "r2"), rotated("t3", "s1")];
    let issuer = in_turn(answers.map(Some));
    let host = Host::new("r0");
    let hour = Duration::from_secs(3600);
    let hook = move |_: &_| Ok(Login::Tokens(Fetched::new("t1", hour).carry("r1")));
    assert_eq!(host.next(refresh_token(&issuer).bootstrap(hook)), Ok("t1".into()));
    let source = || refresh_token(&issuer).first(host.first());
    assert_eq!(host.next(source()), Ok("t2".into()), "it came of the login that is there");
    host.leave("s0");
    assert_eq!(host.next(source()), Ok("t3".into()));
    assert_eq!(presented(&issuer), ["r1", "s0"]);

    let issuer = in_turn([Some(refusal()), Some(rotated("t4", "s2"))]);
    let host = Host::new("s1");
    assert_eq!(host.next(refresh_token(&issuer).bootstrap(hook)), Ok("t1".into()));
    assert_eq!(host.next(refresh_token(&issuer).first(host.first())), Ok("t4".into()), "where that one is dead");
    assert_eq!(presented(&issuer), ["r1", "s1"]);
}

#[test]
fn an_issuer_that_revokes_what_is_shown_twice_sees_each_login_once_from_ever_new_processes() {
    let issuer = Oidc::start(Duration::ZERO);
    let host = Host::new(&order_at(issuer.url(), "login"));
    let source = || {
        let builder = RefreshToken::at(issuer.token_url()).client(Client::basic("user", "secret"));
        builder.first(host.first())
    };
    (0..3).for_each(|_| assert!(host.next(source()).is_ok()));
    host.leave(&order_at(issuer.url(), "login"));
    (0..3).for_each(|_| assert!(host.next(source()).is_ok()));
    let stats = issuer.stats();
    let counts = ["logins", "rotations", "inside", "outside", "revoked", "invalid_grant"];
    assert_eq!(counts.map(|what| stats[what].as_u64().unwrap()), [2, 6, 0, 0, 0, 0], "{stats}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let issuer = StandIn::start(|_| None);
    let refused = |builder: OAuthBuilder<RefreshToken>| builder.build().unwrap_err().to_string();
    let hook = |_: &_| Ok(Login::refresh_token("r0"));
    let both = refused(refresh_token(&issuer).bootstrap(hook).first("r0".into()));
    assert!(both.starts_with("first: is set, and so is bootstrap"), "{both}");
    let two = refused(refresh_token(&issuer).first(Secret::text("r0").or("r1".into())));
    assert!(two.starts_with("first: has a second secret"), "{two}");
}
