//! How soon waiting clients are served when most of those that wait have given up and left their connections open.

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{
    APP, Cluster, ClusterOptions, DATABASE, LeftRecovery, NewClient, NewClients, Proxy, left_recovery,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::evaluate::ms_between;
use super::setups::{RunningSetups, Setup, new_clients};
use super::{RESPONSE, Trials, programs};
use crate::chart::{Panel, Scale};
use crate::machine::Machine;
use crate::output::Results;
use crate::statistics::{NEVER, format_ms, spread};
use crate::table::Table;
use crate::usage::CpuSampler;
use crate::wire::{held, startup_of};

/// Clients that still wait for their answer.
const LIVE: usize = 100;
/// Clients that have given up for each that has not.
const ABANDONED_EACH: usize = 9;
/// A session for every client, and some for the cluster itself.
const MAX_CONNECTIONS: u32 = 1200;
/// One live client arrives so often, behind those that will give up.
const EVERY: Duration = Duration::from_millis(10);
/// For the key to expire and a promotion; for the cluster to be healthy again, with a rewind.
const PATIENCE: Duration = Duration::from_secs(90);
/// For all to wait, well before the lease of the dead leader (20 s) has expired.
const ARRIVE: Duration = Duration::from_secs(15);
/// For all live clients to be served or refused.
const SERVE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    machine: Machine,
    live: usize,
    proxy_settings: Vec<String>,
    crashes: Vec<Crash>,
}

/// One crash of the leader. Times are milliseconds from the end of the new leader's recovery.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Crash {
    /// Clients that had given up.
    abandoned: usize,
    /// When the first live client saw its write acknowledged, and the last.
    first_ms: Option<f64>,
    last_ms: Option<f64>,
    /// Live clients whose write failed.
    failed: usize,
    /// The busy share of all cores in the second around the end of recovery, 0 to 1.
    cpu_busy: f64,
}

/// Crashes the leader twice in every round, once with and once without clients that have given up.
pub(super) async fn run(trials: &Trials, out: &mut impl Write) -> Result<()> {
    writeln!(out, "Starting the cluster …")?;
    let options =
        ClusterOptions { data_links: false, max_connections: MAX_CONNECTIONS, ..ClusterOptions::default() };
    let cluster = Cluster::start(options).await?;
    let running = RunningSetups::start(&cluster, &[Setup::PgLeaderProxy], &trials.proxy_settings).await?;
    let proxy = running.proxy.as_ref().context("the proxy was started")?;
    let mut run = Run {
        machine: Machine::describe(programs(&cluster).await?),
        live: LIVE,
        proxy_settings: trials.proxy_settings.clone(),
        crashes: Vec::new(),
    };
    for each in std::iter::repeat_n([0, ABANDONED_EACH], trials.rounds).flatten() {
        let crash = crash(&cluster, proxy, each).await?;
        writeln!(out, "{crash:?}")?;
        out.flush()?;
        run.crashes.push(crash);
        trials.output.save(&run)?;
    }
    trials.output.publish(&run, out)
}

async fn crash(cluster: &Cluster, proxy: &Proxy, abandoned_each: usize) -> Result<Crash> {
    let from = cluster.wait_healthy(PATIENCE).await?;
    let to = cluster.others(&from).into_iter().next().context("the cluster has only one member")?;
    proxy.wait_for_ok("/leader", PATIENCE).await?;
    let polling = cluster.superuser(&to, "postgres").await?;
    let sampler = CpuSampler::start();
    cluster.kill_member(&from)?;
    let left = left_recovery(polling, PATIENCE);
    let (left, (abandoned, clients)) = tokio::try_join!(left, wait_in_line(cluster, proxy, abandoned_each))?;
    clients.wait_for(LIVE, SERVE).await?;
    let cpu_busy = sampler.busy_around(left.seen);
    let served = clients.stop().await;
    let given_up = abandoned.len();
    drop(abandoned);
    cluster.start_member(&from)?;
    Ok(evaluate(&served, &left, given_up, cpu_busy))
}

fn evaluate(clients: &[NewClient], left: &LeftRecovery, abandoned: usize, cpu_busy: f64) -> Crash {
    let served = clients.iter().filter(|client| client.result.is_ok());
    let times: Vec<f64> = served.map(|client| ms_between(left.seen, client.began + client.took)).collect();
    Crash {
        abandoned,
        first_ms: times.iter().copied().min_by(f64::total_cmp),
        last_ms: times.iter().copied().max_by(f64::total_cmp),
        failed: clients.len() - times.len(),
        cpu_busy,
    }
}

