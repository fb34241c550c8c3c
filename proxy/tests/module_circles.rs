//! No two top-level modules of a crate import each other, directly or through others, in any crate of the workspace.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of one crate, and the modules that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_crate_imports_its_modules_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for member in members(&root.join("Cargo.toml")) {
        let circles = circles(&imports(&root.join(&member).join("src")));
        found.extend(circles.iter().map(|circle| format!("{member}: {}", circle.join(", "))));
    }
    assert!(found.is_empty(), "these modules import each other in a circle: {found:#?}");
}

#[test]
fn a_circle_is_found_however_the_import_is_written() {
    let circle = |a: &str, b: &str| {
        let mut imports = Imports::new();
        imports.insert("a".to_owned(), imported(a, 0));
        imports.insert("b".to_owned(), imported(b, 1));
        circles(&imports)
    };
    for a in
        ["use crate::b::B;", "use crate::{c::C, b::{self, B}};", "fn f() { crate::b::f() }", "use super::b;"]
    {
        assert_eq!(circle(a, "use super::super::a::A;"), [["a", "b"]], "{a}");
    }
    for a in ["// use crate::b::B;", "const B: &str = \"crate::b\";", "use crate::c::b;", "use b::B;"] {
        assert!(circle(a, "use crate::a::A;").is_empty(), "{a}");
    }
    for quotes in ["'\"'", "'\\''", "\"\\\"\"", "r#\"\"\"#", "&'a str"] {
        assert_eq!(circle(&format!("{quotes}; use crate::b;"), "use crate::a;"), [["a", "b"]], "{quotes}");
    }
    let longer = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
        .map(|(module, other)| (module.to_owned(), BTreeSet::from([other.to_owned()])));
    assert_eq!(circles(&longer.into()), [["a", "b", "c"]]);
}

/// The folders that the workspace names as its members.
fn members(manifest: &Path) -> Vec<String> {
    let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter();
    members.map(|member| member.as_str().unwrap().to_owned()).collect()
}

fn imports(src: &Path) -> Imports {
    let mut imports = Imports::new();
    for file in files(src) {
        let path = file.strip_prefix(src).unwrap().with_extension("");
        let names: Vec<&str> = path.iter().map(|name| name.to_str().unwrap()).collect();
        // The roots of a crate and of its programs may import anything.
        if matches!(names[..], ["lib" | "main"] | ["bin", ..]) {
            continue;
        }
        // `super` of `a.rs` and of `a/mod.rs` is the crate, that of `a/b.rs` is `a`.
        let depth = names.iter().filter(|name| **name != "mod").count() - 1;
        let text = fs::read_to_string(&file).unwrap();
        imports.entry(names[0].to_owned()).or_default().extend(imported(&text, depth));
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    for (module, others) in &mut imports {
        others.retain(|other| other != module && modules.contains(other));
    }
    imports
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().flat_map(|folder| self::files(folder))).collect()
}

/// The names that come right after the crate's root in `text`, which is `depth` modules below a top-level one.
fn imported(text: &str, depth: usize) -> BTreeSet<String> {
    let code = words(text);
    let above = ["super", "::"].repeat(depth + 1);
    let mut names = BTreeSet::new();
    for at in 0..code.len() {
        let rest = &code[at..];
        let after = match rest {
            ["crate", "::", after @ ..] => after,
            _ if rest.starts_with(&above) && (at == 0 || code[at - 1] != "::") => &rest[above.len()..],
            _ => continue,
        };
        if after.first() == Some(&"{") {
            names.extend(first_names(&after[1..]));
        } else {
            names.extend(after.first().map(|name| (*name).to_owned()));
        }
    }
    names
}

/// The first name of each path in the braces that `code` begins inside.
fn first_names(code: &[&str]) -> Vec<String> {
    let (mut open, mut begins, mut names) = (1, true, Vec::new());
    for word in code {
        match *word {
            "{" => open += 1,
            "}" => open -= 1,
            "," if open == 1 => begins = true,
            name if begins && open == 1 => {
                names.push(name.to_owned());
                begins = false;
            }
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    names
}

/// The words and signs of Rust code, without comments and without what stands in quotes.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let raw = words.last().is_some_and(|word| matches!(*word, "r" | "br"));
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if raw && rest.trim_start_matches('#').starts_with('"') {
            raw_string(rest)
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' {
            character(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            words.push(&rest[..length]);
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                words.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    words
}

/// The length of the string literal that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The length of the raw string literal that `text` begins with, after its `r`.
fn raw_string(text: &str) -> usize {
    let hashes = text.find('"').unwrap_or_default();
    let end = format!("\"{}", &text[..hashes]);
    text[hashes + 1..].find(&end).map_or(text.len(), |at| hashes + 1 + at + end.len())
}

/// The length of the character literal that `text` begins with; of a lifetime, that of its quote.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            text[escaped + 1..].find('\'').map_or(1, |at| escaped + 2 + at)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// Each set of modules of which every one imports every other, directly or through others.
fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let reached: Imports =
        imports.keys().map(|module| (module.clone(), reachable(module, imports))).collect();
    let circle = |module: &String| -> Vec<String> {
        let others = reached[module]
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(module)));
        others.cloned().collect()
    };
    let circles: BTreeSet<Vec<String>> =
        imports.keys().map(circle).filter(|circle| circle.len() > 1).collect();
    circles.into_iter().collect()
}

fn reachable(module: &str, imports: &Imports) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![module];
    while let Some(module) = next.pop() {
        for other in imports.get(module).into_iter().flatten() {
            if reached.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    reached
}
