//! `import`: a configuration made from that of HAProxy, PgBouncer or patroni_proxy.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ArgMatches;

use super::exit::Exit;
use crate::import::{Kind, MAX_BYTES, import};

/// Writes what came of the file to `out` or into a new file, and what could not be carried over to `err`.
pub(super) fn run(matches: &ArgMatches, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Exit> {
    let path: &PathBuf = matches.get_one("file").context("FILE is missing")?;
    let (name, text) = read(path)?;
    let forced = matches.get_one::<String>("from");
    let forced =
        forced.and_then(|word| Kind::ALL.iter().find(|(known, _)| known == word)).map(|(_, kind)| *kind);
    let Some(kind) = forced.or_else(|| Kind::guess(&text)) else {
        writeln!(
            err,
            "{name}: neither an haproxy.cfg nor a pgbouncer.ini nor the YAML of patroni_proxy; `--from` says which"
        )?;
        return Ok(Exit::Configuration);
    };
    let imported = match import(kind, &text) {
        Ok(imported) => imported,
        Err(error) => {
            writeln!(err, "{name}: {error}")?;
            return Ok(Exit::Configuration);
        }
    };
    let toml = imported.toml(&name);
    match matches.get_one::<PathBuf>("output") {
        None => out.write_all(toml.as_bytes())?,
        Some(path) => {
            let file = File::create_new(path);
            let written = file.and_then(|mut file| file.write_all(toml.as_bytes()));
            written.with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    for loss in imported.losses(&name) {
        writeln!(err, "{loss}")?;
    }
    Ok(Exit::Success)
}

/// The name and the text of the source; `-` is the standard input. Comments may be in any encoding.
fn read(path: &Path) -> anyhow::Result<(String, String)> {
    // One byte more than is allowed, so that it is seen to be too much.
    let limit = MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().take(limit).read_to_end(&mut bytes).context("cannot read the standard input")?;
        return Ok(("stdin".to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.with_context(|| format!("{} cannot be read", path.display()))?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}
