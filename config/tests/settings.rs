//! What a file of settings makes, and how each mistake in one is told.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use tempfile::TempDir;
use token_manager_config::Config;

/// A file of settings in a folder of its own.
struct Settings {
    folder: TempDir,
    path: PathBuf,
}

impl Settings {
    fn new(text: &str) -> Settings {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tkm.toml");
        fs::write(&path, text).expect("a file");
        Settings { folder, path }
    }

    /// Returns what is wrong, each without the folder.
    fn wrong(&self) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        let errors = match Config::read(&self.path) {
            Ok(config) => config.check(),
            Err(error) => vec![error],
        };
        errors.iter().map(|error| error.to_string().replace(&folder, "")).collect()
    }
}

fn wrong(text: &str) -> Vec<String> {
    Settings::new(text).wrong()
}

const STORE: &str = "[stores.main]\nurl = \"memory\"\n";

#[test]
fn a_manager_is_made_of_every_kind_of_setting() {
    let key = testbed_key();
    let text = r#"
        [agent]
        socket = "agent.sock"
        metrics_file = "metrics.prom"
        [audit]
        entries = 500
        [stores.memory]
        url = "memory"
        [stores.redis]
        url = "redis://127.0.0.1:1/3"
        connect_timeout = "100ms"
        io_timeout = "200ms"
        pool_timeout = "300ms"
        pool_size = 4
        wait_replicas = { replicas = 1, limit = "100ms" }
        [stores.host]
        url = "file:host"
        [stores.elsewhere]
        url = { file = "url" }
        [tokens.billing]
        store = "memory"
        namespace = "own"
        group = "issuer"
        grant = "login"
        egress = "office"
        deadline = "20s"
        fetch_limit = "4s"
        lease = "6s"
        refresh_before = 0.15
        margin = "2s"
        journal = "journal"
        serve_stale = "5m"
        budget = { per_minute = 5, burst = 2 }
        execution = "inline"
        probe = { url = "https://api.example.com/me", limit = "10ms", http = { no_proxy = true } }
        user = "x-access-token"
        hosts = ["git.example.com", "http://localhost:3000"]
        source.command = { run = ["printf", "one"], plain_text = true, life = "1h", exit_codes = { 3 = "throttled" } }
        [[tokens.billing.files]]
        path = "billing.token"
        output = "header"
        mode = "0640"
        hook = ["true"]
        [tokens.client]
        store = "redis"
        when_away = { store = "host", budget = { per_minute = 1 } }
        [tokens.client.source.client_credentials]
        url = "https://issuer.example.com/token"
        client = { id = "a", secret = { file = "s", or = { env = "S" } } }
        scope = "read write"
        audience = ["x", "y"]
        parameters = { tenant = "t" }
        http = { no_proxy = true }
        [tokens.refreshed]
        store = "elsewhere"
        source.refresh_token = { discover = "https://issuer.example.com", client = { id = "a" }, reuse_window = "30s", first = { file = "login" } }
        [tokens.signed]
        store = "memory"
        source.jwt_bearer = { url = "https://issuer.example.com/token", key = { file = "key.pem" }, issuer = "me", claims = { scope = "s" } }
        [tokens.exchanged]
        store = "memory"
        source.token_exchange = { url = "https://issuer.example.com/token", subject = { token = { env = "T" }, type = "jwt" }, audience = "z" }
        [tokens.wechat]
        store = "memory"
        source.wechat = { app = "wx1", secret = { env = "WX" }, classic = true }
        [tokens.ticket]
        store = "memory"
        source.wechat_ticket = { token = "wechat" }
        [tokens.wecom]
        store = "memory"
        source.wecom = { corporation = "ww1", secret = { env = "WW" } }
        [tokens.github]
        store = "memory"
        source.github_app = { app = "Iv1", installation = 7, key = { file = "key.pem" }, repositories = ["r"], permissions = { contents = "read" } }
    "#;
    let settings = Settings::new(text);
    fs::write(settings.folder.path().join("url"), "redis://127.0.0.1:1/\n").expect("a file");
    fs::write(settings.folder.path().join("key.pem"), key).expect("a file");
    assert_eq!(settings.wrong(), [""; 0]);

    let config = Config::read(&settings.path).expect("settings");
    assert_eq!(config.names().count(), 9);
    assert_eq!(config.token_name("billing").expect("a name").to_string(), "own:{issuer}:billing");
    assert_eq!(config.egress("billing"), "office");
    assert_eq!(config.user("billing"), Some("x-access-token"));
    let files = config.files("billing");
    assert_eq!(files[0].path, settings.folder.path().join("billing.token"));
    assert_eq!(config.agent().socket, Some(settings.folder.path().join("agent.sock")));
    assert_eq!(config.manager("billing").expect("a manager").get().expect("a token").secret(), "one");
}

