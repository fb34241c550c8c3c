//! The program `nomad-driver-pg-leader-proxy`: one executable, and the first argument says what this process is.

use std::env;
use std::process::ExitCode;

use nomad_driver_pg_leader_proxy::{exec, relay, supervisor};

fn main() -> ExitCode {
    let role = env::args_os().nth(1);
    match role.as_deref().map(|role| role.to_string_lossy()).as_deref() {
        Some(supervisor::ROLE) => supervisor::supervise(),
        Some(relay::ROLE) => relay::main(),
        Some(exec::ROLE) => exec::enter(),
        _ => ExitCode::FAILURE,
    }
}
