//! A real OAuth 2.0 issuer that nobody here wrote: npm's `oidc-provider`, run by node. `testbed/oidc/provider.mjs` configures it.

use crate::client;
use crate::keys::Keys;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What `./test` installs, and how to do it by hand.
const MISSING: &str = "npm's oidc-provider is missing: run `npm install --prefix target/oidc oidc-provider@9.13.3` \
    at the root of this repository; it needs node 20 or newer, which `npm install --prefix target/oidc node@22` brings";

/// A running issuer; dropping it ends it.
pub struct Oidc {
    child: Child,
    /// It ends with its input, so also when this process is killed.
    _input: Option<ChildStdin>,
    url: String,
    tls_url: String,
    keys: Keys,
    _log: TempDir,
}

impl Oidc {
    /// Starts one that takes a refresh token again within this time of its first use.
    pub fn start(window: Duration) -> Oidc {
        let (keys, log) = (Keys::make(), tempfile::tempdir().expect("a folder"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = root.join("target/oidc");
        assert!(folder.join("node_modules/oidc-provider").exists(), "{MISSING}");
        let settings = json!({ "window": window.as_millis() as u64, "keys": keys.folder() });
        let errors = log.path().join("stderr");
        let mut command = Command::new(node(&folder));
        command.arg(root.join("testbed/oidc/provider.mjs")).arg(&folder).arg(settings.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&errors).expect("a file"));
        let mut child = command.spawn().expect(MISSING);
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let listening = lines.find_map(|line| line.strip_prefix("listening ").map(str::to_owned));
        let said = || fs::read_to_string(&errors).unwrap_or_default();
        let listening = listening.unwrap_or_else(|| panic!("{MISSING}\n{}", said()));
        let (url, tls_url) = listening.split_once(' ').expect("two addresses");
        Oidc { child, _input: input, url: url.into(), tls_url: tls_url.into(), keys, _log: log }
    }

    /// Its name and base URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    /// The token endpoint that asks for certificates.
    pub fn tls_token_url(&self) -> String {
        format!("{}/token", self.tls_url)
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What it has seen: `logins`, `requests`, `rotations`; presentations of a refresh token once more, `inside` and `outside` of the
    /// window; grants that it `revoked`; `invalid_grant`.
    pub fn stats(&self) -> Value {
        serde_json::from_str(&self.order("stats")).expect("JSON")
    }

    pub fn count(&self, what: &str) -> u64 {
        self.stats()[what].as_u64().unwrap_or_else(|| panic!("no {what}"))
    }

    /// Holds the next token request `before` or `after` it has dealt with it.
    pub fn hold(&self, when: &str) {
        self.order(&format!("hold/{when}"));
    }

    /// Waits until a request is held.
    pub fn wait_held(&self) {
        self.order("held");
    }

    /// Lets the held request go on.
    pub fn release(&self) {
        self.order("go");
    }

    fn order(&self, order: &str) -> String {
        order_at(&self.url, order)
    }
}

/// Has the issuer with this base URL do something, such as `login`: that returns a new grant's first refresh token.
pub fn order_at(url: &str, order: &str) -> String {
    let request = client::agent().get(format!("{url}/{order}"));
    let request = request.config().timeout_global(Some(crate::LONG)).build();
    request.call().expect("the issuer answers").body_mut().read_to_string().expect("text")
}

/// The node of the folder, where the system's is missing or too old, else the system's.
fn node(folder: &Path) -> PathBuf {
    let own = folder.join("node_modules/node/bin/node");
    if own.exists() { own } else { "node".into() }
}

impl Drop for Oidc {
    fn drop(&mut self) {
        // Both fail only if it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