#[test]
fn every_mistake_is_told_with_its_line_and_what_to_do() {
    let cases: &[(&str, &str)] = &[
        ("a = ", "tkm.toml:1: string values must be quoted, expected literal string"),
        (
            "[token.x]",
            "tkm.toml:1: token: unknown field `token`, expected one of `allow_inline_secrets`, `stores`, `tokens`, `agent`, `sealed`, `audit`",
        ),
        ("[tokens.x]\nleese = \"3s\"\n", "tkm.toml:2: tokens.x.leese: unknown field `leese`"),
        ("[tokens.x]\nlease = \"3\"\nsource = {}", "tkm.toml:2: tokens.x.lease: expected a span such as \"300ms\""),
        ("[tokens.x]\nlease = 3\n", "tkm.toml:2: tokens.x.lease: invalid type: integer, expected a span such as"),
        ("[tokens.x]\n", "tkm.toml:1: tokens.x: missing field `source`"),
        ("", "tkm.toml: has no token; add a table [tokens.NAME]"),
    ];
    for (text, message) in cases {
        let found = wrong(text);
        assert!(found.len() == 1 && found[0].starts_with(message), "{text:?}: {found:#?} and not {message}");
    }
    let cases: &[(&str, &str)] = &[
        ("[tokens.x.source]", "tkm.toml:3: tokens.x.source: has no kind; give one table of client_credentials"),
        (
            "[tokens.x]\nlease = \"0ms\"\nsource.command = { run = [\"true\"] }",
            "tkm.toml:4: tokens.x.lease: lease is 0ns; it must be",
        ),
        (
            "[tokens.x]\nstore = \"other\"\nsource.command.run = [\"true\"]",
            "tkm.toml:4: tokens.x.store: there is no table [stores.other]",
        ),
        (
            "[tokens.x]\nsource.command.run = [\"true\"]\nsource.command.plain_text = true",
            "tkm.toml:5: tokens.x.source.command.plain_text: set life too",
        ),
        (
            "[tokens.x.source.command]\nrun = [\"true\"]\nexit_codes = { 300 = \"unavailable\" }",
            "tkm.toml:5: tokens.x.source.command.exit_codes.300: is no exit code",
        ),
        (
            "[tokens.x.source.client_credentials]\nurl = \"http://issuer.example.com/\"\nclient = { id = \"a\" }",
            "tkm.toml:4: tokens.x.source.client_credentials.url: at: begins with http",
        ),
        (
            "[tokens.x.source]\nwechat_ticket.token = \"y\"",
            "tkm.toml:4: tokens.x.source.wechat_ticket.token: there is no token \"y\" in this file",
        ),
        (
            "[tokens.x.source]\nwechat_ticket.token = \"x\"",
            "tkm.toml:4: tokens.x.source.wechat_ticket.token: the tokens of this file are made of each other in a circle",
        ),
        (
            "[tokens.x]\nsource.command.run = [\"true\"]\nfiles = [{ path = \"a\", mode = \"rw\" }]",
            "tkm.toml:5: tokens.x.files.0.mode: is no octal number",
        ),
        (
            "[tokens.x]\nsource.command.run = [\"true\"]\nfiles = [{ path = \"a\", template = \"b\" }]",
            "tkm.toml:5: tokens.x.files.0.template: has no {token}",
        ),
    ];
    let file = |setting: &str| {
        format!("[tokens.x]\nsource.command.run = [\"true\"]\n[[tokens.x.files]]\npath = \"a\"\n{setting}")
    };
    let files = [
        (
            "output = \"xml\"",
            "tkm.toml:7: tokens.x.files.0.output: a file has no output \"xml\"; write one of text, json",
        ),
        ("output = \"git-credential\"", "tkm.toml:7: tokens.x.files.0.output: a file has no output"),
        ("owner = \"nobody-here\"", "tkm.toml:7: tokens.x.files.0.owner: this host has no user \"nobody-here\""),
        ("group = \"nobody-here\"", "tkm.toml:7: tokens.x.files.0.group: this host has no group \"nobody-here\""),
    ];
    let files = files.map(|(setting, message)| (file(setting), message));
    let cases = cases.iter().copied().chain(files.iter().map(|(text, message)| (text.as_str(), *message)));
    for (text, message) in cases {
        let found = wrong(&format!("{STORE}{text}"));
        assert!(found.len() == 1 && found[0].starts_with(message), "{text:?}: {found:#?} and not {message}");
    }
}

