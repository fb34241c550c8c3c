//! `check`: everything that is wrong with a configuration, and on request with what it leads to.

use std::io::Write;

use super::Exit;
use crate::config::{Config, Origins};

/// Checks the configuration; with `connect` also what it leads to.
pub(super) fn check(
    origins: &Origins,
    _connect: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    match Config::load(origins) {
        Ok(_) => {
            writeln!(out, "configuration: ok")?;
            Ok(Exit::Fine)
        }
        Err(errors) => {
            for error in errors.iter() {
                writeln!(err, "{error}")?;
            }
            let count = errors.iter().count();
            writeln!(err, "configuration: {count} {}", if count == 1 { "error" } else { "errors" })?;
            Ok(Exit::Configuration)
        }
    }
}
