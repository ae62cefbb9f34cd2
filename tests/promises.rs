//! Every test that PROMISES.md names is there.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_test_that_the_promises_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("PROMISES.md")).expect("PROMISES.md");
    let names: Vec<(&str, &str)> =
        page.split('`').filter_map(|quoted| quoted.split_once("::")).filter(names_a_test).collect();
    assert!(names.len() > 60, "only {} tests are named", names.len());
    for (path, name) in names {
        let found = sources(&root.join(path)).iter().any(|source| has_test(source, name));
        assert!(found, "PROMISES.md names {path}::{name}, which does not exist");
    }
}

fn names_a_test((path, _): &(&str, &str)) -> bool {
    path.starts_with("tests/") || path.starts_with("proofs/")
}

/// Returns the text of a file, or of every file of a folder.
fn sources(path: &Path) -> Vec<String> {
    let files: Vec<PathBuf> = match fs::read_dir(path) {
        Ok(folder) => folder.map(|entry| entry.expect("an entry").path()).collect(),
        Err(_) => vec![path.to_owned()],
    };
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect()
}

/// Returns whether a test of this name stands there, with its attribute above it.
fn has_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}()");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.starts_with(&head));
    at.is_some_and(|at| lines[..at].iter().rev().take_while(|line| !line.is_empty()).any(|line| *line == "#[test]"))
}
