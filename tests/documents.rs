//! The tests and files that the documents name are there.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_test_that_the_promises_name_exists() {
    let page = read("PROMISES.md");
    let names: Vec<(&str, &str)> =
        quoted(&page).filter_map(|word| word.split_once("::")).filter(names_a_test).collect();
    assert!(names.len() > 60, "only {} tests are named", names.len());
    for (path, name) in names {
        let found = sources(&root().join(path)).iter().any(|source| has_test(source, name));
        assert!(found, "PROMISES.md names {path}::{name}, which does not exist");
    }
}

#[test]
fn every_file_that_the_maps_name_exists() {
    let (guide, crate_doc) = (read("CONTRIBUTING.md"), read("src/lib.rs"));
    let paths = quoted(&guide).filter(|word| word.contains('/') && !word.contains([' ', '*']));
    let modules = crate_doc.lines().filter_map(|line| line.strip_prefix("//! |")?.split('|').nth(1)).flat_map(quoted);
    let files: Vec<PathBuf> =
        paths.map(PathBuf::from).chain(modules.map(|name| format!("src/{name}.rs").into())).collect();
    assert!(files.len() > 40, "only {} files are named", files.len());
    for file in files {
        assert!(root().join(&file).exists(), "{} is named, but does not exist", file.display());
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).expect(document)
}

/// Returns what stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn names_a_test((path, _): &(&str, &str)) -> bool {
    ["tests/", "proofs/", "src/"].iter().any(|root| path.starts_with(root))
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
    // A check of the contract is none by itself: the tests of each store run all of them.
    if source.contains("type Checks =") {
        return source.contains(&format!("    {name}\n")) && source.contains(&format!("fn {name}(bench: "));
    }
    let head = format!("fn {name}()");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.starts_with(&head));
    at.is_some_and(|at| lines[..at].iter().rev().take_while(|line| !line.is_empty()).any(|line| *line == "#[test]"))
}
