//! The stage: the hosts, the server, and the sizes of what happens on them.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::contenders::{Contender, Demand, Running};
use super::hosts::Network;
use super::postgres::{self, Postgres};
use super::standin;
use super::workshop::{Workshop, sessions_possible};

/// pgbench's tables: a million accounts, which fit into PostgreSQL's memory.
const SCALE: u32 = 10;
/// The same for `--quick`.
const QUICK_SCALE: u32 = 1;
/// What contenders have room for beyond the sessions of a case: our own questions, and sessions that are about to end.
const MORE_SESSIONS: usize = 50;

/// How much of everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Rounds: every case with every contender once in each.
    pub rounds: usize,
    /// The measured time of a load, in seconds.
    pub seconds: u32,
    /// Numbers of clients of the select-only load.
    pub clients: Vec<usize>,
    /// Clients that connect all the time, at once.
    pub connecting: usize,
    /// What a COPY moves, in megabytes.
    pub copy_megabytes: usize,
    /// Idle sessions on the real server.
    pub idle_real: usize,
    /// Idle sessions on the stand-in, and sessions to sever.
    pub idle_stand_in: usize,
    /// Clients to hold and release.
    pub held: usize,
    /// Numbers of sessions whose places are looked at.
    pub few: Vec<usize>,
    /// How often that is done.
    pub trials: usize,
    /// pgbench's scale.
    pub scale: u32,
}

impl Sizes {
    /// Those of a run whose figures are shown, as far as this machine allows.
    #[must_use]
    pub fn full() -> Self {
        Self {
            rounds: 5,
            seconds: 5,
            clients: vec![1, 16, 64, 256],
            connecting: 8,
            copy_megabytes: 2000,
            idle_real: 1000,
            idle_stand_in: sessions_possible(10_000),
            held: 2000,
            few: vec![2, 4, 8, 16],
            trials: 20,
            scale: SCALE,
        }
    }

    /// To see that everything works; its figures mean nothing.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            seconds: 1,
            clients: vec![1, 16],
            connecting: 4,
            copy_megabytes: 100,
            idle_real: 100,
            idle_stand_in: 500,
            held: 100,
            few: vec![2, 16],
            trials: 3,
            scale: QUICK_SCALE,
        }
    }
}

/// Everything but the contender of the moment.
#[derive(Debug)]
pub struct Stage {
    // Dropped before the workshop that it stands in.
    /// The real server.
    pub postgres: Postgres,
    /// Hosts, user and directory.
    pub workshop: Workshop,
    /// How much of everything.
    pub sizes: Sizes,
}

impl Stage {
    /// Makes hosts and server.
    ///
    /// # Errors
    /// When something is missing (the error says what to install), or does not start.
    pub fn set(network: Network, sizes: Sizes) -> Result<Self> {
        let workshop = Workshop::make(network)?;
        Ok(Self { postgres: Postgres::start(&workshop, sizes.scale)?, workshop, sizes })
    }

    /// What a case wants of a contender in front of the real server, or of the stand-in.
    #[must_use]
    pub fn demand(&self, leader: Leader, sessions: usize) -> Demand {
        let hosts = &self.workshop.hosts;
        let port = match leader {
            Leader::Real => postgres::PORT,
            Leader::StandIn => standin::PORT,
        };
        Demand {
            server: hosts.server_address(port),
            direct: hosts.direct_address(port),
            sessions: sessions + MORE_SESSIONS,
            check: None,
            wait: true,
        }
    }

    /// Starts a contender in front of the real server.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, contender: &Contender, sessions: usize) -> Result<Running> {
        contender.start(&self.workshop, &self.demand(Leader::Real, sessions))
    }
}

/// Which server is behind the contenders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// PostgreSQL.
    Real,
    /// The stand-in.
    StandIn,
}

impl Leader {
    /// Its name in the results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Real => "PostgreSQL",
            Self::StandIn => "stand-in",
        }
    }
}
