//! Every shell script of the folder passes shellcheck.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::folder;

/// Files whose first line names a shell.
fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scripts(&path, found);
        } else if fs::read(&path).is_ok_and(|text| {
            let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            first.starts_with(b"#!") && first.ends_with(b"sh")
        }) {
            found.push(path);
        }
    }
}

#[test]
fn every_script_passes_shellcheck() {
    let mut found = Vec::new();
    scripts(&folder(), &mut found);
    assert!(found.len() >= 9, "only {found:?}");
    let output =
        Command::new("shellcheck").args(&found).output().expect("shellcheck: run nomad/tests/install");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
