//! Values that lie in a store sealed: they open where they belong, with a key of the ring, and otherwise nobody fetches.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbed::redis_server::RedisServer;
use testbed::{LONG, Script, on_threads, wait_until};
use token_manager::store::{Keyring, SealedStore, SealingKey, StoreErrorKind, contract};
use token_manager::{Budget, Builder, Error, ErrorKind, Fetched, MemoryStore, RedisStore, Store, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);
const OLD: &str = "old q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
const NEW: &str = "new zc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc0=";

fn key(line: &str) -> SealingKey {
    SealingKey::parse(line).expect("a key")
}

fn keys(lines: &[&str]) -> Keyring {
    Keyring::new(lines.iter().map(|line| key(line)).collect())
}

fn redis(server: &RedisServer) -> RedisStore {
    RedisStore::open(&server.url()).expect("a store")
}

fn builder(name: &str, store: impl Store, script: &Script) -> Builder {
    let builder = TokenManager::builder(name).group("g").store(store).deadline(LONG);
    builder.budget(Budget::per_minute(6_000).burst(1_000)).source(script.source())
}

fn value(server: &RedisServer, name: &str, part: &str) -> String {
    server.command(&["HGET", &format!("tm:{{g}}:{name}:{part}"), "value"])
}

/// Whether it is the store that failed, by a value that is not to be opened.
fn is_sealed(error: &Error) -> bool {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    error.kind() == ErrorKind::Store && (cause.contains("key") || cause.contains("clear"))
}

#[test]
fn a_sealed_store_keeps_the_contract() {
    let server = RedisServer::start().unwrap();
    contract::check(&SealedStore::new(MemoryStore::new(), keys(&[OLD])));
    let sealed = SealedStore::new(redis(&server), keys(&[OLD]));
    contract::check(&sealed);
    contract::check_events(&sealed);
}

#[test]
fn tokens_and_carried_secrets_lie_sealed_and_open_in_another_process() {
    let (server, script) = (RedisServer::start().unwrap(), Script::new(HOUR));
    script.answer(|_| Ok(Fetched::new("secret", HOUR).carry("refresh")));
    script.answer(|attempt| Ok(Fetched::new(format!("with {}", attempt.carry().unwrap_or("nothing")), HOUR)));
    let first = builder("t", SealedStore::new(redis(&server), keys(&[OLD])), &script).build().unwrap();
    let second = builder("t", SealedStore::new(redis(&server), keys(&[NEW, OLD])), &script).build().unwrap();
    assert_eq!(first.get().unwrap().secret(), "secret");
    for part in ["token", "carry"] {
        let value = value(&server, "t", part);
        assert!(value.starts_with("tm1.old.") && !value.contains("secret") && !value.contains("refresh"), "{value}");
    }
    let token = second.get().unwrap();
    assert_eq!(token.secret(), "secret");
    second.invalidate(&token);
    assert_eq!(second.get().unwrap().secret(), "with refresh");
    assert!(value(&server, "t", "token").starts_with("tm1.new."));
    assert_eq!(script.fetches(), 2);
}

#[test]
fn what_was_moved_changed_or_sealed_by_another_key_is_an_error_and_never_a_fetch() {
    let (server, script) = (RedisServer::start().unwrap(), Script::new(HOUR));
    let sealed = |lines: &[&str]| SealedStore::new(redis(&server), keys(lines));
    for name in ["a", "b"] {
        builder(name, sealed(&[OLD]), &script).build().unwrap().get().unwrap();
    }
    let refused = |name: &str, lines: &[&str]| {
        let error = builder(name, sealed(lines), &script).build().unwrap().get().unwrap_err();
        assert!(is_sealed(&error), "{error:?}");
    };
    refused("a", &[NEW]);
    refused("a", &[&NEW.replace("new", "old")]);
    let (own, other) = (value(&server, "a", "token"), value(&server, "b", "token"));
    let put = |value: &str| server.command(&["HSET", "tm:{g}:a:token", "value", value]);
    put(&other);
    refused("a", &[OLD]);
    let generation = server.command(&["HGET", "tm:{g}:a:token", "gen"]);
    put(&own);
    let moved = (generation.parse::<u64>().unwrap() + 1).to_string();
    server.command(&["HSET", "tm:{g}:a:token", "gen", &moved]);
    refused("a", &[OLD]);
    server.command(&["HSET", "tm:{g}:a:token", "gen", &generation]);
    for broken in [own.replacen("tm1.old.", "tm1.old.A", 1), own[..own.len() - 2].to_owned(), "tm1.old.".into()] {
        put(&broken);
        refused("a", &[OLD]);
    }
    put("in clear");
    refused("a", &[OLD]);
    let lenient = SealedStore::new(redis(&server), keys(&[OLD])).accept_unsealed();
    assert_eq!(builder("a", lenient, &script).build().unwrap().get().unwrap().secret(), "in clear");
    put(&own);
    assert_eq!(builder("a", sealed(&[OLD]), &script).build().unwrap().get().unwrap().secret(), "token-1");
    assert_eq!(script.fetches(), 2);
}

