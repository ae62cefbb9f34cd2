//! What a source brought survives its process in the journal, and is committed by the next one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use testbed::hooked_store::HookedStore;
use testbed::redis_server::RedisServer;
use testbed::{LONG, Script};
use token_manager::store::StoreErrorKind;
use token_manager::{Attempt, ErrorKind, Fetched, MemoryStore, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

fn manager(store: impl Store, script: &Script, journal: &Path) -> TokenManager {
    let builder = TokenManager::builder("t").store(store).source(script.source()).deadline(LONG);
    builder.journal(journal).build().unwrap()
}

/// A store that takes no commit.
fn refusing(store: &MemoryStore) -> HookedStore {
    HookedStore::new(store.clone(), |verb, _| (verb == "commit").then_some(StoreErrorKind::Unreachable))
}

fn files(folder: &Path) -> Vec<fs::DirEntry> {
    fs::read_dir(folder).unwrap().flatten().collect()
}

#[test]
fn what_a_process_could_not_commit_is_committed_by_the_next_one() {
    let (store, script, folder) = (MemoryStore::new(), Script::new(HOUR), tempfile::tempdir().unwrap());
    let journal = folder.path().join("made");
    script.answer(|_| Ok(Fetched::new("token-1", HOUR).carry("refresh-1")));
    let ended = manager(refusing(&store), &script, &journal);
    let generation = ended.get().unwrap().generation();
    let left = files(&journal);
    assert_eq!((left.len(), left[0].metadata().unwrap().permissions().mode() & 0o777), (1, 0o600));
    assert_eq!(fs::metadata(&journal).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(ended.quiesce(LONG));
    drop(ended);

    let next = manager(store.clone(), &script, &journal);
    let token = next.get().unwrap();
    assert_eq!((token.secret(), token.generation(), script.fetches()), ("token-1", generation, 1));
    assert_eq!(files(&journal).len(), 0);
    next.invalidate(&token);
    script.answer(|attempt: &Attempt| Ok(Fetched::new(attempt.carry().unwrap_or("nothing"), HOUR)));
    assert_eq!((next.get().unwrap().secret(), script.fetches()), ("refresh-1", 2));
}

#[test]
fn what_a_living_process_holds_is_left_to_it() {
    let (store, script, folder) = (MemoryStore::new(), Script::new(HOUR), tempfile::tempdir().unwrap());
    let alive = manager(refusing(&store), &script, folder.path());
    assert_eq!(alive.get().unwrap().secret(), "token-1");
    let other = manager(store, &script, folder.path());
    assert_eq!((other.get().unwrap().secret(), script.fetches()), ("token-2", 2));
    assert_eq!(files(folder.path()).len(), 1);
    assert_eq!(alive.get().unwrap().secret(), "token-1");
}

#[test]
fn what_is_not_of_this_token_or_was_cut_is_left_alone() {
    let (store, script, folder) = (MemoryStore::new(), Script::new(HOUR), tempfile::tempdir().unwrap());
    let ended = manager(refusing(&store), &script, folder.path());
    ended.get().unwrap();
    assert!(ended.quiesce(LONG));
    drop(ended);
    let file = files(folder.path())[0].path();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let builder = TokenManager::builder("t").store(store.clone()).source(script.source()).journal(folder.path());
    assert_eq!((builder.build().unwrap().get().unwrap().secret(), script.fetches()), ("token-2", 2));
    fs::write(&file, &bytes).unwrap();
    let other = TokenManager::builder("u").store(store).source(script.source()).journal(folder.path());
    assert_eq!((other.build().unwrap().get().unwrap().secret(), script.fetches()), ("token-3", 3));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn what_was_left_for_another_database_is_left_alone() {
    let (redis, script, folder) = (RedisServer::start().unwrap(), Script::new(HOUR), tempfile::tempdir().unwrap());
    let at = |database: u32| RedisStore::open(&format!("{}{database}", redis.url())).unwrap();
    let ended = manager(at(0), &script, folder.path());
    script.hold();
    let waiting = ended.clone();
    let waiter = std::thread::spawn(move || waiting.get().unwrap().secret().to_owned());
    script.wait_for(1);
    redis.command(&["ACL", "SETUSER", "default", "-hset"]);
    script.release();
    assert_eq!((waiter.join().unwrap().as_str(), files(folder.path()).len()), ("token-1", 1));
    assert!(ended.quiesce(LONG));
    drop(ended);
    redis.command(&["ACL", "SETUSER", "default", "+hset"]);
    assert_eq!(manager(at(1), &script, folder.path()).get().unwrap().secret(), "token-2");
    assert_eq!(manager(at(0), &script, folder.path()).get().unwrap().secret(), "token-1");
    assert_eq!((script.fetches(), files(folder.path()).len()), (2, 0));
}

/// Only root can give a file away, so it alone can show this.
#[test]
fn what_another_user_has_left_is_not_believed() {
    let (store, script, folder) = (MemoryStore::new(), Script::new(HOUR), tempfile::tempdir().unwrap());
    let ended = manager(refusing(&store), &script, folder.path());
    ended.get().unwrap();
    assert!(ended.quiesce(LONG));
    drop(ended);
    let file = files(folder.path())[0].path();
    let given_away = std::os::unix::fs::chown(&file, Some(12345), None).is_ok();
    let expected = if given_away { ("token-2", 2) } else { ("token-1", 1) };
    let next = manager(store, &script, folder.path());
    assert_eq!((next.get().unwrap().secret(), script.fetches()), expected);
}

#[test]
fn a_hundred_managers_may_open_one_journal_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    testbed::on_threads(100, move |_| drop(manager(MemoryStore::new(), &Script::new(HOUR), &path)));
    assert_eq!(files(folder.path()).len(), 0);
}

#[test]
fn a_folder_that_cannot_be_used_is_refused_by_build() {
    let builder = TokenManager::builder("t").store(MemoryStore::new()).source(Script::new(HOUR).source());
    let error = builder.journal("/proc/none").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with("journal is \"/proc/none\"; it cannot be used: "), "{error}");
}
