//! The cases: what is measured, of whom, and in which order.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::ValueEnum;

use super::contenders::{Contender, Kind};
use super::stage::{Leader, Sizes, Stage};
use super::{balance, connect, copy, hold, memory, select, sever};

/// Figures by name, each in the unit that its name ends with.
pub type Figures = BTreeMap<String, f64>;

/// A kind of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Short read transactions over open sessions.
    Select,
    /// Clients that connect, log in and leave.
    Connect,
    /// Much data in one direction.
    Copy,
    /// Memory of idle sessions.
    Memory,
    /// The end of all sessions when the server no longer leads.
    Sever,
    /// Clients that wait for a leader, and how they are let in.
    Hold,
    /// On which threads few sessions lie.
    Balance,
}

impl Scenario {
    /// All, in the order in which they are run and shown.
    pub const ALL: [Self; 7] =
        [Self::Select, Self::Connect, Self::Copy, Self::Memory, Self::Sever, Self::Hold, Self::Balance];

    /// Its name in the results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Connect => "connect",
            Self::Copy => "copy",
            Self::Memory => "memory",
            Self::Sever => "sever",
            Self::Hold => "hold",
            Self::Balance => "balance",
        }
    }

    /// Its cases at these sizes.
    #[must_use]
    pub fn cases(self, sizes: &Sizes) -> Vec<Case> {
        match self {
            Self::Select => sizes.clients.iter().map(|clients| Case::Select { clients: *clients }).collect(),
            Self::Connect => [false, true].map(|tls| Case::Connect { tls }).to_vec(),
            Self::Copy => copy::Way::ALL.map(Case::Copy).to_vec(),
            Self::Memory => vec![
                Case::Memory { sessions: sizes.idle_real, leader: Leader::Real },
                Case::Memory { sessions: sizes.idle_stand_in, leader: Leader::StandIn },
            ],
            Self::Sever => vec![Case::Sever { sessions: sizes.idle_stand_in }],
            Self::Hold => [Leader::Real, Leader::StandIn]
                .map(|leader| Case::Hold { clients: sizes.held, leader })
                .to_vec(),
            Self::Balance => sizes.few.iter().map(|sessions| Case::Balance { sessions: *sessions }).collect(),
        }
    }
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Short read transactions.
    Select {
        /// Clients at once.
        clients: usize,
    },
    /// Clients that connect and leave.
    Connect {
        /// Whether they ask for TLS.
        tls: bool,
    },
    /// Much data.
    Copy(copy::Way),
    /// Idle sessions.
    Memory {
        /// How many.
        sessions: usize,
        /// On which server.
        leader: Leader,
    },
    /// Sessions to sever.
    Sever {
        /// How many.
        sessions: usize,
    },
    /// Clients that wait.
    Hold {
        /// How many.
        clients: usize,
        /// For which server.
        leader: Leader,
    },
    /// Few sessions.
    Balance {
        /// How many.
        sessions: usize,
    },
}

impl Case {
    /// What kind of case it is.
    #[must_use]
    pub fn scenario(self) -> Scenario {
        match self {
            Self::Select { .. } => Scenario::Select,
            Self::Connect { .. } => Scenario::Connect,
            Self::Copy(_) => Scenario::Copy,
            Self::Memory { .. } => Scenario::Memory,
            Self::Sever { .. } => Scenario::Sever,
            Self::Hold { .. } => Scenario::Hold,
            Self::Balance { .. } => Scenario::Balance,
        }
    }

    /// Its name within its scenario.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Select { clients: 1 } => "1 client".to_owned(),
            Self::Select { clients } => format!("{clients} clients"),
            Self::Connect { tls: false } => "TLS off".to_owned(),
            Self::Connect { tls: true } => "TLS passed through".to_owned(),
            Self::Copy(way) => way.name().to_owned(),
            Self::Memory { sessions, leader } => format!("{sessions} on {}", leader.name()),
            Self::Hold { clients, leader } => format!("{clients} for {}", leader.name()),
            Self::Sever { sessions } | Self::Balance { sessions } => format!("{sessions} sessions"),
        }
    }

    /// Whether such a contender can take part.
    #[must_use]
    pub fn takes(self, kind: Kind) -> bool {
        let splices = kind == Kind::HaproxySplice;
        match self {
            Self::Select { .. } | Self::Connect { tls: false } => !splices,
            // PgBouncer ends TLS itself, which is other work.
            Self::Connect { tls: true } => !splices && !kind.is_pgbouncer(),
            Self::Copy(_) => true,
            Self::Memory { .. } => !splices && kind != Kind::Direct,
            // The others have nobody who could tell them.
            Self::Sever { .. } => !matches!(kind, Kind::Direct | Kind::Floor | Kind::HaproxySplice),
            // HAProxy and the floor let nobody wait. Direct clients begin when the server leads, all at once.
            Self::Hold { .. } => matches!(kind, Kind::Direct | Kind::PgLeaderProxy) || kind.is_pgbouncer(),
            // The others have one thread.
            Self::Balance { .. } => matches!(kind, Kind::Haproxy | Kind::HaproxyNew | Kind::PgLeaderProxy),
        }
    }

    /// Measures one contender.
    ///
    /// # Errors
    /// When the contender, the server or the load fails.
    pub fn measure(self, stage: &mut Stage, contender: &Contender) -> Result<Figures> {
        let figures: Vec<(&str, f64)> = match self {
            Self::Select { clients } => select::measure(stage, contender, clients)?,
            Self::Connect { tls } => connect::measure(stage, contender, tls)?,
            Self::Copy(way) => copy::measure(stage, contender, way)?,
            Self::Memory { sessions, leader } => memory::measure(stage, contender, (sessions, leader))?,
            Self::Sever { sessions } => sever::measure(stage, contender, sessions)?,
            Self::Hold { clients, leader } => hold::measure(stage, contender, (clients, leader))?,
            Self::Balance { sessions } => balance::measure(stage, contender, sessions)?,
        };
        Ok(figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_cases_of_its_own_and_ours_is_in_each() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.to_possible_value().unwrap().get_name(), scenario.name());
            let cases = scenario.cases(&Sizes::full());
            assert!(!cases.is_empty());
            for case in cases {
                assert_eq!(case.scenario(), scenario);
                assert!(case.takes(Kind::PgLeaderProxy), "{}", case.name());
            }
        }
    }
}
