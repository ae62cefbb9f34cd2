//! A token that another manager's token buys: a refused parent is replaced once, and a parent without a token keeps its word.

use std::error::Error as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbed::{Backing, LONG, Script};
use token_manager::{
    Attempt, Budget, Builder, Error, ErrorKind, FailureClass, FetchError, Fetched, MemoryStore, Token, TokenManager,
};
use token_manager_issuers::derived::{Denied, Derived};

const HOUR: Duration = Duration::from_secs(3600);

/// A parent of this script's tokens, and a child that asks with them: what it asked with is noted, and who is in `refused` is.
fn family(backing: &Backing, script: &Script, refused: &'static [&'static str]) -> (TokenManager, TokenManager, Asked) {
    let parent = backing.builder("parent").source(script.source()).build().unwrap();
    let asked = Asked::default();
    let noted = asked.clone();
    let ask = move |token: &Token, _: &Attempt| {
        noted.0.lock().unwrap().push(token.secret().to_owned());
        match refused.contains(&token.secret()) {
            true => Err(Denied::ParentToken),
            false => Ok(Fetched::new(format!("of {}", token.secret()), HOUR)),
        }
    };
    let child = backing.builder("child").source(Derived::new(parent.clone(), ask)).build().unwrap();
    (parent, child, asked)
}

#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn with(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn the_child_asks_with_the_parents_token() {
    for backing in Backing::both() {
        let script = Script::new(HOUR);
        let (parent, child, asked) = family(&backing, &script, &[]);
        assert_eq!(child.get().unwrap().secret(), "of token-1");
        child.invalidate(&child.get().unwrap());
        assert_eq!(child.get().unwrap().secret(), "of token-1");
        assert_eq!(parent.get().unwrap().secret(), "token-1");
        assert_eq!((asked.with(), script.fetches()), (vec!["token-1".to_owned(), "token-1".to_owned()], 1));
    }
}

#[test]
fn a_refused_parent_is_invalidated_and_its_successor_is_asked_with() {
    for backing in Backing::both() {
        let script = Script::new(HOUR);
        let (parent, child, asked) = family(&backing, &script, &["token-1"]);
        assert_eq!(child.get().unwrap().secret(), "of token-2");
        assert_eq!(parent.get().unwrap().secret(), "token-2");
        assert_eq!((asked.with().len(), script.fetches()), (2, 2));
    }
}

#[test]
fn two_refused_parents_are_rejected_credentials_and_no_third_is_asked_for() {
    let script = Script::new(HOUR);
    let (_, child, asked) = family(&Backing::memory(), &script, &["token-1", "token-2"]);
    let error = child.get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source(FailureClass::CredentialsRejected));
    assert!(error.source().unwrap().to_string().contains("the parent's token and its successor"));
    assert_eq!((asked.with(), script.fetches()), (vec!["token-1".to_owned(), "token-2".to_owned()], 2));
}

#[test]
fn a_failure_of_the_child_is_told_as_it_is() {
    let parent = Backing::memory().builder("parent").source(Script::new(HOUR).source()).build().unwrap();
    let ask = |_: &Token, _: &Attempt| Err(FetchError::throttled(Some(Duration::from_secs(77))).into());
    let error = child_of(parent, ask).get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source(FailureClass::Throttled));
    assert!(error.retry_after().unwrap() > Duration::from_secs(60), "{error}");
}

#[test]
fn a_parent_without_a_token_keeps_its_word_and_its_pause() {
    use FailureClass::{CredentialsRejected, Throttled, Unavailable};
    type Failure = fn() -> FetchError;
    let pause = Duration::from_secs(77);
    let failures: [(Failure, FailureClass); 4] = [
        (|| FetchError::throttled(None), Throttled),
        (|| FetchError::credentials_rejected("no"), CredentialsRejected),
        (|| FetchError::unavailable("no"), Unavailable),
        (|| FetchError::unknown_outcome("no"), Unavailable),
    ];
    for (failure, class) in failures {
        let source = move |_: &Attempt| Err(failure().retry_after(pause));
        let error = told_by_child(Backing::memory().builder("parent").source(source));
        assert_eq!(error.kind(), ErrorKind::Source(class));
        assert!(error.retry_after().unwrap() > Duration::from_secs(60), "{error}");
        let cause = error.source().unwrap().downcast_ref::<Error>().expect("the parent's error");
        assert!(matches!(cause.kind(), ErrorKind::Source(_)), "{cause}");
    }
}

#[test]
fn a_parent_whose_budget_is_used_up_makes_the_child_unavailable_for_that_long() {
    let script = Script::new(HOUR);
    let budget = Budget::per_minute(1).burst(1);
    let parent = Backing::memory().builder("parent").source(script.source()).budget(budget).build().unwrap();
    parent.invalidate(&parent.get().unwrap());
    let builder = TokenManager::builder("child").store(MemoryStore::new()).deadline(Duration::from_secs(5));
    let builder = builder.fetch_limit(Duration::from_secs(2)).lease(Duration::from_secs(2));
    let ask = |_: &Token, _: &Attempt| -> Result<Fetched, Denied> { panic!("no token to ask with") };
    let error = builder.source(Derived::new(parent, ask)).build().unwrap().get().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source(FailureClass::Unavailable));
    assert!(error.retry_after().unwrap() > Duration::from_secs(30), "{error}");
    assert_eq!(script.fetches(), 1);
}

#[test]
fn a_family_that_is_a_ring_is_told_so() {
    let ring: Arc<Mutex<Option<TokenManager>>> = Arc::default();
    let inner = ring.clone();
    let source = move |_: &Attempt| {
        let parent = inner.lock().unwrap().clone().expect("set below");
        parent.get().map(|token| Fetched::new(token.secret(), HOUR)).map_err(FetchError::unavailable)
    };
    let parent = Backing::memory().builder("parent").source(source).build().unwrap();
    let child = child_of(parent, |token: &Token, _: &Attempt| Ok(Fetched::new(token.secret(), HOUR)));
    *ring.lock().unwrap() = Some(child.clone());
    let error = child.get().unwrap_err();
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    assert!(causes.any(|cause| cause.to_string().contains("asked, itself or through other managers")), "{error:?}");
}

fn child_of(
    parent: TokenManager,
    ask: impl Fn(&Token, &Attempt) -> Result<Fetched, Denied> + Send + Sync + 'static,
) -> TokenManager {
    let builder = TokenManager::builder("child").store(MemoryStore::new()).deadline(LONG);
    builder.source(Derived::new(parent, ask)).build().unwrap()
}

fn told_by_child(parent: Builder) -> Error {
    let ask = |_: &Token, _: &Attempt| -> Result<Fetched, Denied> { panic!("no token to ask with") };
    child_of(parent.build().unwrap(), ask).get().unwrap_err()
}
