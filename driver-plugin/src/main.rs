//! The program `nomad-driver-pg-leader-proxy`: one executable, whose first argument says which role the process has, or
//! which command it runs.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;

use nomad_driver_pg_leader_proxy::{about, exec, plugin, release, roles, runner, supervisor};

/// The same allocator as in the proxy's own program: it packs the many small objects of sessions closest.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code for wrong usage, as in a shell.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (first, second) = (arguments.next(), arguments.next());
    match (first.as_deref().map(OsStr::to_string_lossy).as_deref(), second) {
        (None, _) => plugin::main(),
        (Some(roles::SUPERVISOR), Some(_)) => supervisor::main(),
        (Some(roles::PROXY), None) => runner::main(),
        (Some(roles::EXEC_SHIM), None) => exec::shim(),
        (Some(release::COMMAND), _) => release::main(env::args_os().skip(2)),
        (Some("--version" | "-V"), None) => print(&format!("{} {}\n", about::PROGRAM, about::VERSION)),
        (Some("--help" | "-h"), None) => print(&about::help()),
        (Some(other), _) => {
            let error = format!("{}: unknown argument `{other}`; see --help\n", about::PROGRAM);
            let _ = io::stderr().write_all(error.as_bytes());
            ExitCode::from(USAGE)
        }
    }
}

/// Prints to standard output. A reader that has closed it is no error.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
