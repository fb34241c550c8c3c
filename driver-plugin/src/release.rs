//! The command `release`: closes listening sockets that outlive their task, so that another program can listen there.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::runtime;

use crate::about;
use crate::plugin_config::PluginConfig;
use crate::supervisor::{Wanted, release};

/// The first argument.
pub const COMMAND: &str = "release";

/// The exit code for wrong usage, as in a shell.
const USAGE: u8 = 2;

/// Runs the command with the arguments that follow its name. The exit code is 1 when nothing was released, and 2 for
/// wrong usage.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (state_dir, wanted) = match arguments.as_slice() {
        [wanted] if !wanted.to_string_lossy().starts_with('-') => (PluginConfig::default().state_dir, wanted),
        [option, directory, wanted] if option == "--state-dir" => (PathBuf::from(directory), wanted),
        _ => {
            complain(&format!("usage: {} {COMMAND} [--state-dir DIRECTORY] ADDRESS|JOB", about::PROGRAM));
            return ExitCode::from(USAGE);
        }
    };
    match run(&state_dir, &Wanted::parse(&wanted.to_string_lossy())) {
        Ok(released) => {
            let _ = io::stdout().write_all(released.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(state_dir: &Path, wanted: &Wanted) -> Result<String, String> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let released = runtime.block_on(release(state_dir, wanted)).map_err(|error| error.to_string())?;
    Ok(released.iter().map(|sockets| format!("released {sockets}\n")).collect())
}

fn complain(problem: &dyn Display) {
    let _ = writeln!(io::stderr(), "{}: {problem}", about::PROGRAM);
}
