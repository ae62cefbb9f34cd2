//! git and docker ask as they do.

use crate::support::{Bench, program};
use std::process::Command;

#[test]
fn git_gets_a_password_and_a_refused_one_is_invalidated() {
    let bench = Bench::new(3600);
    bench.settings("", "user = \"robot\"");
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
    git("approve", &filled);
    git("reject", "protocol=https\nhost=git.example.com\nusername=robot\npassword=another\n\n");
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-1", "another password was refused");
    git("reject", &filled);
    assert_eq!(bench.answer(&["get", "api"]), "tkm-secret-2");
}

#[test]
fn docker_gets_a_secret_by_the_protocol_of_its_helpers() {
    let bench = Bench::new(3600);
    let ran = bench.run_with(&["get", "api", "--output", "docker-credential", "get"], "https://registry.example.com\n");
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(told["ServerURL"], "https://registry.example.com");
    assert_eq!((&told["Username"], &told["Secret"]), (&"x-access-token".into(), &"tkm-secret-1".into()));
    let list = bench.run_with(&["get", "api", "-o", "docker-credential", "list"], "");
    assert_eq!((list.code, &*list.stdout), (0, "{}\n"));
    let store = bench.run_with(&["get", "api", "-o", "docker-credential", "store"], "{\"Secret\":\"x\"}");
    assert_eq!((store.code, &*store.stdout), (0, ""));
}
