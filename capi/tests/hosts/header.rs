//! The header and the library say the same: functions, codes, and the form of structures; README's snippet compiles.

use crate::toolchain::{Build, Link, capi, compile_file, library, run};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use token_manager_issuers::by_name::{ByName, Form};

fn read(path: &str) -> String {
    fs::read_to_string(capi().join(path)).expect("a file of this crate")
}

#[test]
fn the_header_declares_what_the_library_exports() {
    let header = read("include/token_manager.h");
    let mut declared = BTreeSet::new();
    for line in header.lines().filter(|line| !line.starts_with([' ', '/', '#']) && !line.starts_with("typedef")) {
        if let Some((before, _)) = line.split_once('(')
            && let Some(name) = before.rsplit([' ', '*']).next().filter(|name| name.starts_with("tkm_"))
        {
            declared.insert(name.to_owned());
        }
    }
    let shown = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library(Build::Release, Link::Shared)));
    let exported: BTreeSet<_> = shown.lines().filter_map(|line| line.rsplit(' ').next()).map(str::to_owned).collect();
    assert!(declared.len() > 40, "{declared:?}");
    assert_eq!(declared, exported);
}

#[test]
fn the_header_has_the_numbers_of_the_code() {
    let mut header = BTreeMap::new();
    for line in read("include/token_manager.h").lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["#define", name, number, ..] = words[..]
            && let (Some(name), Ok(number)) = (name.strip_prefix("TKM_"), number.parse::<i32>())
            && !name.starts_with("EXECUTION_")
        {
            header.insert(name.replace('_', "").to_lowercase(), number);
        }
    }
    let mut code = BTreeMap::new();
    for line in read("src/outcome.rs").lines() {
        if let Some((name, number)) = line.trim().trim_end_matches(',').split_once(" = ")
            && let Ok(number) = number.parse::<i32>()
        {
            code.insert(name.to_lowercase(), number);
        }
    }
    assert_eq!(header.len(), 15);
    assert_eq!(header, code);
}

#[test]
fn the_readme_quotes_the_quickstart() {
    let (readme, program) = (read("../README.md"), read("examples/quickstart.c"));
    let snippet = readme.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a snippet");
    let between = program.split("/* README: from here */\n").nth(1).and_then(|rest| rest.split("/* README").next());
    assert_eq!(Some(snippet), between);
}

#[test]
fn each_section_of_the_header_has_a_file() {
    let header = read("include/token_manager.h");
    let sections = header.split("/* ---- ").skip(1);
    let files = [
        ("Errors", "error"),
        ("Stores", "store"),
        ("TLS to Redis", "tls"),
        ("Logins of Redis that expire", "login"),
        ("The fetch callback", "source"),
        ("Issuers", "issuer"),
        ("Options", "options"),
        ("Tokens", "token"),
        ("Managers", "manager"),
        ("Many tokens", "managers"),
        ("Managers from a file", "config"),
        ("What is seen", "views"),
        ("Log and version", "logging"),
    ];
    let mut found = 0;
    for (section, (title, file)) in sections.zip(files) {
        assert!(section.starts_with(title), "{title} is not where it was");
        let code = read(&format!("src/{file}.rs"));
        for name in functions(section) {
            // Setters are made by macros from their names.
            let made = code.contains(&format!(" fn {name}("))
                || code.contains(&format!(" {name},"))
                || code.contains(&format!("({name}"));
            assert!(made, "{name} is in the section {title}, not in {file}.rs");
            found += 1;
        }
    }
    assert_eq!(found, functions(&header).count());
}

#[test]
fn the_header_names_every_kind_of_issuer_and_every_setting() {
    let header = read("include/token_manager.h");
    let section = header.split("/* ---- Issuers").nth(1).and_then(|rest| rest.split("*/").next()).expect("a section");
    let words = section.split(|c: char| !(c.is_alphanumeric() || "._*+".contains(c)));
    let words: BTreeSet<_> = words.map(|word| word.trim_end_matches('.')).collect();
    for kind in ByName::kinds() {
        assert!(words.contains(kind), "{kind} is not in the header");
        for (name, form) in ByName::new(kind).expect("a kind").settings() {
            let written = match form {
                Form::Secret => format!("{name}*"),
                Form::Texts => format!("{name}+"),
                Form::Named if name == "exit_code" => "exit_code.NUMBER+".to_owned(),
                Form::Named => format!("{name}.NAME+"),
                _ => name.to_owned(),
            };
            assert!(words.contains(&*written), "{written} of {kind} is not in the header");
        }
    }
}

/// Returns the functions that a text declares.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let declarations = text.lines().filter(|line| !line.starts_with([' ', '/', '#', 't']) || line.starts_with("tkm_"));
    declarations.filter_map(|line| {
        let before = line.split_once('(')?.0;
        let name = before.rsplit([' ', '*']).next()?;
        name.starts_with("tkm_").then_some(name)
    })
}

#[test]
fn the_structures_have_the_form_that_the_library_asserts() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("structures.c");
    let text = "#include <stddef.h>\n#include <token_manager.h>\n\
        int main(void) {\n\
          if (sizeof(tkm_stats) != 104 || offsetof(tkm_stats, abandoned) != 48 || offsetof(tkm_stats, expires_in_ms) != 96) return 1;\n\
          if (sizeof(tkm_inspection) != 160) return 2;\n\
          return offsetof(tkm_inspection, carries) != 72 || offsetof(tkm_inspection, updater) != 76;\n\
        }\n";
    fs::write(&file, text).expect("a file");
    run(&mut Command::new(compile_file(&file, Build::Release, Link::Shared, &[])));
}
