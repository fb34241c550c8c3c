//! The command line: `run`, `check`, `import`, the commands for a running proxy, and what packages carry of it.

mod arguments;
mod check;
mod exit;
mod http;
mod import;
mod operate;
mod pages;
mod report;
mod run;
mod running;
mod status;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::ExitCode;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::explain_unknown_flag;

pub use arguments::{command, origins};
pub use exit::Exit;
use exit::is_broken_pipe;

/// What the program was started with.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The command line, the program's name first.
    pub arguments: Vec<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The variables of the environment whose value is not Unicode.
    pub not_unicode: BTreeSet<String>,
}

impl Start {
    /// What this process was started with. A variable whose name is not Unicode cannot be a setting.
    fn of_this_process() -> Self {
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let mut start = Self { arguments, ..Self::default() };
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => drop(start.environment.insert(name, value)),
                (Ok(name), Err(_)) => drop(start.not_unicode.insert(name)),
                (Err(_), _) => {}
            }
        }
        start
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let exit = answer(&Start::of_this_process(), &mut out, &mut err);
    ExitCode::from(exit.code())
}

/// Does what the command line asks for. Output goes to `out`, errors go to `err`.
pub fn answer(start: &Start, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let done = match command().try_get_matches_from(&start.arguments) {
        Ok(matches) => dispatch(start, &matches, out, err),
        Err(error) => explain(&error, out, err).map_err(anyhow::Error::from),
    };
    match done {
        Ok(exit) => exit,
        // The reader of the output has closed it: `pg-leader-proxy status | head`.
        Err(error) if is_broken_pipe(&error) => Exit::Success,
        Err(error) => {
            // If even the error cannot be written, the exit code still tells.
            let _ = writeln!(err, "pg-leader-proxy: {error:#}");
            Exit::Failure
        }
    }
}

fn dispatch(
    start: &Start,
    matches: &ArgMatches,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    match matches.subcommand() {
        Some(("run", matches)) => run::run(origins(matches, start)),
        Some(("check", matches)) => {
            let origins = origins(matches, start);
            check::check(&origins, matches.get_flag("connect"), out, err)
        }
        Some(("import", matches)) => import::run(matches, out, err),
        Some(("status", matches)) => status::status(start, matches, out, err),
        Some(("failovers", matches)) => status::failovers(start, matches, out, err),
        Some(("completions", matches)) => pages::completions(matches, out),
        Some(("man", matches)) => pages::man(matches),
        Some(("document", _)) => {
            out.write_all(crate::config::document().as_bytes())?;
            Ok(Exit::Success)
        }
        Some((name, matches)) => operate::operate(name, start, matches, (out, err)),
        None => Ok(Exit::Usage),
    }
}

/// Help and version are output; everything else that clap reports is a wrong command line.
fn explain(error: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let text = error.render();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        write!(out, "{text}")?;
        return Ok(Exit::Success);
    }
    write!(err, "{text}")?;
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && let Some(hint) = explain_unknown_flag(flag)
    {
        writeln!(err, "\n{hint}")?;
    }
    Ok(Exit::Usage)
}
