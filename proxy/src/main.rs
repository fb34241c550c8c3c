//! The program `pg-leader-proxy`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pg_leader_proxy::cli::main()
}
