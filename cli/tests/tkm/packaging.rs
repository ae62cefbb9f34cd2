//! What comes with `tkm`: the manual, the completions, the Debian package.

use crate::support::program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const COMMANDS: [&str; 13] = [
    "check",
    "get",
    "exec",
    "invalidate",
    "rotate",
    "agent",
    "inspect",
    "watch",
    "lift-pause",
    "log",
    "bench",
    "completions",
    "man",
];

fn printed(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tkm")).args(args).output().expect("tkm");
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

#[test]
fn the_manual_and_the_help_name_every_command_and_every_exit_code() {
    let (page, help) = (printed(&["man"]), printed(&["--help"]));
    for command in COMMANDS {
        assert!(page.contains(&format!(".SS \"tkm {} ", command.replace('-', "\\-"))), "{command}");
        assert!(help.contains(&format!("\n  {command}")), "{command}");
        assert!(printed(&[command, "--help"]).starts_with(&format!("tkm {command}")), "{command}");
    }
    for code in [0, 64, 69, 70, 74, 75, 77, 78] {
        assert!(page.contains(&format!("\n.B {code}\n")), "{code}");
    }
    assert!(page.starts_with(".TH TKM 1 "));
    assert_eq!(printed(&["--version"]), format!("tkm {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn each_shell_completes_every_command() {
    let (bash, zsh, fish) =
        (printed(&["completions", "bash"]), printed(&["completions", "zsh"]), printed(&["completions", "fish"]));
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let run = |shell: &str, args: &[&str]| {
        let output = Command::new(program(shell)).args(args).output().expect("a shell");
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let bash = file("tkm.bash", &bash);
    let complete = |words: &str, last: usize| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; _tkm; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            bash.display()
        );
        run("bash", &["-c", &script]).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let offered = complete("tkm ''", 1);
    COMMANDS.iter().for_each(|command| assert!(offered.iter().any(|word| word == command), "bash: {command}"));
    assert_eq!(complete("tkm get api --output ex", 4), ["exec-credential"]);
    assert_eq!(complete("tkm log --f", 2), ["--follow"]);
    for command in COMMANDS {
        assert!(zsh.contains(&format!("    '{command}:")), "zsh: {command}");
    }
    run("zsh", &["-n", file("_tkm", &zsh).to_str().expect("text")]);
    let fish = file("tkm.fish", &fish);
    let script = format!("source {}; complete -C 'tkm '; complete -C 'tkm get --output '", fish.display());
    let offered = run("fish", &["--no-config", "-c", &script]);
    for word in COMMANDS.iter().chain(&["git-credential"]) {
        assert!(offered.lines().any(|line| line.split('\t').next() == Some(word)), "fish: {word}: {offered}");
    }
}

#[test]
fn the_debian_package_installs_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let built = Command::new(self::folder().join("deb"))
        .args(["--binary", env!("CARGO_BIN_EXE_tkm"), "--output"])
        .arg(folder.path())
        .output()
        .expect("the script");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let package = String::from_utf8(built.stdout).expect("a path").trim().to_owned();
    let root = folder.path().join("root");
    assert!(
        Command::new("dpkg")
            .arg("-x")
            .args([&*package, root.to_str().expect("text")])
            .status()
            .expect("dpkg")
            .success()
    );
    for file in [
        "usr/bin/tkm",
        "lib/systemd/system/tkm.service",
        "usr/share/man/man1/tkm.1.gz",
        "usr/share/bash-completion/completions/tkm",
        "usr/share/zsh/vendor-completions/_tkm",
        "usr/share/fish/vendor_completions.d/tkm.fish",
        "usr/share/doc/tkm/tkm.md",
        "usr/share/doc/tkm/examples/nginx/nginx.conf",
        "usr/share/doc/tkm/copyright",
    ] {
        assert!(root.join(file).is_file(), "{file} is not in the package");
    }
    let tkm = root.join("usr/bin/tkm");
    let settings = root.join("usr/share/doc/tkm/examples/tkm.toml");
    let checked = Command::new(&tkm).arg("check").arg("--config").arg(settings).output().expect("tkm");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(checked.stdout, b"the settings can be used; tokens: billing, legacy\n");
    let unit = fs::read_to_string(root.join("lib/systemd/system/tkm.service")).expect("a unit");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/")).expect("a command");
    assert!(root.join(start.split(' ').next().expect("a program")).is_file(), "{start}");
    // As systemd reads it where the package is installed; it ends well with settings that it does not know, and tells of them.
    let installed = folder.path().join("tkm.service");
    fs::write(&installed, unit.replace("ExecStart=/usr/bin/tkm", &format!("ExecStart={}", tkm.display())))
        .expect("a file");
    let verified = Command::new(program("systemd-analyze")).args(["verify", "--man=no"]).arg(&installed).output();
    let verified = verified.expect("systemd-analyze");
    assert!(verified.status.success());
    assert_eq!(
        (String::from_utf8_lossy(&verified.stdout), String::from_utf8_lossy(&verified.stderr)),
        ("".into(), "".into())
    );
    let field =
        |name: &str| Command::new("dpkg-deb").args(["--field", &package, name]).output().expect("dpkg-deb").stdout;
    assert_eq!(field("Package"), b"tkm\n");
    assert_eq!(field("Version"), format!("{}\n", env!("CARGO_PKG_VERSION")).as_bytes());
}
