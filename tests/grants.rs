//! Several tokens of one grant: one refresh token that is replaced each time, presented by one process at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbed::{Backing, Script, on_threads, wait_until};
use token_manager::{Attempt, ErrorKind, FailureClass, FetchError, Fetched, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

/// An issuer that takes each refresh token once, and notes what it must never see.
#[derive(Clone, Default)]
struct StrictIssuer(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    issued: u64,
    is_asked: bool,
    flaws: Vec<String>,
    audiences: HashSet<&'static str>,
}

impl StrictIssuer {
    fn source(
        &self,
        audience: &'static str,
    ) -> impl Fn(&Attempt) -> Result<Fetched, FetchError> + Send + Sync + 'static {
        let issuer = self.clone();
        move |attempt| {
            issuer.begin(attempt.carry());
            std::thread::yield_now(); // long enough for another one to come in between
            Ok(issuer.end(audience))
        }
    }

    fn begin(&self, presented: Option<&str>) {
        let mut books = self.0.lock().unwrap();
        let valid = (books.issued > 0).then(|| format!("refresh-{}", books.issued));
        if presented != valid.as_deref() {
            let issued = books.issued;
            books.flaws.push(format!("{presented:?} was presented after {issued} had been issued"));
        }
        if std::mem::replace(&mut books.is_asked, true) {
            books.flaws.push("two asked at once".into());
        }
    }

    fn end(&self, audience: &'static str) -> Fetched {
        let mut books = self.0.lock().unwrap();
        books.is_asked = false;
        books.issued += 1;
        books.audiences.insert(audience);
        Fetched::new(format!("{audience}-{}", books.issued), HOUR).carry(format!("refresh-{}", books.issued))
    }
}

#[test]
fn tokens_of_one_grant_never_present_its_refresh_token_twice_or_in_parallel() {
    for backing in Backing::all() {
        let issuer = StrictIssuer::default();
        let manager = |audience| {
            backing.builder(audience).grant("login").source(issuer.source(audience)).build().expect("a manager")
        };
        // Two managers of each, as two processes would have.
        let managers: Vec<TokenManager> = ["read", "write", "read", "write"].map(manager).into();
        let asked = managers.clone();
        on_threads(40, move |thread| {
            let manager = &asked[thread % asked.len()];
            for _ in 0..10 {
                let token = manager.get().expect("a token");
                manager.invalidate(&token);
                assert!(manager.get().expect("a newer token").generation() > token.generation());
            }
        });
        let fetches = managers.iter().map(|manager| manager.stats().fetches).sum::<u64>();
        let books = issuer.0.lock().unwrap();
        assert_eq!(books.flaws, Vec::<String>::new());
        assert_eq!((books.issued, books.audiences.len()), (fetches, 2));
    }
}

#[test]
fn who_waits_for_another_token_of_its_grant_fetches_as_soon_as_that_has_come() {
    for backing in Backing::all() {
        let (read, write) = (Script::held(HOUR), Script::new(HOUR));
        let manager = |name, script: &Script| {
            backing.builder(name).grant("login").lease(HOUR / 10).source(script.source()).build().expect("a manager")
        };
        let (read_manager, write_manager) = (manager("read", &read), manager("write", &write));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_manager.get().unwrap().secret().to_owned());
            wait_until("the first fetch runs", || read.fetches() == 1);
            let writer = scope.spawn(|| write_manager.get().unwrap().secret().to_owned());
            wait_until("the second waits", || write_manager.stats().waits == 1);
            assert_eq!(write.fetches(), 0, "the grant has one updater");
            read.release();
            assert_eq!((reader.join().unwrap(), writer.join().unwrap()), ("token-1".into(), "token-1".into()));
        });
        assert_eq!((read.fetches(), write.fetches()), (1, 1));
    }
}

#[test]
fn a_failure_pauses_all_tokens_of_the_grant_and_no_other() {
    for backing in Backing::all() {
        let (read, write, other) = (Script::new(HOUR), Script::new(HOUR), Script::new(HOUR));
        read.answer(|_| Err(FetchError::unavailable("out of order").retry_after(HOUR)));
        let build = |name, grant, script: &Script| {
            backing.builder(name).group("g").grant(grant).source(script.source()).build().expect("a manager")
        };
        let failed = build("read", "login", &read).get().unwrap_err();
        let paused = build("write", "login", &write).get().unwrap_err();
        for error in [failed, paused] {
            assert_eq!(error.kind(), ErrorKind::Source(FailureClass::Unavailable));
            assert!(error.retry_after().unwrap() > HOUR / 2);
        }
        assert_eq!(build("other", "other", &other).get().unwrap().secret(), "token-1");
        assert_eq!((read.fetches(), write.fetches(), other.fetches()), (1, 0, 1));
    }
}
