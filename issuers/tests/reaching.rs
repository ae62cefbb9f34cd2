//! Requests that fail on their way: before they were sent nothing was granted, after that nobody knows; and nothing hangs.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use support::{at, client_credentials, failure, granted, in_turn, manager, told};
use testbed::keys::Keys;
use testbed::oidc::Oidc;
use testbed::stand_in::{StandIn, Told};
use token_manager::FailureClass::{CredentialsRejected, Throttled, Unavailable, UnknownOutcome};
use token_manager::TokenSource;
use token_manager_issuers::{Client, ClientCredentials, Http, Secret};

const LIMIT: Duration = Duration::from_millis(300);

/// The class of a fetch that has only a moment.
fn in_a_moment(source: impl TokenSource) -> (token_manager::FailureClass, String) {
    let start = Instant::now();
    let error = support::builder(source).fetch_limit(LIMIT).build().unwrap().get().unwrap_err();
    assert!(start.elapsed() < LIMIT * 20, "it took {:?}", start.elapsed());
    told(&error)
}

/// A server that takes connections and says nothing.
fn mute() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens.
fn closed() -> u16 {
    mute().1
}

#[test]
fn what_fails_before_the_request_was_sent_is_unavailable() {
    let refused = at(&format!("http://127.0.0.1:{}", closed())).build().unwrap();
    assert_eq!(failure(refused).0, Unavailable);
    let nowhere = at("https://no-such-host.invalid").build().unwrap();
    assert_eq!(in_a_moment(nowhere).0, Unavailable);
    let (_listener, port) = mute();
    let handshake = at(&format!("https://127.0.0.1:{port}")).build().unwrap();
    assert_eq!(in_a_moment(handshake).0, Unavailable);
    let plain = StandIn::start(|_| Some(granted("token")));
    let no_tls = at(&plain.url().replace("http:", "https:")).build().unwrap();
    assert_eq!(in_a_moment(no_tls).0, Unavailable);
}

#[test]
fn what_fails_after_the_request_was_sent_has_an_unknown_outcome() {
    let (_listener, port) = mute();
    let silent = at(&format!("http://127.0.0.1:{port}")).build().unwrap();
    assert_eq!(in_a_moment(silent).0, UnknownOutcome);
    let hung_up = in_turn([None]);
    assert_eq!(failure(client_credentials(&hung_up)).0, UnknownOutcome);
    let half = in_turn([Some(granted("token").half())]);
    assert_eq!(failure(client_credentials(&half)).0, UnknownOutcome);
    let huge = in_turn([Some(Told::new(200, "x".repeat(2 << 20)))]);
    assert_eq!(failure(client_credentials(&huge)).0, UnknownOutcome);
    // Where the status has said all, the rest does not matter.
    let throttled = in_turn([Some(Told::new(429, "wait").half())]);
    assert_eq!(failure(client_credentials(&throttled)).0, Throttled);
}

/// A proxy that takes CONNECT and answers as told; it pumps bytes to and fro if that is 200.
fn proxy(answer: &'static str) -> String {
    let (listener, port) = mute();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
                let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
                let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let answer = if headers.iter().any(|line| line == AUTHORIZED) { answer } else { "407 Who are you" };
                write!(client, "HTTP/1.1 {answer}\r\n\r\n").unwrap();
                if answer.starts_with("200") {
                    let server = TcpStream::connect(target).unwrap();
                    let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    let (mut from, mut to) = (server, client);
                    thread::spawn(move || drop(std::io::copy(&mut up, &mut down)));
                    let _ = std::io::copy(&mut from, &mut to); // either side may have closed
                }
            });
        }
    });
    format!("127.0.0.1:{port}")
}

/// `name:p@ss`.
const AUTHORIZED: &str = "Proxy-Authorization: Basic bmFtZTpwQHNz";

#[test]
fn a_proxy_is_gone_through_and_its_refusal_is_unavailable() {
    let issuer = StandIn::start(|_| Some(granted("token")));
    let through = |address: &str| {
        let http = Http::new().proxy(format!("http://{address}"));
        at(&issuer.url()).http(http).build().unwrap()
    };
    let passing = proxy("200 OK");
    assert_eq!(manager(through(&format!("name:p%40ss@{passing}"))).get().unwrap().secret(), "token");
    assert_eq!(issuer.heard().len(), 1);
    for (class, address) in [
        failure(through(&passing)),
        failure(through(&format!("name:p%40ss@{}", proxy("503 No")))),
        failure(through(&format!("127.0.0.1:{}", closed()))),
    ] {
        assert_eq!(class, Unavailable, "{address}");
    }
    let (_listener, port) = mute();
    assert_eq!(in_a_moment(through(&format!("127.0.0.1:{port}"))).0, Unavailable);
    assert_eq!(issuer.heard().len(), 1);
}