/// Makes clients arrive while there is no leader: for each that lives so many that say nothing after their first packet,
/// before it in the line. Returns when the proxy holds them all.
async fn wait_in_line(
    cluster: &Cluster,
    proxy: &Proxy,
    abandoned_each: usize,
) -> Result<(Vec<TcpStream>, NewClients)> {
    let deadline = Instant::now() + ARRIVE;
    while proxy.get("/leader").await?.status == 200 {
        ensure!(Instant::now() < deadline, "the proxy forwards to a dead leader");
        tokio::time::sleep(POLL).await;
    }
    let address = cluster.proxy_addresses("proxy")?.write;
    let mut abandoned = Vec::new();
    let mut live = None;
    let mut ticks = tokio::time::interval(EVERY);
    for _ in 0..LIVE {
        ticks.tick().await;
        for _ in 0..abandoned_each {
            abandoned.push(first_packet_only(address).await?);
        }
        if live.is_none() {
            let mut load = new_clients(cluster, Setup::PgLeaderProxy)?;
            load.limit = LIVE;
            live = Some(NewClients::start(load, EVERY)?);
        }
    }
    let live = live.context("there are live clients")?;
    loop {
        let held = held(&proxy.get("/routing").await?.body);
        if held == Some((abandoned.len() + LIVE) as u64) {
            return Ok((abandoned, live));
        }
        ensure!(Instant::now() < deadline, "{held:?} clients wait after {ARRIVE:?}");
        tokio::time::sleep(POLL).await;
    }
}

async fn first_packet_only(address: SocketAddr) -> Result<TcpStream> {
    let connecting = async {
        let mut client = TcpStream::connect(address).await?;
        client.write_all(&startup_of(APP.user, DATABASE)).await?;
        std::io::Result::Ok(client)
    };
    tokio::time::timeout(RESPONSE, connecting)
        .await
        .with_context(|| format!("{address} does not accept connections"))?
        .with_context(|| format!("connecting to {address}"))
}

impl Run {
    /// A time of every crash, with or without clients that had given up.
    fn times(&self, abandoned: bool, time: Time) -> impl Iterator<Item = f64> {
        let crashes = self.crashes.iter().filter(move |crash| (crash.abandoned > 0) == abandoned);
        crashes.map(move |crash| time(crash).unwrap_or(NEVER))
    }
}

/// A time of a crash, in milliseconds.
type Time = fn(&Crash) -> Option<f64>;

/// The figures and their titles.
const FIGURES: [(&str, Time); 2] =
    [("first live client", |crash| crash.first_ms), ("last live client", |crash| crash.last_ms)];

impl Results for Run {
    fn page(&self) -> String {
        let busy = spread(self.crashes.iter().map(|crash| crash.cpu_busy * 100.0));
        let busy = busy.map_or_else(String::new, |busy| {
            format!(" Around the promotions the cores were {:.0} % (median) busy.", busy.median)
        });
        let mut page = format!(
            "# Abandoned waiters: latest run\n\n[Method and meaning](../README.md#abandoned), [raw \
             data](abandoned.json).\n\n{}{busy}",
            self.machine
        );
        if !self.proxy_settings.is_empty() {
            let _ = write!(page, " An experiment: the proxy ran with {}.", self.proxy_settings.join(", "));
        }
        let mut table =
            Table::new(&["from the end of recovery: median, worst", "none gave up", "nine of ten"]);
        for (title, time) in FIGURES {
            let cell = |abandoned| {
                let times = spread(self.times(abandoned, time));
                let text = |times: crate::statistics::Spread| {
                    format!("{}, {}", format_ms(times.median), format_ms(times.highest))
                };
                times.map_or_else(|| "–".to_owned(), text)
            };
            table.push(vec![title.to_owned(), cell(false), cell(true)]);
        }
        let failed: usize = self.crashes.iter().map(|crash| crash.failed).sum();
        let of = self.crashes.len() * self.live;
        let _ = write!(page, "\n\n{table}\nLive clients that failed: {failed} of {of}.\n");
        page + "\n![Every crash as a dot](abandoned.svg)\n"
    }

    fn panels(&self) -> Vec<Panel> {
        let titles = FIGURES.map(|(title, _)| title);
        let rows = ["none gave up", "nine of ten"];
        let mut panel = Panel::new("From the end of recovery", Scale::LogMs(0.5), &rows, &titles);
        for (series, (_, time)) in FIGURES.into_iter().enumerate() {
            for row in 0..rows.len() {
                self.times(row > 0, time).for_each(|ms| panel.dot(row, series, ms, false));
            }
        }
        vec![panel]
    }
}
