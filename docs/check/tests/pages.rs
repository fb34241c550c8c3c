//! What holds for all pages: links lead somewhere, the book has each page, every code block is tested as something.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use docs::{Page, Treatment, book_and_readme, broken_links, every_page, made, rewrite};

/// Languages of code blocks, each with what is done with it.
const LANGUAGES: [&str; 11] = [
    "toml", // checked as a configuration: tests/configurations.rs
    "hcl",  // parsed by Nomad: driver-plugin/conformance/docs_test.go
    "sh",   // run, unless a comment says why not: tests/commands.rs
    "sql",  // the same
    "python", "go", "java", "js",   // connection strings: clients/tests/connection_strings.rs
    "text", // what a program prints; compared where a comment says "output"
    "ini", "haproxy", // configurations of other programs: nothing of ours could check them
];

#[test]
fn every_link_leads_somewhere() {
    let broken = broken_links(&every_page().unwrap());
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn the_book_has_every_page_once() {
    let summary = Page::read("docs/src/SUMMARY.md").unwrap();
    let listed: Vec<&str> =
        summary.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let pages = every_page().unwrap();
    let there: BTreeSet<String> = pages
        .iter()
        .filter_map(|page| page.path.strip_prefix("docs/src").ok())
        .filter(|path| *path != Path::new("SUMMARY.md"))
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(listed.len(), there.len(), "{listed:?}\n{there:?}");
    assert_eq!(listed.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), there);
}

#[test]
fn every_code_block_is_tested_as_something() {
    for page in book_and_readme().unwrap() {
        for block in page.blocks() {
            let place = format!("{}:{}", page.path.display(), block.line);
            assert!(LANGUAGES.contains(&block.language.as_str()), "{place}: language {:?}", block.language);
            assert!(!matches!(block.treatment, Treatment::Unknown(_)), "{place}: {:?}", block.treatment);
        }
    }
}

#[test]
fn what_is_made_from_the_code_is_up_to_date() {
    for (page, name, part) in made() {
        let Page { text, .. } = Page::read(page).unwrap();
        assert_eq!(rewrite(&text, name, &part).unwrap(), text, "{page}: run `cargo run -p docs`");
    }
}

#[test]
fn the_readme_stays_short() {
    let readme = Page::read("README.md").unwrap();
    assert!(readme.text.lines().count() <= 120, "{} lines", readme.text.lines().count());
}

#[test]
fn the_book_can_be_built() {
    let book = docs::build().unwrap();
    let page = std::fs::read_to_string(book.join("explanation/safety.html")).unwrap();
    assert!(page.contains("What is not promised"));
}
