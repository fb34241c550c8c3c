//! Everything except the setup of the moment: sandbox, server, and the sizes of the cases.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::hosts::Network;
use super::mock_server;
use super::postgres::{self, Postgres};
use super::sandbox::{Sandbox, sessions_possible};
use super::setups::{RunningSetup, Setup, StartOptions};

/// The scale of pgbench's tables: a million accounts, which fit into PostgreSQL's memory.
const SCALE: u32 = 10;
/// The same for `--quick`.
const QUICK_SCALE: u32 = 1;
/// Sessions that setups have room for in addition to those of a case: queries of the benchmark, and sessions that are
/// ending.
const MORE_SESSIONS: usize = 50;

/// The sizes of the cases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Rounds: each measures every case with every setup once.
    pub rounds: usize,
    /// How long a load is measured, in seconds.
    pub seconds: u32,
    /// The numbers of clients of the select-only load.
    pub clients: Vec<usize>,
    /// Clients that connect at the same time.
    pub(crate) connect_clients: usize,
    /// The size of a COPY, in megabytes.
    pub(crate) copy_megabytes: usize,
    /// Idle sessions on PostgreSQL.
    pub(crate) idle_postgres: usize,
    /// Idle sessions on the mock server, and sessions to terminate.
    pub(crate) idle_mock: usize,
    /// Clients to hold and release.
    pub(crate) hold_clients: usize,
    /// The numbers of sessions whose threads are found out.
    pub(crate) balance_sessions: Vec<usize>,
    /// How often that is done.
    pub(crate) balance_trials: usize,
    /// How long a session asks beside endless streams, in seconds.
    #[serde(default)]
    pub(crate) bulk_seconds: u32,
    /// pgbench's scale.
    pub(crate) scale: u32,
}

impl Sizes {
    /// Those of an ordinary run, as far as this machine allows.
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: 5,
            seconds: 5,
            clients: vec![1, 16, 64, 256],
            connect_clients: 8,
            copy_megabytes: 2000,
            idle_postgres: 1000,
            idle_mock: sessions_possible(10_000),
            hold_clients: 2000,
            balance_sessions: vec![2, 4, 8, 16],
            balance_trials: 20,
            bulk_seconds: 60,
            scale: SCALE,
        }
    }

    /// To see that everything works. The figures mean nothing.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            seconds: 1,
            clients: vec![1, 16],
            connect_clients: 4,
            copy_megabytes: 100,
            idle_postgres: 100,
            idle_mock: 500,
            hold_clients: 100,
            balance_sessions: vec![2, 16],
            balance_trials: 3,
            bulk_seconds: 3,
            scale: QUICK_SCALE,
        }
    }
}

/// Sandbox, server and sizes.
#[derive(Debug)]
pub(crate) struct Environment {
    // Dropped before the sandbox that it runs in.
    pub(crate) postgres: Postgres,
    pub(crate) sandbox: Sandbox,
    pub(crate) sizes: Sizes,
}

impl Environment {
    /// Makes the hosts and starts the server.
    pub(crate) fn start(network: Network, sizes: Sizes) -> Result<Self> {
        let sandbox = Sandbox::make(network)?;
        Ok(Self { postgres: Postgres::start(&sandbox, sizes.scale)?, sandbox, sizes })
    }

    /// The options for a setup in front of a server.
    pub(crate) fn options(&self, server: ServerKind, sessions: usize) -> StartOptions {
        let hosts = &self.sandbox.hosts;
        let port = match server {
            ServerKind::Postgres => postgres::PORT,
            ServerKind::Mock => mock_server::PORT,
        };
        StartOptions {
            server: hosts.server_address(port),
            direct: hosts.direct_address(port),
            sessions: sessions + MORE_SESSIONS,
            check: None,
            has_leader: true,
            one_thread: false,
        }
    }

    /// Starts a setup in front of PostgreSQL.
    pub(crate) fn start_setup(&self, setup: &Setup, sessions: usize) -> Result<RunningSetup> {
        setup.start(&self.sandbox, &self.options(ServerKind::Postgres, sessions))
    }
}

/// Which server is behind the setups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// PostgreSQL.
    Postgres,
    /// The mock server.
    Mock,
}

impl ServerKind {
    /// Its name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mock => "mock server",
        }
    }
}