/// `openssl s_server`, which asks for a certificate and ends the handshake of those who have none.
struct Demanding {
    child: Child,
    port: u16,
}

impl Demanding {
    fn start(keys: &Keys) -> Demanding {
        let mut command = Command::new("openssl");
        command.args("s_server -accept 127.0.0.1:0 -cert server.pem -key server.key -CAfile ca.pem -www".split(' '));
        command.args(["-Verify", "1", "-verify_return_error"]).current_dir(keys.folder());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut ports = output.filter_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        let port = ports.next().expect("openssl tells its port");
        thread::spawn(move || ports.for_each(drop));
        Demanding { child, port }
    }
}

impl Drop for Demanding {
    fn drop(&mut self) {
        // Both fail only if it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_client_without_the_certificate_that_is_demanded_is_refused_before_its_request_is_looked_at() {
    let keys = Keys::make();
    let server = Demanding::start(&keys);
    let http = Http::new().authority(Secret::file(keys.path("ca.pem")));
    let source = at(&format!("https://127.0.0.1:{}", server.port)).http(http).build().unwrap();
    let (class, what) = failure(source);
    assert!(class == CredentialsRejected && what.contains("certificate"), "{class}: {what}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_when_the_source_is_built() {
    let keys = Keys::make();
    let file = |name: &str| Secret::file(keys.path(name));
    let build = |http: Http| {
        let builder = ClientCredentials::at("https://issuer.example.com/token").client(Client::certificate("id"));
        builder.http(http).build().map(drop).map_err(|error| (error.setting(), error.to_string()))
    };
    assert_eq!(build(Http::new().client_certificate(file("client.pem"), file("client.key"))), Ok(()));
    let table = [
        ("client-v1.pem", "client.key", "has to be X.509 version 3"),
        ("client.pem", "server.key", "has to fit the first certificate"),
        ("client.pem", "encrypted.pem", "the key is no PEM with an unencrypted private key"),
        ("client.key", "client.key", "the chain is no PEM with BEGIN CERTIFICATE"),
        ("missing.pem", "client.key", "cannot be read"),
    ];
    for (chain, key, said) in table {
        let (setting, message) = build(Http::new().client_certificate(file(chain), file(key))).unwrap_err();
        assert!(setting == "client_certificate" && message.contains(said), "{chain}, {key}: {message}");
    }
    let (setting, message) = build(Http::new().authority(file("client.key"))).unwrap_err();
    assert!(setting == "authority" && message.contains("BEGIN CERTIFICATE"), "{message}");
}

#[test]
fn a_certificate_is_read_anew_for_each_fetch() {
    let issuer = Oidc::start(LIMIT);
    let keys = issuer.keys();
    let (chain, key) = (keys.path("rolled.pem"), keys.path("rolled.key"));
    let roll = |name: &str| {
        fs::copy(keys.path(&format!("{name}.pem")), &chain).unwrap();
        fs::copy(keys.path(&format!("{name}.key")), &key).unwrap();
    };
    roll("server"); // of the same authority, and not the client's
    let http = Http::new().authority(Secret::file(keys.path("ca.pem")));
    let http = http.client_certificate(Secret::file(&chain), Secret::file(&key));
    let builder = ClientCredentials::at(issuer.tls_token_url()).client(Client::certificate("certified"));
    let manager = manager(builder.http(http).build().unwrap());
    assert_eq!(told(&manager.get().unwrap_err()).0, CredentialsRejected);
    roll("client");
    manager.lift_pause().unwrap();
    manager.invalidate(&manager.get().unwrap());
    // A bad one does no harm but to its own fetch.
    fs::copy(keys.path("client-v1.pem"), &chain).unwrap();
    let (class, what) = told(&manager.get().unwrap_err());
    assert!(class == CredentialsRejected && what.contains("version 3"), "{class}: {what}");
}
