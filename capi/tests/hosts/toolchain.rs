//! Builds the library, installs it into a folder of the target directory, and compiles and runs hosts against it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Copy, PartialEq)]
pub enum Build {
    Release,
    Debug,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Link {
    Shared,
    Static,
}

const STATIC: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

pub fn capi() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn source(host: &str) -> PathBuf {
    capi().join("hosts").join(host)
}

/// Installs the release build and one like it of the debug build, once.
fn prefix(build: Build) -> &'static Path {
    static PREFIXES: OnceLock<[PathBuf; 2]> = OnceLock::new();
    let [release, debug] = PREFIXES.get_or_init(|| {
        let target = scratch().parent().expect("the target directory");
        let [release, debug] = ["installed", "installed-debug"].map(|folder| scratch().join(folder));
        run(Command::new(capi().join("install")).arg("--prefix").arg(&release).env("CARGO_TARGET_DIR", target));
        let cargo = ["build", "--quiet", "-p", "token-manager-capi"];
        run(Command::new(env!("CARGO")).args(cargo).current_dir(capi()).env("CARGO_TARGET_DIR", target));
        let folder = debug.join("lib");
        std::fs::create_dir_all(&folder).expect("a folder");
        for name in ["libtoken_manager.so.0", "libtoken_manager.so", "libtoken_manager.a"] {
            let built = if name.ends_with(".a") { "libtoken_manager_capi.a" } else { "libtoken_manager_capi.so" };
            std::fs::copy(target.join("debug").join(built), folder.join(name)).expect("it was built");
        }
        [release, debug]
    });
    if build == Build::Release { release } else { debug }
}

pub fn library(build: Build, link: Link) -> PathBuf {
    let name = if link == Link::Shared { "libtoken_manager.so" } else { "libtoken_manager.a" };
    prefix(build).join("lib").join(name)
}

/// Compiles one of the hosts.
pub fn compile(host: &str, build: Build, link: Link, more: &[&str]) -> PathBuf {
    compile_file(&source(host), build, link, more)
}

pub fn compile_file(file: &Path, build: Build, link: Link, more: &[&str]) -> PathBuf {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let cpp = file.extension().is_some_and(|extension| extension == "cpp");
    let program = scratch().join(format!("host-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let (library, include) = (library(build, link), prefix(Build::Release).join("include"));
    let mut command = Command::new(if cpp { "c++" } else { "cc" });
    command.args([if cpp { "-std=c++11" } else { "-std=c99" }, "-g", "-pedantic", "-Wall", "-Wextra", "-Werror"]);
    command.args(more).arg("-I").arg(include).arg(file).arg("-o").arg(&program).arg(&library);
    match link {
        Link::Shared => {
            let folder = library.parent().expect("a folder").display();
            command.arg(format!("-Wl,-rpath,{folder}")).arg("-lpthread");
        }
        Link::Static => drop(command.args(STATIC)),
    }
    run(&mut command);
    program
}

/// Runs a command that must succeed, within ten minutes, and returns what it printed.
pub fn run(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = Command::new("timeout")
        .arg("600")
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
    let (shown, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let missing = "install what is missing: sudo apt-get install gcc g++ valgrind python3";
    assert!(output.status.code() != Some(127), "{name} is missing; {missing}");
    assert!(output.status.success(), "{name}: {}\n{shown}\n{told}", output.status);
    shown.into_owned()
}
