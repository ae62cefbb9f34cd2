//! Redis at a Unix socket: the contract, limits, and what a server does that takes no more connections.
#![cfg(unix)]

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use testbed::redis_server::RedisServer;
use token_manager::store::{StoreError, StoreErrorKind, TokenName, contract};
use token_manager::{RedisStore, Store};

fn ask(url: &str) -> Result<(), StoreError> {
    let name = TokenName { namespace: "tm".into(), group: "t".into(), name: "t".into(), grant: "t".into() };
    RedisStore::options(url).open().unwrap().inspect(&name, "default").map(drop)
}

#[test]
fn over_a_unix_socket_and_either_protocol_the_contract_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let socket = socket.to_str().unwrap();
    let redis = RedisServer::start_with(&["--unixsocket", socket]).unwrap();
    redis.command(&["ACL", "SETUSER", "user", "on", ">se%cret", "~*", "&*", "+@all"]);
    for url in [
        format!("unix://{socket}?user=user&pass=se%25cret&db=3&protocol=resp3"),
        format!("redis+unix://{socket}"),
        format!("{}?protocol=resp3", redis.url()),
    ] {
        let store = RedisStore::open(&url).unwrap();
        contract::check(&store);
        contract::check_events(&store);
        redis.command(&["FLUSHALL"]);
    }
}

/// Connects until the server takes no more, and returns what fills it up.
fn fill(path: &Path) -> Vec<UnixStream> {
    let mut taken = Vec::new();
    loop {
        let path = path.to_owned();
        let (tell, told) = std::sync::mpsc::channel();
        // One more thread hangs when all is full; it is let go by the test's end.
        thread::spawn(move || tell.send(UnixStream::connect(path)));
        match told.recv_timeout(Duration::from_millis(500)) {
            Ok(stream) => taken.push(stream.unwrap()),
            Err(_) => return taken,
        }
    }
}

#[test]
fn a_server_that_takes_no_more_connections_holds_nobody_longer_than_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // SAFETY: the socket is open; the system takes the shorter queue over.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 1) }, 0);
    let _taken = fill(&path);
    let start = Instant::now();
    let error = ask(&format!("unix://{}", path.display())).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (StoreErrorKind::Unreachable, "Redis did not answer in time")
    );
    assert!((Duration::from_millis(290)..Duration::from_secs(10)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[test]
fn a_socket_that_is_not_there_or_cannot_be_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("none.sock"), folder.path().join("x".repeat(200))] {
        let error = ask(&format!("unix://{}", path.display())).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (StoreErrorKind::Unreachable, "Redis cannot be reached")
        );
    }
}
