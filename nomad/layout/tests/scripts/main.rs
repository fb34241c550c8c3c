//! The scripts that run inside the layout's containers: what each refuses, and with which sentence.
#![allow(clippy::unwrap_used, missing_docs)]

mod backup;
mod buckets;
mod convex;
mod firewall;
mod ready;
mod scene;
mod sentinel;
mod shellcheck;