#[test]
fn every_kind_of_store_is_opened_and_one_that_nobody_knows_is_refused() {
    let found = |url: &str| wrong(&format!("[stores.a]\nurl = \"{url}\"\n[tokens.x]\nsource.command.run = [\"true\"]"));
    assert_eq!(found("redis://127.0.0.1:6379/1"), [""; 0]);
    for url in [
        "unix:///run/redis.sock",
        "rediss://127.0.0.1:6380/",
        "redis+sentinel://127.0.0.1:26379,127.0.0.1:26380/main/0",
        "redis+cluster://127.0.0.1:7000,127.0.0.1:7001",
        "rediss+cluster://127.0.0.1:7000",
    ] {
        assert_eq!(found(url), [""; 0], "{url}");
    }
    assert_eq!(found("file:store"), [""; 0], "a folder beside the settings");
    let nowhere = found("file:/proc/version/nowhere");
    assert_eq!(
        nowhere.first().map(String::as_str),
        Some("tkm.toml:2: stores.a.url: /proc/version is no folder; name a folder that this user may make or write")
    );
    let unknown = found("http://127.0.0.1/");
    assert!(
        unknown[0].starts_with("tkm.toml:2: stores.a.url: is no address of a store; write one of redis://"),
        "{unknown:?}"
    );
    let pool =
        wrong("[stores.a]\nurl = \"redis://127.0.0.1/\"\npool_size = 0\n[tokens.x]\nsource.command.run = [\"true\"]");
    assert!(pool[0].starts_with("tkm.toml:3: stores.a.pool_size: pool_size is 0; it must be"), "{pool:?}");
}

#[test]
fn a_check_makes_nothing_and_tells_which_folders_cannot_be_made() {
    let text = |store: &str, journal: &str| {
        format!(
            "[stores.a]\nurl = \"file:{store}\"\n[stores.b]\nurl = \"file:other\"\n[tokens.x]\nstore = \"a\"\n\
             when_away = {{ store = \"b\", budget = {{ per_minute = 1 }} }}\njournal = \"{journal}\"\n\
             source.command.run = [\"true\"]\n[[tokens.x.files]]\npath = \"out/token\"\nowner = \"root\"\ngroup = \"0\"\n"
        )
    };
    let settings = Settings::new(&text("store", "deep/journal"));
    assert_eq!(settings.wrong(), [""; 0]);
    let store = Config::read(&settings.path).expect("settings").store_to_look_at("x").expect("a store");
    let name = Config::read(&settings.path).expect("settings").token_name("x").expect("a name");
    assert!(store.inspect(&name, "default").expect("an empty store").token.is_none());
    assert_eq!(store.place(), format!("file:{}", settings.folder.path().join("store").display()));
    let there = fs::read_dir(settings.folder.path()).expect("a folder").count();
    assert_eq!(there, 1, "the settings alone");

    let settings = Settings::new(&text("tkm.toml/store", "tkm.toml/journal"));
    let found = settings.wrong();
    assert!(
        found[0].starts_with("tkm.toml:2: stores.a.url: ") && found[0].contains("tkm.toml is no folder"),
        "{found:?}"
    );
    let settings = Settings::new(&text("store", "tkm.toml/journal"));
    let found = settings.wrong();
    assert!(found[0].starts_with("tkm.toml:8: tokens.x.journal: "), "{found:?}");
}

