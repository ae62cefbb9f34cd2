//! Imports go down: the table of layers in each `src/lib.rs` names every file, and no file uses one above it or, through however
//! many others, itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[test]
fn every_file_has_a_layer_and_imports_only_go_down() {
    for (src, few_files, few_entries) in
        [("src", 40, 20), ("issuers/src", 15, 10), ("config/src", 7, 7), ("cli/src", 20, 20)]
    {
        let mut files = BTreeMap::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(src), "", &mut files);
        let root = files.remove("lib").or_else(|| files.remove("main"));
        let table = layers(&root.expect("lib.rs or main.rs"));
        let found = (files.len(), table.len());
        assert!(found.0 > few_files && found.1 > few_entries, "{src}: {} files, {} entries", found.0, found.1);
        let offences = offences(&files, &table);
        assert!(offences.is_empty(), "{src}:\n{}", offences.join("\n"));
    }
}

#[test]
fn an_import_upwards_a_circle_and_a_file_without_a_layer_are_found() {
    let table = layers("//! | 1 | `high` `peer` | … |\n//! | 0 | `low` `low/deep` | … |\n");
    let check = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        offences(&files, &table)
    };
    let down = [("high", "use crate::low::deep::X;\nuse crate::peer;"), ("peer", ""), ("low", ""), ("low/deep", "")];
    assert_eq!(check(&down), [""; 0]);
    assert_eq!(check(&[("high", ""), ("low", "\nuse crate::{high, x};")]), ["src/low.rs:2 uses `high`, a layer above"]);
    let inside = [("low", "use deep::Y;"), ("low/deep", "fn f() { super::g() }")];
    assert_eq!(check(&inside), ["a circle: `low` → `low/deep` → `low`"]);
    let exported = [("low", "pub use deep::Y;"), ("low/deep", "// crate::high\nuse super::Z;")];
    assert_eq!(check(&exported), [""; 0], "an export is no use, and neither is a comment");
    assert_eq!(check(&[("stray", "")]), ["src/stray.rs is in no layer of the table in lib.rs"]);
}

type Files = BTreeMap<String, String>;

/// Reads the files below a folder, by their names without `.rs`.
fn collect(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = format!("{prefix}{}", path.file_stem().expect("a name").to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.insert(name, fs::read_to_string(&path).expect("text"));
        }
    }
}

/// Returns the layer of each entry of the table.
fn layers(crate_doc: &str) -> BTreeMap<String, u32> {
    let rows = crate_doc.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("//! |")?.split('|');
        Some((cells.next()?.trim().parse::<u32>().ok()?, cells.next()?))
    });
    rows.flat_map(|(layer, names)| names.split('`').skip(1).step_by(2).map(move |name| (name.to_owned(), layer)))
        .collect()
}

/// Returns the layer of a file: that of the longest entry that is it or a folder around it.
fn layer(file: &str, table: &BTreeMap<String, u32>) -> Option<u32> {
    let mut name = file;
    loop {
        match table.get(name) {
            Some(layer) => return Some(*layer),
            None => name = name.rsplit_once('/')?.0,
        }
    }
}

fn offences(files: &Files, table: &BTreeMap<String, u32>) -> Vec<String> {
    let mut offences = Vec::new();
    let mut uses: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files {
        let Some(own) = layer(file, table) else {
            offences.push(format!("src/{file}.rs is in no layer of the table in lib.rs"));
            continue;
        };
        for (line, used) in imports(file, text, files) {
            match layer(&used, table) {
                Some(other) if other > own => {
                    offences.push(format!("src/{file}.rs:{line} uses `{used}`, a layer above"))
                }
                _ => drop(uses.entry(file).or_default().insert(used)),
            }
        }
    }
    let mut done = BTreeSet::new();
    for file in files.keys() {
        circle(file, &uses, &mut Vec::new(), &mut done, &mut offences);
    }
    offences
}

fn circle(
    file: &str,
    uses: &BTreeMap<&str, BTreeSet<String>>,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
    offences: &mut Vec<String>,
) {
    if let Some(at) = path.iter().position(|earlier| earlier == file) {
        let names: Vec<String> = path[at..].iter().chain([&file.to_owned()]).map(|name| format!("`{name}`")).collect();
        offences.push(format!("a circle: {}", names.join(" → ")));
    } else if !done.contains(file) {
        path.push(file.to_owned());
        for used in uses.get(file).into_iter().flatten() {
            circle(used, uses, path, done, offences);
        }
        path.pop();
        done.insert(file.to_owned());
    }
}

/// Returns the files that a file uses, with the lines.
fn imports(file: &str, text: &str, files: &Files) -> Vec<(usize, String)> {
    let parent = file.rsplit_once('/').map_or("", |(parent, _)| parent);
    let mut found = Vec::new();
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let mut statement = String::new();
    for (number, line) in code.iter().enumerate() {
        // A `use` over several lines is one statement; everything else is looked at line by line.
        statement.push_str(line);
        if statement.trim_start().starts_with("use ") && !statement.contains(';') {
            continue;
        }
        let whole = std::mem::take(&mut statement);
        let trimmed = whole.trim_start();
        if trimmed.starts_with("pub use ") || trimmed.starts_with("pub(super) use ") {
            continue;
        }
        let mut add = |path: String| {
            let used = module(&path, files);
            if let Some(used) = used.filter(|used| used != file) {
                found.push((number + 1, used));
            }
        };
        for (root, base) in [("crate::", ""), ("super::super::", "../"), ("super::", "./")] {
            let base = match base {
                "./" => parent.to_owned(),
                "../" => parent.rsplit_once('/').map_or(String::new(), |(above, _)| above.to_owned()),
                _ => String::new(),
            };
            let starts = whole.match_indices(root).filter(|(at, _)| {
                let before = whole[..*at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
            });
            for (at, _) in starts {
                let rest = &whole[at + root.len()..];
                if root == "super::" && rest.starts_with("super::") {
                    continue;
                }
                heads(rest).into_iter().for_each(|path| add(join(&base, &path)));
            }
        }
        if let Some(rest) = trimmed.strip_prefix("use ") {
            // A child of this module.
            heads(rest).into_iter().filter(|path| files.contains_key(&join(file, first(path)))).for_each(|path| {
                add(join(file, &path));
            });
        }
    }
    found
}

/// Returns the paths that an import names, one for each head of a group: `{a::B, c}` gives `a/B` and `c`.
fn heads(rest: &str) -> Vec<String> {
    if let Some(group) = rest.strip_prefix('{') {
        let group = group.split('}').next().unwrap_or_default();
        return group.split(',').map(|path| plain(path.trim())).filter(|path| !path.is_empty()).collect();
    }
    vec![plain(rest)]
}

fn plain(path: &str) -> String {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
    path[..end].trim_end_matches(':').replace("::", "/")
}

fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

fn join(base: &str, path: &str) -> String {
    if base.is_empty() { path.to_owned() } else { format!("{base}/{path}") }
}

/// Returns the file that a path leads into: the longest beginning of it that is one.
fn module(path: &str, files: &Files) -> Option<String> {
    let mut name = path;
    loop {
        if files.contains_key(name) {
            return Some(name.to_owned());
        }
        name = name.rsplit_once('/')?.0;
    }
}
