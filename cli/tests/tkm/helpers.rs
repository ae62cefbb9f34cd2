//! git and docker ask as they do.

use crate::support::{Bench, program};
use std::process::Command;

#[test]
fn git_gets_a_password_and_a_refused_one_is_invalidated() {
    let bench = Bench::new(3600);
    bench.settings("", "user = \"robot\"\nhosts = \"git.example.com\"");
    let git = |verb: &str, input: &str| {
        let helper = format!("!{} get api --output git-credential", env!("CARGO_BIN_EXE_tkm"));
        let mut command = Command::new(program("git"));
        command
            .env("TKM_CONFIG", bench.path("tkm.toml"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("HOME", bench.folder.path());
        command.arg("-c").arg(format!("credential.helper={helper}")).args(["credential", verb]);
        let mut child =
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().expect("git");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes()).expect("a pipe");
        let output = child.wait_with_output().expect("an end");
        assert!(output.status.success(), "git credential {verb}");
        String::from_utf8(output.stdout).expect("text")
    };
    let filled = git("fill", "protocol=https\nhost=git.example.com\n\n");
    assert!(filled.contains("username=robot\npassword=tkm-secret-1\n"), "{filled}");
    for elsewhere in [
        "protocol=https\nhost=evil.example.com\n\n",
        "protocol=http\nhost=git.example.com\n\n",
        "protocol=https\nhost=git.example.com:8443\n\n",
    ] {
        let ran = bench.run_with(&["get", "api", "--output", "git-credential", "get"], elsewhere);
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "", ""), "{elsewhere:?}");
        let told = format!("{}password=tkm-secret-1\n\n", elsewhere.trim_end_matches('\n').to_owned() + "\n");
        assert_eq!(bench.run_with(&["get", "api", "-o", "git-credential", "erase"], &told).code, 0);
    }
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1", "nobody else can have it refused");
    git("approve", &filled);
    git("reject", "protocol=https\nhost=git.example.com\nusername=robot\npassword=another\n\n");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1", "another password was refused");
    git("reject", &filled);
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-2");
}

#[test]
fn docker_gets_a_secret_by_the_protocol_of_its_helpers() {
    let bench = Bench::new(3600);
    bench.settings("", "hosts = [\"registry.example.com\", \"localhost:5000\"]");
    let ran = bench.run_with(&["get", "api", "--output", "docker-credential", "get"], "https://registry.example.com\n");
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(told["ServerURL"], "https://registry.example.com");
    assert_eq!((&told["Username"], &told["Secret"]), (&"x-access-token".into(), &"tkm-secret-1".into()));
    for known in [
        "registry.example.com",
        "https://REGISTRY.example.com/v1/",
        "localhost:5000",
        "https://registry.example.com:443",
    ] {
        let ran = bench.run_with(&["get", "api", "-o", "docker-credential", "get"], known);
        assert!(ran.code == 0 && ran.stdout.contains("tkm-secret-1"), "{known}: {ran:?}");
    }
    for unknown in [
        "https://index.docker.io/v1/",
        "http://registry.example.com",
        "https://registry.example.com@evil.example.com/",
        "localhost",
        "",
    ] {
        let ran = bench.run_with(&["get", "api", "-o", "docker-credential", "get"], unknown);
        // By these words docker knows that there is nothing.
        assert_eq!(
            (ran.code, &*ran.stdout, &*ran.stderr),
            (1, "credentials not found in native keychain\n", ""),
            "{unknown}"
        );
    }
    let list = bench.run_with(&["get", "api", "-o", "docker-credential", "list"], "");
    assert_eq!((list.code, &*list.stdout), (0, "{}\n"));
    let store = bench.run_with(&["get", "api", "-o", "docker-credential", "store"], "{\"Secret\":\"x\"}");
    assert_eq!((store.code, &*store.stdout), (0, ""));
}

#[test]
fn nobody_is_given_a_token_whose_settings_name_no_server() {
    let bench = Bench::new(3600);
    for (output, input) in
        [("git-credential", "protocol=https\nhost=git.example.com\n\n"), ("docker-credential", "registry.example.com")]
    {
        let ran = bench.run_with(&["get", "api", "--output", output, "get"], input);
        assert_eq!((ran.code, &*ran.stdout), (78, ""));
        assert!(
            ran.stderr.contains("tokens.api.hosts: is not set; name the servers that may be given this token"),
            "{ran:?}"
        );
    }
    assert_eq!(bench.issuer.log().len(), 0);
    bench.settings("", "hosts = [\"*.example.com\", \"git.example.com\"]");
    let ran = bench.run(&["check"]);
    assert_eq!(ran.code, 78);
    assert!(ran.stderr.contains(":6: tokens.api.hosts: \"*.example.com\" is no server; write its host"), "{ran:?}");
}
