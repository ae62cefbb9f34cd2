//! A GitHub App's installation tokens, against a stand-in whose rules are those of docs.github.com: "Generating a JSON Web Token
//! (JWT) for a GitHub App", "REST API endpoints for GitHub Apps" and "Rate limits for the REST API".

use crate::standin::{Asked, Books, Reply, Vendor};
use crate::{class_and_cause, failure_of};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::Backing;
use testbed::keys::Keys;
use testbed::stand_in::Told;
use token_manager::{FailureClass, TokenManager};
use token_manager_issuers::Secret;
use token_manager_issuers::github_app::{Installation, InstallationBuilder, budget};

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::make);

/// The key's public half, as RFC 8017 §A.1.1 writes it.
static PUBLIC: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let pem = KEYS.text("rsa.pem");
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(der).unwrap()).unwrap();
    key.public().as_ref().to_vec()
});

/// A status, headers and a message.
type Instead = (u16, Vec<(&'static str, String)>, &'static str);

/// What GitHub keeps.
struct Github {
    /// How far its clock is behind ours.
    behind: Duration,
    /// What it answers instead.
    instead: Option<Instead>,
    lost: u32,
    issued: u32,
    bodies: Vec<Value>,
}

impl Github {
    fn new() -> Github {
        Github { behind: Duration::ZERO, instead: None, lost: 0, issued: 0, bodies: Vec::new() }
    }

    fn now(&self) -> SystemTime {
        SystemTime::now() - self.behind
    }

    /// Returns what is wrong with the assertion.
    fn refuses(&self, bearer: Option<&str>) -> Option<&'static str> {
        let Some(assertion) = bearer.and_then(|bearer| bearer.strip_prefix("Bearer ")) else { return Some("none") };
        let Some((signed, signature)) = assertion.rsplit_once('.') else { return Some("no JWT") };
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &*PUBLIC);
        let Ok(()) = key.verify(signed.as_bytes(), &decode(signature)) else { return Some("not signed") };
        let (header, claims) = signed.split_once('.').unwrap();
        let json = |part| serde_json::from_slice::<Value>(&decode(part)).unwrap();
        let (header, claims) = (json(header), json(claims));
        let now = self.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (iat, exp) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        match () {
            () if header != json!({ "alg": "RS256", "typ": "JWT" }) => Some("not RS256"),
            () if claims["iss"] != "Iv1.01" => Some("unknown app"),
            () if iat > now => Some("issued in the future"),
            () if exp <= now || exp > now + 600 => Some("ends in the past, or too far in the future"),
            () => None,
        }
    }
}

impl Books for Github {
    fn answer(&mut self, asked: &Asked, _: Instant) -> Reply {
        let date = httpdate::fmt_http_date(self.now());
        let told = |status, body: Value| Told::new(status, body.to_string()).header("Date", &*date);
        if let Some((status, headers, message)) = self.instead.clone() {
            let told = told(status, json!({ "message": message }));
            return Reply::Told(headers.into_iter().fold(told, |told, (name, value)| told.header(name, value)));
        }
        if let Some(wrong) = self.refuses(asked.heard.header("authorization")) {
            return Reply::Told(told(401, json!({ "message": wrong })));
        }
        if (asked.heard.method.as_str(), asked.path.as_str()) != ("POST", "/app/installations/7/access_tokens") {
            return Reply::Told(told(404, json!({ "message": "Not Found" })));
        }
        let expected = [("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")];
        assert!(expected.iter().all(|(name, value)| asked.heard.header(name) == Some(value)), "{asked:?}");
        assert!(asked.heard.header("user-agent").is_some(), "GitHub refuses who has none");
        self.bodies.push(serde_json::from_str(&asked.heard.body).unwrap());
        self.issued += 1;
        if self.lost > 0 {
            self.lost -= 1;
            return Reply::Lost;
        }
        let end = jiff::Timestamp::try_from(self.now() + Duration::from_secs(3600)).unwrap();
        Reply::Told(told(201, json!({ "token": format!("ghs_{}", self.issued), "expires_at": format!("{end:.0}") })))
    }
}

fn app(github: &Vendor<Github>, key: impl Into<Secret>) -> InstallationBuilder {
    Installation::of("Iv1.01", 7, key).base_url(format!("{}/", github.url()))
}

fn manager(app: InstallationBuilder) -> TokenManager {
    let builder = Backing::memory().builder("t").margin(Duration::from_millis(1));
    builder.source(app.build().unwrap()).build().unwrap()
}

#[test]
fn a_key_as_pkcs1_and_as_pkcs8_buys_a_token() {
    assert!(
        KEYS.text("rsa-pkcs1.pem").contains("BEGIN RSA PRIVATE KEY")
            && KEYS.text("rsa.pem").contains("BEGIN PRIVATE KEY")
    );
    let github = Vendor::start(Github::new());
    assert_eq!(manager(app(&github, KEYS.text("rsa-pkcs1.pem"))).get().unwrap().secret(), "ghs_1");
    assert_eq!(manager(app(&github, KEYS.text("rsa.pem"))).get().unwrap().secret(), "ghs_2");
    let narrow = app(&github, KEYS.text("rsa.pem")).repository("website").permission("contents", "read");
    assert_eq!(manager(narrow).get().unwrap().secret(), "ghs_3");
    let bodies = github.with(|books| books.bodies.clone());
    assert_eq!(bodies[..2], [json!({}), json!({})]);
    assert_eq!(bodies[2], json!({ "repositories": ["website"], "permissions": { "contents": "read" } }));
}

