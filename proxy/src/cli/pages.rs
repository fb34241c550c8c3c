//! `completions` and `man`: what a package carries beside the program, from the same definitions as the command line.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ArgMatches;
use clap_complete::{Shell, generate};

use super::arguments::command;
use super::exit::Exit;

/// Prints the completions for one shell.
pub(super) fn completions(matches: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let shell: Shell = *matches.get_one("shell").context("SHELL is missing")?;
    let mut command = command();
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    generate(shell, &mut command, name, &mut text);
    out.write_all(&text)?;
    Ok(Exit::Success)
}

/// Writes a manual page for the program and one for each subcommand that the help shows.
pub(super) fn man(matches: &ArgMatches) -> anyhow::Result<Exit> {
    let directory: &PathBuf = matches.get_one("directory").context("DIRECTORY is missing")?;
    clap_mangen::generate_to(command(), directory)
        .with_context(|| format!("cannot write manual pages into {}", directory.display()))?;
    Ok(Exit::Success)
}
