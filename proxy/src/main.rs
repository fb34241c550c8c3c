//! The program `pg-leader-proxy`.

use std::process::ExitCode;

/// Sessions are many small objects of a few sizes, which jemalloc packs most tightly; see `benches/EXPERIMENTS.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pg_leader_proxy::cli::main()
}
