//! A secret leaves through `Token::secret` alone: never through Debug, Display, the log, errors or events.

use log::{LevelFilter, Log, Metadata, Record};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use testbed::{Backing, Script, wait_until};
use token_manager::store::Secret;
use token_manager::{FetchError, Fetched, RedisStore};

const SECRET: &str = "hunter2";

static LOGGED: Mutex<String> = Mutex::new(String::new());

struct Capture;

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        writeln!(LOGGED.lock().unwrap(), "{} {} {}", record.level(), record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

#[test]
fn no_secret_is_printed_anywhere() {
    log::set_logger(&Capture).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let seen = Arc::new(Mutex::new(String::new()));
    let note = |text: String| writeln!(seen.lock().unwrap(), "{text}").unwrap();

    for backing in Backing::all() {
        overhear(&backing, seen.clone());
        let script = Script::new(Duration::from_secs(2));
        script.answer(|_| Ok(Fetched::new(SECRET, Duration::from_secs(2)).carry(SECRET)));
        script.answer(|attempt| {
            assert!(!format!("{attempt:?}").contains(SECRET));
            let fetched = Fetched::new(format!("{SECRET} again"), Duration::from_secs(3600)).carry(SECRET);
            assert!(!format!("{fetched:?}").contains(SECRET));
            Ok(fetched)
        });
        script.answer(|_| panic!("no secret here"));
        script.answer(|_| Err(FetchError::credentials_rejected("invalid_client")));
        let observed = seen.clone();
        let observer =
            move |event: &token_manager::Event| writeln!(observed.lock().unwrap(), "{event:?} {event}").unwrap();
        let manager = backing.builder("t").source(script.source()).observer(observer).build().unwrap();
        let token = manager.get().unwrap();
        assert_eq!(token.secret(), SECRET);
        wait_until("the second token", || manager.get().is_ok_and(|token| token.secret().contains("again")));
        note(format!("{token:?} {manager:?} {:?} {:?}", manager.stats(), manager.inspect()));
        manager.invalidate(&manager.get().unwrap());
        wait_until("the panic and the rejection were told", || {
            let error = manager.get().unwrap_err();
            note(format!("{error} {error:?} {:?}", error.source()));
            manager.stats().failures == 2
        });
        if let Backing::Redis(server) = &backing {
            // A key of the wrong type makes Redis complain about a command that carries the secret.
            server.command(&["SET", "tm:{t}:t:meta", "wrong"]);
            let error = manager.get_within(Duration::from_secs(5)).map(drop).err();
            note(format!("{error:?}"));
        }
    }
    note(format!("{:?} {:?}", Secret::new(SECRET), RedisStore::options("redis://:hunter2@127.0.0.1/").open().is_ok()));

    wait_until("the published events were overheard", || seen.lock().unwrap().contains("failed credentials_rejected"));
    let (logged, seen) = (LOGGED.lock().unwrap(), seen.lock().unwrap());
    assert!(logged.contains("is updating the token"), "the log was captured: {logged}");
    assert!(seen.contains("Granted"), "the events were captured: {seen}");
    for text in [&*logged, &*seen] {
        let leak = text.lines().find(|line| line.contains(SECRET));
        assert_eq!(leak, None);
    }
}

/// Writes down all that Redis publishes, as a stranger who listens to every channel would hear it.
fn overhear(backing: &Backing, seen: Arc<Mutex<String>>) {
    let Backing::Redis(server) = backing else { return };
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(b"PSUBSCRIBE *\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    // Redis confirms the subscription with six lines, the last of them a number.
    assert!(lines.by_ref().take(6).any(|line| line == "psubscribe"));
    thread::spawn(move || lines.for_each(|line| writeln!(seen.lock().unwrap(), "{line}").unwrap()));
}
