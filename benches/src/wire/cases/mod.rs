//! The cases: what is measured, and with which setups.

mod balance;
mod bulk;
mod connect;
mod copy;
mod hold;
mod memory;
mod select;
mod terminate;

use anyhow::Result;
use clap::ValueEnum;

use super::environment::{Environment, ServerKind, Sizes};
use super::results::Figures;
use super::setups::{Setup, SetupKind};

pub(crate) use self::hold::held;

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
    /// The end of all sessions when the server stops being the leader.
    Terminate,
    /// Clients that wait for a leader, and how they are released.
    Hold,
    /// How few sessions are spread over threads.
    Balance,
    /// A session that asks little beside endless streams.
    Bulk,
}

impl Scenario {
    /// All, in the order in which they are run and shown.
    pub const ALL: [Self; 8] = [
        Self::Select,
        Self::Connect,
        Self::Copy,
        Self::Memory,
        Self::Terminate,
        Self::Hold,
        Self::Balance,
        Self::Bulk,
    ];

    /// Its name in the results and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Connect => "connect",
            Self::Copy => "copy",
            Self::Memory => "memory",
            Self::Terminate => "terminate",
            Self::Hold => "hold",
            Self::Balance => "balance",
            Self::Bulk => "bulk",
        }
    }

    /// Its cases at these sizes.
    pub(crate) fn cases(self, sizes: &Sizes) -> Vec<Case> {
        let servers = [ServerKind::Postgres, ServerKind::Mock];
        match self {
            Self::Select => sizes.clients.iter().map(|clients| Case::Select { clients: *clients }).collect(),
            Self::Connect => [false, true].map(|tls| Case::Connect { tls }).to_vec(),
            Self::Copy => copy::Kind::ALL.map(Case::Copy).to_vec(),
            Self::Memory => vec![
                Case::Memory { sessions: sizes.idle_postgres, server: ServerKind::Postgres },
                Case::Memory { sessions: sizes.idle_mock, server: ServerKind::Mock },
            ],
            Self::Terminate => vec![Case::Terminate { sessions: sizes.idle_mock }],
            Self::Hold => servers.map(|server| Case::Hold { clients: sizes.hold_clients, server }).to_vec(),
            Self::Balance => {
                sizes.balance_sessions.iter().map(|sessions| Case::Balance { sessions: *sessions }).collect()
            }
            Self::Bulk => vec![Case::Bulk],
        }
    }
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Select { clients: usize },
    Connect { tls: bool },
    Copy(copy::Kind),
    Memory { sessions: usize, server: ServerKind },
    Terminate { sessions: usize },
    Hold { clients: usize, server: ServerKind },
    Balance { sessions: usize },
    Bulk,
}

impl Case {
    pub(crate) fn scenario(self) -> Scenario {
        match self {
            Self::Select { .. } => Scenario::Select,
            Self::Connect { .. } => Scenario::Connect,
            Self::Copy(_) => Scenario::Copy,
            Self::Memory { .. } => Scenario::Memory,
            Self::Terminate { .. } => Scenario::Terminate,
            Self::Hold { .. } => Scenario::Hold,
            Self::Balance { .. } => Scenario::Balance,
            Self::Bulk => Scenario::Bulk,
        }
    }

    /// Its name within its scenario.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Select { clients: 1 } => "1 client".to_owned(),
            Self::Select { clients } => format!("{clients} clients"),
            Self::Connect { tls: false } => "TLS off".to_owned(),
            Self::Connect { tls: true } => "TLS passed through".to_owned(),
            Self::Copy(kind) => kind.name().to_owned(),
            Self::Memory { sessions, server } => format!("{sessions} on {}", server.name()),
            Self::Hold { clients, server } => format!("{clients} for {}", server.name()),
            Self::Bulk => format!("one session beside {0} streams out and {0} in", bulk::STREAMS),
            Self::Terminate { sessions } | Self::Balance { sessions } => format!("{sessions} sessions"),
        }
    }

    /// Whether a setup of this kind can take part.
    pub(crate) fn applies_to(self, kind: SetupKind) -> bool {
        let splices = kind == SetupKind::HaproxySplice;
        match self {
            Self::Select { .. } | Self::Connect { tls: false } => !splices,
            // PgBouncer ends TLS itself, which is different work.
            Self::Connect { tls: true } => !splices && !kind.is_pgbouncer(),
            Self::Copy(_) => true,
            Self::Memory { .. } => !splices && kind != SetupKind::Direct,
            // The others cannot be told that the server has stopped being the leader.
            Self::Terminate { .. } => {
                !matches!(kind, SetupKind::Direct | SetupKind::LowerBound | SetupKind::HaproxySplice)
            }
            // HAProxy and the epoll loop do not hold clients. Direct clients start when there is a leader, all at once.
            Self::Hold { .. } => {
                matches!(kind, SetupKind::Direct | SetupKind::PgLeaderProxy) || kind.is_pgbouncer()
            }
            // The others have one thread.
            Self::Balance { .. } => {
                matches!(kind, SetupKind::Haproxy | SetupKind::HaproxyNew | SetupKind::PgLeaderProxy)
            }
            // PgBouncer follows the protocol, and the mock server's streams have none of it but their messages.
            Self::Bulk => !splices && !kind.is_pgbouncer(),
        }
    }

    /// Measures one setup.
    pub(crate) fn measure(self, environment: &mut Environment, setup: &Setup) -> Result<Figures> {
        match self {
            Self::Select { clients } => select::measure(environment, setup, clients),
            Self::Connect { tls } => connect::measure(environment, setup, tls),
            Self::Copy(kind) => copy::measure(environment, setup, kind),
            Self::Memory { sessions, server } => memory::measure(environment, setup, (sessions, server)),
            Self::Terminate { sessions } => terminate::measure(environment, setup, sessions),
            Self::Hold { clients, server } => hold::measure(environment, setup, (clients, server)),
            Self::Balance { sessions } => balance::measure(environment, setup, sessions),
            Self::Bulk => bulk::measure(environment, setup),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_cases_and_this_project_takes_part_in_each() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.to_possible_value().unwrap().get_name(), scenario.name());
            let cases = scenario.cases(&Sizes::full());
            assert!(!cases.is_empty());
            for case in cases {
                assert_eq!(case.scenario(), scenario);
                assert!(case.applies_to(SetupKind::PgLeaderProxy), "{}", case.name());
            }
        }
    }
}