/// Replaces a file of keys as an operator should: in one step.
fn write(path: &Path, lines: &[&str]) {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, format!("# the newest first\n\n{}\n", lines.join("\n"))).unwrap();
    fs::rename(unfinished, path).unwrap();
}

#[test]
fn a_rolling_change_of_keys_under_load_costs_no_fetch_and_no_error() {
    let (server, script, folder) = (RedisServer::start().unwrap(), Script::new(HOUR), tempfile::tempdir().unwrap());
    let files: Vec<_> = (0..4).map(|host| folder.path().join(format!("keys-{host}"))).collect();
    let managers: Vec<TokenManager> = files
        .iter()
        .map(|file| {
            write(file, &[OLD]);
            let store = SealedStore::new(redis(&server), Keyring::file(file));
            builder("t", store, &script).build().unwrap()
        })
        .collect();
    let guards: Vec<_> = managers.iter().map(|manager| manager.keep_fresh().unwrap()).collect();
    let done = Arc::new(AtomicBool::new(false));
    let load = {
        let (managers, done) = (managers.clone(), done.clone());
        std::thread::spawn(move || {
            on_threads(16, move |thread| {
                while !done.load(Ordering::Relaxed) {
                    managers[thread % managers.len()].get().expect("a token, whatever the keys are");
                }
            })
        })
    };
    let mut newest = 0;
    for lines in [vec![OLD, NEW], vec![NEW, OLD], vec![NEW]] {
        for (file, manager) in files.iter().zip(&managers) {
            write(file, &lines);
            // A new token at each host, read by all the others; the key of each is one that they have or find.
            let token = manager.get().unwrap();
            manager.invalidate(&token);
            newest = manager.get().unwrap().generation();
            for other in &managers {
                wait_until("all have the newest", || other.get().is_ok_and(|token| token.generation() >= newest));
            }
        }
    }
    assert!(newest > 0);
    done.store(true, Ordering::Relaxed);
    load.join().unwrap();
    drop(guards);
    assert_eq!(script.fetches(), 1 + 3 * 4);
}

#[test]
fn keys_from_a_service_are_used_on_while_it_is_away_and_missed_by_their_name() {
    let (store, script) = (MemoryStore::new(), Script::new(HOUR));
    let keys: Arc<Mutex<Option<&str>>> = Arc::default();
    let service = keys.clone();
    let ring = Keyring::load_with(move || match *service.lock().unwrap() {
        Some(line) => Ok(vec![SealingKey::parse(line)?]),
        None => Err("the key service is away".into()),
    });
    let manager = builder("t", SealedStore::new(store.clone(), ring), &script).lease(Duration::from_millis(100));
    let manager = manager.build().unwrap();
    // A token that cannot be sealed is never stored; it is used by the process that has it, and committed later.
    assert_eq!(manager.get().unwrap().secret(), "token-1");
    assert!(manager.quiesce(LONG));
    assert_eq!(manager.inspect().unwrap().token, None);
    *keys.lock().unwrap() = Some(OLD);
    let _guard = manager.keep_fresh().unwrap();
    wait_until("it is committed", || manager.inspect().is_ok_and(|seen| seen.token.is_some()));
    *keys.lock().unwrap() = None;
    manager.invalidate(&manager.get().unwrap());
    assert_eq!(manager.get().unwrap().secret(), "token-2");
    let stranger = SealedStore::new(store, Keyring::new(vec![key(NEW)]));
    let error = builder("t", stranger, &script).build().unwrap().get().unwrap_err();
    assert!(format!("{error:?}").contains(r#"no key has the id \"old\""#), "{error:?}");
    assert_eq!(script.fetches(), 2);
}

#[test]
fn a_key_of_another_form_is_refused_and_not_quoted() {
    for line in ["", "old", "old AAAA", "o.d q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "old q6ur!"] {
        let error = SealingKey::parse(line).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Sealed);
        assert!(!error.to_string().contains("q6ur"), "{error}");
    }
    assert_eq!(format!("{:?}", key(OLD)), "SealingKey { id: \"old\", .. }");
}

#[test]
fn equal_values_in_different_places_look_different() {
    let (server, script) = (RedisServer::start().unwrap(), Script::new(HOUR));
    let mut seen = HashMap::new();
    for name in ["a", "b", "c"] {
        script.answer(|_| Ok(Fetched::new("the same", HOUR).carry("the same")));
        builder(name, SealedStore::new(redis(&server), keys(&[OLD])), &script).build().unwrap().get().unwrap();
        for part in ["token", "carry"] {
            let nonce = value(&server, name, part)["tm1.old.".len()..][..16].to_owned();
            assert_eq!(seen.insert(nonce, (name, part)), None);
        }
    }
}