#[test]
fn a_life_is_measured_by_githubs_clock() {
    for behind in [0, 45] {
        let github = Vendor::start(Github { behind: Duration::from_secs(behind), ..Github::new() });
        let manager = manager(app(&github, KEYS.text("rsa-pkcs1.pem")));
        manager.get().unwrap();
        let (_, left) = manager.inspect().unwrap().token.expect("a token");
        assert!((3580..3600).contains(&left.as_secs()), "{behind}: {left:?}");
    }
}

#[test]
fn clocks_may_differ_by_less_than_a_minute() {
    let github = Vendor::start(Github { behind: Duration::from_secs(61), ..Github::new() });
    let (class, cause) = failure_of(app(&github, KEYS.text("rsa-pkcs1.pem")).build().unwrap());
    assert_eq!(class, FailureClass::CredentialsRejected);
    assert_eq!(cause, "GitHub answered 401: check the app's id, its key and this machine's clock");
}

#[test]
fn limits_are_told_by_either_header_or_last_a_minute() {
    let github = Vendor::start(Github { behind: Duration::from_secs(30), ..Github::new() });
    let reset = github.with(|books| books.now().duration_since(UNIX_EPOCH).unwrap().as_secs()) + 1800;
    let spent = |left: u32| vec![("X-RateLimit-Remaining", left.to_string()), ("X-RateLimit-Reset", reset.to_string())];
    let after = vec![("Retry-After", "90".to_owned())];
    for (status, headers, message, pause) in [
        (403, after.clone(), "You have exceeded a secondary rate limit", 90),
        (429, after, "", 90),
        (403, spent(0), "API rate limit exceeded", 1800),
        (429, spent(0), "", 1800),
        (403, spent(12), "You have exceeded a secondary rate limit", 60),
        (429, spent(12), "", 60),
    ] {
        github.with(|books| books.instead = Some((status, headers, message)));
        let error = manager(app(&github, KEYS.text("rsa-pkcs1.pem"))).get().unwrap_err();
        assert_eq!(class_and_cause(&error).0, FailureClass::Throttled, "{status} {message}");
        let told = error.retry_after().expect("a pause").as_secs();
        assert!((pause - 20..=pause).contains(&told), "{status} {message}: {told} of {pause}");
    }
}

#[test]
fn a_limit_that_ends_after_all_time_is_a_limit() {
    let github = Vendor::start(Github::new());
    let headers = vec![("X-RateLimit-Remaining", "0".to_owned()), ("X-RateLimit-Reset", u64::MAX.to_string())];
    github.with(|books| books.instead = Some((403, headers, "")));
    let error = manager(app(&github, KEYS.text("rsa-pkcs1.pem"))).get().unwrap_err();
    assert_eq!(class_and_cause(&error).0, FailureClass::Throttled);
    assert!(error.retry_after().expect("a pause").as_secs() > 3500, "the longest that there is");
}

#[test]
fn refusals_are_rejected_credentials_and_say_what_to_look_at() {
    let github = Vendor::start(Github::new());
    for (status, what) in [
        (401, "check the app's id, its key and this machine's clock"),
        (403, "the installation is suspended, or the app may not do this"),
        (404, "the app has no such installation"),
        (422, "the installation has not all of the repositories and permissions that are asked for"),
    ] {
        github.with(|books| books.instead = Some((status, Vec::new(), "hunter2")));
        let (class, cause) = failure_of(app(&github, KEYS.text("rsa-pkcs1.pem")).build().unwrap());
        assert_eq!(class, FailureClass::CredentialsRejected);
        assert_eq!(cause, format!("GitHub answered {status}: {what}"));
    }
    github.with(|books| books.instead = Some((503, Vec::new(), "")));
    assert_eq!(failure_of(app(&github, KEYS.text("rsa-pkcs1.pem")).build().unwrap()).0, FailureClass::Unavailable);
}

#[test]
fn a_lost_answer_casts_no_doubt_since_older_tokens_go_on() {
    let github = Vendor::start(Github { lost: 1, ..Github::new() });
    assert_eq!(failure_of(app(&github, KEYS.text("rsa-pkcs1.pem")).build().unwrap()).0, FailureClass::Unavailable);
    assert_eq!(github.with(|books| books.issued), 1);
}

#[test]
fn a_key_is_read_anew_for_each_fetch_and_a_wrong_one_is_refused_at_once() {
    let (github, file) = (Vendor::start(Github::new()), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), KEYS.text("rsa-pkcs1.pem")).unwrap();
    let manager = manager(app(&github, Secret::file(file.path())));
    let first = manager.get().unwrap();
    std::fs::write(file.path(), "no key").unwrap();
    manager.invalidate(&first);
    assert_eq!(class_and_cause(&manager.get().unwrap_err()).0, FailureClass::CredentialsRejected);

    let refused = |key: &str| app(&github, key).build().unwrap_err().to_string();
    assert_eq!(refused("no key"), "key: the key is no PEM with a private key");
    assert!(
        refused(&KEYS.text("ec.pem")).starts_with("key: the key is no RSA key"),
        "{}",
        refused(&KEYS.text("ec.pem"))
    );
}

#[test]
fn the_budget_keeps_within_five_hundred_an_hour() {
    assert_eq!(3_600 * 1_000 / budget().emission_interval().as_millis() as u64 + u64::from(budget().max_burst()), 490);
}