#[test]
fn a_secret_in_the_file_is_refused_unless_that_is_forced_and_never_quoted() {
    let text = "[stores.a]\nurl = \"redis://:hunter2@127.0.0.1/\"\n\
                [tokens.x.source.client_credentials]\nurl = \"https://issuer.example.com/\"\n\
                client = { id = \"a\", secret = \"hunter2\" }\n";
    let found = wrong(text);
    assert_eq!(found.len(), 1, "the store comes first: {found:?}");
    assert!(found[0].starts_with("tkm.toml:2: stores.a.url: a secret stands in this file; write { file"), "{found:?}");
    let found = wrong(&text.replace(":hunter2@", ""));
    let at = "tkm.toml:5: tokens.x.source.client_credentials.client.secret: a secret stands in this file";
    assert!(found[0].starts_with(at), "{found:?}");
    assert_eq!(wrong(&format!("allow_inline_secrets = true\n{text}")), [""; 0]);

    for misplaced in
        ["deadline = \"hunter2\"", "budget = \"hunter2\"", "source.hunter = \"hunter2\"", "files = \"hunter2\""]
    {
        let found = wrong(&format!("[tokens.x]\n{misplaced}\n"));
        assert!(!found.is_empty() && !format!("{found:?}").contains("hunter2"), "{found:?}");
    }
    let settings = Settings::new(&format!("allow_inline_secrets = true\n{text}"));
    let config = Config::read(&settings.path).expect("settings");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_first_refresh_token_is_presented_once_however_often_the_settings_are_read() {
    let answers = ["t1 r1", "t2 r2", "t3 s1"].map(|both| both.split_once(' ').expect("two words"));
    let answers = std::sync::Mutex::new(answers.into_iter());
    let issuer = testbed::stand_in::StandIn::start(move |_| {
        let (token, refresh) = answers.lock().expect("no panic").next()?;
        let body = format!(r#"{{"access_token":"{token}","expires_in":3600,"refresh_token":"{refresh}"}}"#);
        Some(testbed::stand_in::Told::new(200, body))
    });
    let settings = Settings::new(&format!(
        "[stores.main]\nurl = \"file:store\"\n[tokens.x.source.refresh_token]\nurl = \"{}/token\"\n\
         client = {{ id = \"a\" }}\nfirst = {{ file = \"login\" }}\n",
        issuer.url()
    ));
    let leave = |login: &str| fs::write(settings.folder.path().join("login"), login).expect("a file");
    let next = || {
        let manager = Config::read(&settings.path).expect("settings").manager("x").expect("a manager");
        let token = manager.get().expect("a token");
        manager.invalidate(&token);
        token.secret().to_owned()
    };
    leave("r0\n");
    assert_eq!([next(), next()], ["t1", "t2"]);
    leave("s0\n");
    assert_eq!(next(), "t3");
    let sent = issuer.heard();
    let presented =
        sent.iter().map(|heard| heard.body.split("refresh_token=").nth(1).unwrap_or_default().split('&').next());
    assert_eq!(presented.flatten().collect::<Vec<_>>(), ["r0", "r1", "s0"]);
}

#[test]
fn a_new_token_is_probed_at_the_address_of_the_settings() {
    let refusals = std::sync::atomic::AtomicUsize::new(2);
    let api = testbed::stand_in::StandIn::start(move |heard| {
        let is_shown = heard.header("authorization") == Some("Bearer s3cret");
        let refuses = refusals.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        Some(testbed::stand_in::Told::new(if is_shown && !refuses { 200 } else { 401 }, ""))
    });
    let text = |probe: &str| {
        let source = "source.command = { run = [\"printf\", \"s3cret\"], plain_text = true, life = \"1h\" }";
        Settings::new(&format!("{STORE}[tokens.x]\n{source}\n[tokens.x.probe]\n{probe}"))
    };
    let settings = text(&format!("url = \"{}/me\"\nlimit = \"8s\"\n", api.url()));
    let manager = Config::read(&settings.path).expect("settings").manager("x").expect("a manager");
    assert_eq!(manager.get().expect("a token").secret(), "s3cret");
    assert_eq!(api.heard().len(), 3);
    let found = text("limit = \"8s\"\nurl = \"http://api.example.com/\"\n").wrong();
    assert!(found[0].starts_with("tkm.toml:7: tokens.x.probe.url: "), "{found:?}");
}

/// An RSA key as PKCS#8, made anew.
fn testbed_key() -> String {
    let output = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .expect("openssl");
    String::from_utf8(output.stdout).expect("a PEM")
}
