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

#[test]
fn every_file_of_tests_is_on_the_map() {
    let guide = read("CONTRIBUTING.md");
    let named: Vec<&str> = quoted(&guide).collect();
    let entries = ["tests", "issuers/tests", "config/tests", "cli/tests"]
        .map(|folder| fs::read_dir(root().join(folder)).expect("a folder"));
    for entry in entries.into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let name = |path: &Path| path.strip_prefix(root()).expect("below the root").to_str().expect("text").to_owned();
        let names = [name(&path), name(&path.join("main.rs"))];
        let is_named = names.iter().any(|name| named.contains(&&**name));
        assert!(is_named || path.ends_with("support"), "{} is not named in CONTRIBUTING.md", names[0]);
    }
}

#[test]
fn every_link_leads_somewhere() {
    let documents = [
        "doc/operating.md",
        "README.md",
        "DESIGN.md",
        "PROMISES.md",
        "CONTRIBUTING.md",
        "BENCHMARKS.md",
        "CHANGELOG.md",
    ];
    let mut links = 0;
    for document in documents {
        let page = read(document);
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(document).parent().expect("a file");
            let target = if file.is_empty() { document.into() } else { folder.join(file) };
            assert!(root().join(&target).exists(), "{document} links to {link}, which does not exist");
            if !anchor.is_empty() {
                let there = read(target.to_str().expect("text"))
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor_of(line) == anchor);
                assert!(there, "{document} links to {link}, and {} has no such heading", target.display());
            }
        }
    }
    assert!(links > 12, "only {links} links");
}

#[test]
fn the_client_in_the_readme_is_the_example_that_compiles() {
    let (readme, example) = (read("README.md"), read("issuers/examples/oauth_client.rs"));
    let shown = example.split("// README: from here\n").nth(1).expect("the mark");
    assert!(readme.contains(&format!("```rust,ignore\n{shown}```")), "README.md shows another client:\n{shown}");
}

/// Returns the anchor that a heading gets.
fn anchor_of(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
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
    ["tests/", "proofs/", "src/", "issuers/", "capi/", "config/", "cli/"].iter().any(|root| path.starts_with(root))
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
