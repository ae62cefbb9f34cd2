//! Secrets leave in requests alone: no error, no Debug and no log record has them, and neither what the issuer says.

mod support;

use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, fs};
use support::{at, granted, manager, refresh_token, rotated};
use testbed::keys::Keys;
use testbed::stand_in::{StandIn, Told};
use token_manager::TokenSource;
use token_manager_issuers::{Client, JwtBearer, Login, Secret, TokenExchange, TokenType};

static LOG: Log = Log { all: Mutex::new(String::new()), has_bytes: AtomicBool::new(false) };

/// Keeps every record of every crate, but for ureq's traces unless they are asked for.
struct Log {
    all: Mutex<String>,
    has_bytes: AtomicBool,
}

impl log::Log for Log {
    fn enabled(&self, of: &log::Metadata<'_>) -> bool {
        let is_bytes = of.level() == log::Level::Trace && of.target().starts_with("ureq");
        !is_bytes || self.has_bytes.load(Ordering::SeqCst)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut all = self.all.lock().unwrap();
            fmt::Write::write_fmt(&mut *all, format_args!("{} {}\n", record.target(), record.args())).unwrap();
        }
    }

    fn flush(&self) {}
}

/// Everything that errors and their causes show.
fn shown(error: &dyn Error) -> String {
    let cause = error.source().map(shown).unwrap_or_default();
    format!("{error} {error:?}\n{cause}")
}

#[test]
fn no_secret_and_nothing_that_an_issuer_says_is_shown() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let keys = Keys::make();
    let key = fs::read_to_string(keys.path("rsa.pem")).unwrap();
    let bodies = [
        granted("leak-token"),
        rotated("leak-token", "leak-refresh"),
        Told::new(400, r#"{"error":"leak-code","error_description":"leak-description"}"#),
        Told::new(400, r#"{"error":"invalid_grant","error_description":"leak-description"}"#),
        Told::new(401, "leak-body"),
        Told::new(429, "leak-body"),
        Told::new(500, "leak-body").header("X-Leak", "leak-header"),
        Told::new(200, "leak-body"),
        Told::new(302, "leak-body").header("Location", "https://leak-location.example.com/leak"),
    ];
    for body in bodies {
        let issuer = StandIn::start(move |_| Some(body.clone()));
        let url = format!("{}/token", issuer.url());
        let basic = at(&issuer.url()).client(Client::basic("id", "leak-secret")).parameter("tenant", "leak-parameter");
        let post = Client::post("id", Secret::text("leak-secret").or("leak-second".into()));
        let refresh = refresh_token(&issuer).client(post).bootstrap(|_| Ok(Login::refresh_token("leak-login")));
        let exchange = TokenExchange::at(&url).subject("leak-subject", TokenType::jwt());
        let bearer = JwtBearer::at(&url).key(key.as_str()).issuer("me");
        let shown = [
            fetched(basic.build().unwrap()),
            fetched(refresh.build().unwrap()),
            fetched(exchange.build().unwrap()),
            fetched(bearer.build().unwrap()),
        ];
        for shown in shown {
            assert!(!shown.contains("leak") && !shown.contains("PRIVATE KEY"), "{shown}");
        }
    }
    // Where the logger asks for all bytes, nothing is sent.
    LOG.has_bytes.store(true, Ordering::SeqCst);
    let issuer = StandIn::start(|_| Some(granted("leak-token")));
    let shown = fetched(at(&issuer.url()).client(Client::post("id", "leak-secret")).build().unwrap());
    assert!(shown.contains("set the level of both to debug") && issuer.heard().is_empty(), "{shown}");
    let log = LOG.all.lock().unwrap();
    assert!(log.contains("ureq::run POST http://"), "the log has what all crates tell");
    let line = log.lines().find(|line| line.contains("leak") || line.contains("PRIVATE KEY"));
    assert_eq!(line, None);
}

/// What a source shows of itself, and of what becomes of two fetches.
fn fetched(source: impl TokenSource + fmt::Debug) -> String {
    let mut all = format!("{source:?}\n");
    let manager = manager(source);
    for _ in 0..2 {
        match manager.get() {
            Ok(token) => {
                all += &format!("{token:?}\n");
                manager.invalidate(&token);
            }
            Err(error) => all += &shown(&error),
        }
        manager.lift_pause().unwrap();
    }
    all
}
