//! The program `nomad-driver-pg-leader-proxy`.

fn main() {}
