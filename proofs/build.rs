//! Makes broken twins of the library's files by textual replacement, for the checks to find what was broken.

use std::path::Path;
use std::{env, fs};

/// Twin, original, what stands there, and what stands there instead.
const TWINS: [(&str, &str, &str, &str); 7] = [
    ("wakes_one", "flight/single", "self.finished.notify_all();", "self.finished.notify_one();"),
    ("wakes_none", "flight/single", "self.finished.notify_all();", ""),
    ("drops_silently", "flight/single", "if !self.is_finished {", "if false {"),
    ("flies_twice", "flight/single", "if state.is_running() {", "if false {"),
    (
        "times_out_late",
        "flight/single",
        "self.finished.wait_until(&mut state, deadline)",
        "self.finished.wait_until(&mut state, far())",
    ),
    (
        "rejects_unseen",
        "slot",
        "token.generation() <= generation);\n        self.publish(&held);",
        "token.generation() <= generation);",
    ),
    ("goes_back", "slot", " || token.generation() < held.seen", ""),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (twin, original, stands, instead) in TWINS {
        let path = Path::new("../src").join(original).with_extension("rs");
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).expect("the library's source is beside this package");
        assert_eq!(text.matches(stands).count(), 1, "{original}.rs has changed: {twin} finds its place no more");
        let broken = text.replace(stands, instead);
        // Included text may have no head comment.
        let body: Vec<&str> = broken.lines().filter(|line| !line.starts_with("//!")).collect();
        let out = Path::new(&env::var_os("OUT_DIR").expect("cargo tells")).join(twin).with_extension("rs");
        fs::write(out, body.join("\n")).expect("the build folder can be written");
    }
}
