//! The program `nomad-driver-pg-leader-proxy`: one executable, and the first argument says what this process is.

use std::env;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;

use nomad_driver_pg_leader_proxy::{about, exec, plugin, relay, supervisor};

/// The relay's sessions are many small objects of a few sizes, which this one packs closest, as in the program that
/// stands alone.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What a shell says of a command that was used wrongly.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (role, rest) = (arguments.next(), arguments.next());
    match (role.as_deref().map(OsStr::to_string_lossy).as_deref(), rest) {
        (None, _) => plugin::main(),
        (Some(supervisor::ROLE), Some(_)) => supervisor::supervise(),
        (Some(relay::ROLE), None) => relay::main(),
        (Some(exec::ROLE), None) => exec::enter(),
        (Some("--version" | "-V"), None) => say(&format!("{} {}\n", about::PROGRAM, about::VERSION)),
        (Some("--help" | "-h"), None) => say(&about::help()),
        (Some(other), _) => {
            let error = format!("{}: {other}: no such use; see --help\n", about::PROGRAM);
            // Whoever does not want to know has closed it.
            let _ = io::stderr().write_all(error.as_bytes());
            ExitCode::from(USAGE)
        }
    }
}

/// Says something to a person. A reader that is gone has read enough.
fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
