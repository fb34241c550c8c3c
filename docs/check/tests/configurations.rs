//! Every configuration in the pages is one that the proxy takes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use docs::{Block, Treatment, book_and_readme};
use pg_leader_proxy::config::{Config, Origins};
use toml::{Table, Value};

/// What a fragment is merged into.
const MINIMAL: &str = r#"
[cluster]
scope = "main"
[etcd]
endpoints = ["http://10.0.0.1:2379"]
[probe]
user = "monitor"
"#;

/// Files that configurations name. Those of the test take their place.
const FILES: [&str; 2] = ["/etc/pg-leader-proxy/", "/etc/ssl/"];

#[test]
fn every_configuration_is_taken() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("file"), "secret\n").unwrap();
    let file = scratch.path().join("file").display().to_string();
    let mut checked = 0;
    for page in book_and_readme().unwrap() {
        for block in page.blocks().into_iter().filter(|block| block.language == "toml") {
            let text = with_files(&whole(&block), &file);
            let path = scratch.path().join("proxy.toml");
            std::fs::write(&path, &text).unwrap();
            let origins = Origins {
                file: Some(path),
                environment: BTreeMap::from([("PGLP_PROBE_PASSWORD".to_owned(), "secret".to_owned())]),
                ..Origins::default()
            };
            if let Err(errors) = Config::load(&origins) {
                panic!("{}:{}: {errors}\n{text}", page.path.display(), block.line);
            }
            checked += 1;
        }
    }
    assert!(checked > 1, "the pages have {checked} configurations");
}

/// The block itself, or for a fragment the minimal configuration with it merged in.
fn whole(block: &Block) -> String {
    match &block.treatment {
        Treatment::Whole => block.text.clone(),
        Treatment::Fragment(_) => {
            let mut table: Table = MINIMAL.parse().unwrap();
            merge(&mut table, block.text.parse().unwrap());
            table.to_string()
        }
        Treatment::NotRun(_) | Treatment::Background | Treatment::Output | Treatment::Unknown(_) => {
            panic!("a configuration is whole or a fragment, not {:?}", block.treatment)
        }
    }
}

fn merge(into: &mut Table, from: Table) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Table(known)), Value::Table(new)) => merge(known, new),
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

/// Text with every file that it names replaced by one that is there.
fn with_files(text: &str, file: &str) -> String {
    let quoted: Vec<String> = text
        .split('"')
        .map(|part| if FILES.iter().any(|directory| part.starts_with(directory)) { file } else { part })
        .map(str::to_owned)
        .collect();
    quoted.join("\"")
}
