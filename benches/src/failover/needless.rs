//! Sessions that end although their leader keeps its role, by the way they connect to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use lab::{Cluster, ClusterOptions, HarmlessFault, Session};
use serde::{Deserialize, Serialize};

use super::setups::{RunningSetups, Setup, writers};
use super::{MAX_CONNECTIONS, Trials, programs};
use crate::chart::{Panel, Scale};
use crate::machine::Machine;
use crate::output::Results;
use crate::table::Table;

/// Sessions of each setup that are open when a fault begins.
const SESSIONS: usize = 10;
/// How long a fault lasts: longer than the proxy trusts the leader's last answer (5 s), shorter than the lease (20 s).
const LASTING: Duration = Duration::from_secs(7);
/// For one login, and for one answer of a session after the fault.
const ANSWER: Duration = Duration::from_secs(15);
/// For a setup to serve before a fault. The recommended check needs up to nine seconds to find a server again.
const SETTLE: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(100);

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    machine: Machine,
    setups: Vec<String>,
    sessions: usize,
    lasting_ms: u64,
    proxy_settings: Vec<String>,
    faults: Vec<Fault>,
}

/// One fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fault {
    /// Counted from 1.
    round: usize,
    name: String,
    /// The sessions that had ended when it was over, by setup.
    ended: BTreeMap<String, usize>,
}

/// Runs every fault in every round, and prints each.
pub(super) async fn run(trials: &Trials, out: &mut impl Write) -> Result<()> {
    writeln!(out, "Starting the cluster and {} setups …", trials.setups.len())?;
    // With links, because one of the faults is that connections are refused.
    let options = ClusterOptions { max_connections: MAX_CONNECTIONS, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).await?;
    let running = RunningSetups::start(&cluster, &trials.setups, &trials.proxy_settings).await?;
    let mut run = Run {
        machine: Machine::describe(programs(&cluster).await?),
        setups: trials.setups.iter().map(|setup| setup.name().to_owned()).collect(),
        sessions: SESSIONS,
        lasting_ms: u64::try_from(LASTING.as_millis())?,
        proxy_settings: trials.proxy_settings.clone(),
        faults: Vec::new(),
    };
    for round in 1..=trials.rounds {
        for fault in HarmlessFault::ALL {
            let ended = ended_by(&cluster, &running, fault).await?;
            writeln!(out, "{round}. {}: ended {ended:?}", fault.name())?;
            out.flush()?;
            run.faults.push(Fault { round, name: fault.name().to_owned(), ended });
            trials.output.save(&run)?;
        }
    }
    trials.output.publish(&run, out)
}

async fn ended_by(
    cluster: &Cluster,
    running: &RunningSetups,
    fault: HarmlessFault,
) -> Result<BTreeMap<String, usize>> {
    let mut open = Vec::new();
    for setup in &running.setups {
        open.push((*setup, open_sessions(cluster, *setup).await?));
    }
    cluster.harmless_fault(fault, LASTING).await?;
    let counts = open.iter().map(async |(setup, sessions)| {
        let alive = join_all(sessions.iter().map(works)).await;
        (setup.name().to_owned(), alive.iter().filter(|alive| !**alive).count())
    });
    Ok(join_all(counts).await.into_iter().collect())
}

async fn open_sessions(cluster: &Cluster, setup: Setup) -> Result<Vec<Session>> {
    let config = writers(cluster, setup)?.config;
    let deadline = Instant::now() + SETTLE;
    let mut sessions = Vec::new();
    while sessions.len() < SESSIONS {
        match Session::open_within(&config, ANSWER).await {
            Ok(session) => sessions.push(session),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("opening a session through {}", setup.name()));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
    Ok(sessions)
}

async fn works(session: &Session) -> bool {
    tokio::time::timeout(ANSWER, session.batch_execute("select 1")).await.is_ok_and(|done| done.is_ok())
}

impl Run {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for fault in &self.faults {
            if !names.contains(&&*fault.name) {
                names.push(&fault.name);
            }
        }
        names
    }

    /// The sessions of a setup that ended, in the rounds of one fault or of all, and how many there were.
    fn ended(&self, setup: &str, fault: Option<&str>) -> (usize, usize) {
        let rounds = self.faults.iter().filter(|one| fault.is_none_or(|name| one.name == name));
        let counts: Vec<usize> = rounds.filter_map(|one| one.ended.get(setup).copied()).collect();
        (counts.iter().sum(), counts.len() * self.sessions)
    }
}

impl Results for Run {
    fn page(&self) -> String {
        let mut page = format!(
            "# Sessions ended without need: latest run\n\n[Method and meaning](../README.md#needless), [raw \
             data](needless.json).\n\n{} Each fault lasts {} s; {} sessions of each setup are open when it begins.",
            self.machine,
            self.lasting_ms / 1000,
            self.sessions
        );
        if !self.proxy_settings.is_empty() {
            let _ = write!(page, " An experiment: the proxy ran with {}.", self.proxy_settings.join(", "));
        }
        let setups: Vec<&str> = self.setups.iter().map(String::as_str).collect();
        let mut table = Table::new(&[&["the leader keeps its role, but"], &*setups].concat());
        for name in self.names().into_iter().map(Some).chain([None]) {
            let cells = setups.iter().map(|setup| {
                let (ended, of) = self.ended(setup, name);
                format!("{ended} of {of}")
            });
            table.push([name.unwrap_or("all").to_owned()].into_iter().chain(cells).collect());
        }
        let _ = write!(page, "\n\nSessions that had ended when the fault was over:\n\n{table}");
        page + "\n![Every fault as a dot](needless.svg)\n"
    }

    fn panels(&self) -> Vec<Panel> {
        let rows: Vec<&str> = self.setups.iter().map(String::as_str).collect();
        let title = format!("Sessions ended without need, of {}", self.sessions);
        let mut panel = Panel::new(&title, Scale::Linear, &rows, &["one fault"]);
        for (row, setup) in rows.iter().enumerate() {
            for ended in self.faults.iter().filter_map(|fault| fault.ended.get(*setup)) {
                panel.dot(row, 0, *ended as f64, false);
            }
        }
        vec![panel]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_sessions_are_counted_over_rounds_and_faults() {
        let fault = |round, name: &str, ended| Fault {
            round,
            name: name.to_owned(),
            ended: [("x".to_owned(), ended)].into(),
        };
        let run = Run {
            machine: Machine::default(),
            setups: vec!["x".to_owned()],
            sessions: 10,
            lasting_ms: 7000,
            proxy_settings: Vec::new(),
            faults: vec![fault(1, "silent", 10), fault(1, "denied", 0), fault(2, "silent", 3)],
        };
        assert_eq!(run.ended("x", Some("silent")), (13, 20));
        assert_eq!(run.ended("x", None), (13, 30));
        let page = run.page();
        assert!(page.contains("13 of 20") && page.contains("0 of 10") && page.contains("13 of 30"), "{page}");
    }
}
