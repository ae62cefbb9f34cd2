//! A folder with settings, a Redis and an issuer of one's own, and `tkm` on them.

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};
use tempfile::TempDir;
use testbed::redis_server::RedisServer;
use tiny_http::{Header, Response, Server};

/// How long a test waits for what must come.
pub const LONG: Duration = Duration::from_secs(30);

/// How an issuer answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Grants,
    Throttles,
    Refuses,
    Breaks,
    /// Grants a token and closes the connection instead of telling.
    Loses,
}

/// What an issuer has done.
#[derive(Clone, Debug)]
pub struct Asked {
    pub mood: Mood,
    pub token: Option<String>,
}

/// An issuer of OAuth 2.0 tokens `tkm-secret-1`, `tkm-secret-2` and so on, with a log.
pub struct Issuer {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
    server: Arc<Server>,
}

struct State {
    mood: Mood,
    life: u64,
    latency: Duration,
    secret: Option<String>,
    log: Vec<Asked>,
}

impl Issuer {
    pub fn start(life: u64) -> Issuer {
        let server = Arc::new(Server::http("127.0.0.1:0").expect("a port"));
        let port = server.server_addr().to_ip().expect("an address").port();
        let state = State { mood: Mood::Grants, life, latency: Duration::ZERO, secret: None, log: Vec::new() };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        for _ in 0..8 {
            let (server, state) = (server.clone(), state.clone());
            thread::spawn(move || {
                while let Ok(request) = server.recv() {
                    answer(request, &state);
                }
            });
        }
        Issuer { port, state, server }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    pub fn set_mood(&self, mood: Mood) {
        self.state.0.lock().expect("a lock").mood = mood;
    }

    pub fn set_latency(&self, latency: Duration) {
        self.state.0.lock().expect("a lock").latency = latency;
    }

    /// Grants this from now on instead of numbered tokens.
    pub fn set_secret(&self, secret: &str) {
        self.state.0.lock().expect("a lock").secret = Some(secret.to_owned());
    }

    pub fn log(&self) -> Vec<Asked> {
        self.state.0.lock().expect("a lock").log.clone()
    }

    /// Waits until it has been asked so often.
    pub fn wait_for(&self, count: usize) {
        let (state, changed) = &*self.state;
        let state = state.lock().expect("a lock");
        let (state, _) = changed.wait_timeout_while(state, LONG, |state| state.log.len() < count).expect("a lock");
        assert!(state.log.len() >= count, "the issuer was asked {} times, not {count}", state.log.len());
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        (0..8).for_each(|_| self.server.unblock());
    }
}

fn answer(mut request: tiny_http::Request, state: &(Mutex<State>, Condvar)) {
    let mut form = String::new();
    request.as_reader().read_to_string(&mut form).expect("a form");
    let mut now = state.0.lock().expect("a lock");
    let (mood, life, latency) = (now.mood, now.life, now.latency);
    let number = 1 + now.log.iter().filter(|asked| asked.token.is_some()).count();
    let token = now.secret.clone().unwrap_or(format!("tkm-secret-{number}"));
    let grants = matches!(mood, Mood::Grants | Mood::Loses);
    now.log.push(Asked { mood, token: grants.then(|| token.clone()) });
    drop(now);
    state.1.notify_all();
    thread::sleep(latency);
    let header = |text: &str| text.parse::<Header>().expect("a header");
    let json = |status: u16, body: Value| {
        Response::from_string(body.to_string())
            .with_status_code(status)
            .with_header(header("Content-Type: application/json"))
    };
    let response = match mood {
        Mood::Grants => {
            json(200, serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": life }))
        }
        Mood::Throttles => json(429, serde_json::json!({})).with_header(header("Retry-After: 2")),
        Mood::Refuses => json(401, serde_json::json!({ "error": "invalid_client" })),
        Mood::Breaks => json(503, serde_json::json!({})),
        Mood::Loses => return drop(request.into_writer()),
    };
    let _ = request.respond(response); // the client may be gone
}

/// What a process printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Settings with one token `api` of an issuer, in a Redis.
pub struct Bench {
    pub folder: TempDir,
    pub redis: RedisServer,
    pub issuer: Issuer,
}

impl Bench {
    /// With tokens that live so many seconds.
    pub fn new(life: u64) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let redis = RedisServer::start().expect("a Redis");
        let issuer = Issuer::start(life);
        fs::write(folder.path().join("client"), "hunter2\n").expect("a file");
        let bench = Bench { folder, redis, issuer };
        bench.settings("", "");
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the settings anew: `top` stands before the tables of the store and the token, `of_token` is in the token's.
    pub fn settings(&self, top: &str, of_token: &str) {
        let text = format!(
            "{top}\n[stores.main]\nurl = \"{}\"\n[tokens.api]\nbudget = {{ per_minute = 6000, burst = 1000 }}\n{of_token}\n\
             [tokens.api.source.client_credentials]\nurl = \"{}\"\n\
             client = {{ id = \"tkm\", secret = {{ file = \"client\" }} }}\nhttp = {{ no_proxy = true }}\n",
            self.redis.url(),
            self.issuer.url()
        );
        fs::write(self.path("tkm.toml"), text).expect("a file");
    }

    /// Returns `tkm` with these settings.
    pub fn tkm(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tkm"));
        command.env("TKM_CONFIG", self.path("tkm.toml")).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    /// Runs with this on the standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.tkm(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("tkm");
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes()); // it may not read
        child.wait_with_output().expect("an end").into()
    }

    /// Runs and returns the answer of a command that succeeds, without its line end.
    pub fn answer(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{args:?}: {ran:?}");
        ran.stdout.trim_end_matches('\n').to_owned()
    }
}

/// Waits until the condition holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < until, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the path of a program, or tells what to install.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = places.map(|place| place.join(name)).find(|path| Path::is_file(path));
    found.unwrap_or_else(|| panic!("{name} is not installed; ./test installs it"))
}
