//! A run: a cluster, its clients, the faults of a seed, and the judgement.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::{Cluster, ClusterOptions, KeyWatch, Session};

use crate::checker::Checker;
use crate::counts::{Leaderships, count};
use crate::faults::Victims;
use crate::proxies::NAMES;
use crate::schedule::{Kind, Schedule};
use crate::setups::{self, Setup};
use crate::statements;
use crate::story::Story;
use crate::summary::{SetupSummary, Summary};
use crate::workload::{Clients, Recorded, keys_of};

/// Enough for the clients of all setups, and for sessions that a frozen or isolated member still has.
const MAX_CONNECTIONS: u32 = 300;
/// Within this time after the last fault Patroni makes the cluster healthy by itself; else the operator helps.
const ALONE: Duration = Duration::from_secs(90);
/// Within this time the cluster must then be healthy.
const RECOVERY: Duration = Duration::from_secs(180);
/// Within this time after that both proxies must forward to its leader.
const FORWARDING: Duration = Duration::from_secs(15);
/// How long clients go on afterwards.
const AFTERWARDS: Duration = Duration::from_secs(3);
const LOGIN: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the schedule comes from.
    pub seed: u64,
    /// How long faults strike.
    pub length: Duration,
    /// The ways to the leader, side by side.
    pub setups: Vec<Setup>,
    /// The kinds of faults.
    pub kinds: Vec<Kind>,
    /// Synchronous replication, in Patroni's strict mode.
    pub synchronous: bool,
    /// Members of the cluster.
    pub members: u8,
    /// Where everything is written: schedule, story, histories, logs, summary.
    pub out: PathBuf,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started, the cluster does not recover, or a proxy does not forward again in time. The story is
/// written in any case.
pub async fn run(plan: &Plan) -> Result<Summary> {
    fs::create_dir_all(&plan.out).with_context(|| format!("making {}", plan.out.display()))?;
    let checker = Checker::build(&plan.out)?;
    let schedule = Schedule::new(plan.seed, plan.length, &plan.kinds);
    let lines: String = schedule.faults.iter().map(|fault| format!("{fault}\n")).collect();
    fs::write(plan.out.join("schedule.txt"), lines).context("writing the schedule")?;

    let options = ClusterOptions {
        members: plan.members,
        synchronous_mode: plan.synchronous,
        synchronous_mode_strict: plan.synchronous,
        max_connections: MAX_CONNECTIONS,
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(options).await?;
    let keys = KeyWatch::start(&cluster).await?;
    make_rows(&cluster, plan).await?;
    let running = setups::start(&cluster, &plan.setups).await?;
    let victims = Arc::new(Victims { cluster, proxies: running.proxies });
    let story = Arc::new(Story::new(Instant::now()));
    let stage = Stage { plan, checker, schedule, victims, keys, story };
    let summary = stage.perform().await;
    if let Err(error) = &summary {
        stage.story.tell("anomaly", format!("{error:#}"));
    }
    stage.write_story()?;
    let summary = summary?;
    let json = serde_json::to_vec_pretty(&summary).context("writing the summary")?;
    fs::write(plan.out.join("summary.json"), json).context("writing the summary")?;
    Ok(summary)
}

async fn make_rows(cluster: &Cluster, plan: &Plan) -> Result<()> {
    let leader = cluster.leader().await?.context("the cluster has just had a leader")?;
    let app = cluster.app_config(cluster.member(&leader)?.postgres_direct);
    let session = Session::open_within(&app, LOGIN).await?;
    for setup in 0..plan.setups.len() {
        let [registers, lists] = keys_of(setup)?.map(|keys| keys.all(longest(plan)));
        statements::prepare(&session, registers, lists).await?;
    }
    Ok(())
}

/// How long clients may be at work: the faults, the recovery, and what comes after.
fn longest(plan: &Plan) -> Duration {
    plan.length + ALONE + 2 * RECOVERY + FORWARDING + AFTERWARDS + Duration::from_secs(180)
}

/// A run in progress.
struct Stage<'a> {
    plan: &'a Plan,
    checker: Checker,
    schedule: Schedule,
    victims: Arc<Victims>,
    keys: KeyWatch,
    story: Arc<Story>,
}

impl Stage<'_> {
    async fn perform(&self) -> Result<Summary> {
        let values = Arc::new(AtomicI64::new(1));
        let origin = self.story.origin();
        let mut clients = Vec::new();
        for (number, setup) in self.plan.setups.iter().enumerate() {
            let endpoints = setup.endpoints(&self.victims.cluster)?;
            clients.push(Clients::start(origin, (number, self.plan.seed), &endpoints, &values)?);
        }
        let watches = self.watch_proxies();
        let struck = self.victims.strike(&self.schedule, &self.story).await;
        tokio::time::sleep((origin + self.plan.length).saturating_duration_since(Instant::now())).await;
        self.story.tell("fault", "everything is undone");
        let (recovered, forwarding) = self.recover().await?;
        tokio::time::sleep(AFTERWARDS).await;
        watches.iter().for_each(|watch| watch.abort());

        let mut setups = Vec::new();
        for (setup, clients) in self.plan.setups.iter().zip(clients) {
            let recorded = clients.finish(origin.elapsed()).await.context(setup.name())?;
            setups.push(self.judge(*setup, &recorded)?);
        }
        let mut faults: BTreeMap<&'static str, usize> = BTreeMap::new();
        struck.iter().for_each(|kind| *faults.entry(kind.name()).or_default() += 1);
        let mut leaderships: Vec<i64> =
            self.keys.history().events.iter().map(|event| event.create_revision).collect();
        leaderships.retain(|revision| *revision != 0);
        leaderships.dedup();
        Ok(Summary {
            seed: self.plan.seed,
            minutes: self.plan.length.as_secs_f64() / 60.0,
            synchronous: self.plan.synchronous,
            faults,
            leader_changes: leaderships.len(),
            cluster_recovered_after: recovered.as_secs_f64(),
            proxies_forward_after: forwarding.map(|after| after.as_secs_f64()),
            setups,
        })
    }

    fn watch_proxies(&self) -> Vec<tokio::task::JoinHandle<()>> {
        if self.victims.proxies.is_none() {
            return Vec::new();
        }
        NAMES
            .map(|name| {
                let (victims, story) = (Arc::clone(&self.victims), Arc::clone(&self.story));
                tokio::spawn(async move {
                    if let Some(proxies) = &victims.proxies {
                        let _ = proxies.watch(name, &story).await;
                    }
                })
            })
            .into()
    }

    /// Undoes everything and waits: for the cluster, which is Patroni's part, then for the proxies, which is theirs.
    async fn recover(&self) -> Result<(Duration, Option<Duration>)> {
        let healed = Instant::now();
        self.victims.heal().await?;
        let leader = self
            .victims
            .recover(&self.story, ALONE, RECOVERY)
            .await
            .context("the cluster did not recover")?;
        let recovered = healed.elapsed();
        let forwarding = match &self.victims.proxies {
            Some(proxies) => Some(proxies.wait_until_forwarding(&leader, FORWARDING).await?),
            None => None,
        };
        Ok((recovered, forwarding))
    }

    fn judge(&self, setup: Setup, recorded: &Recorded) -> Result<SetupSummary> {
        let file = self.directory_of(setup)?.join("history.jsonl");
        crate::history::write(&recorded.operations, &file)?;
        let members: BTreeMap<IpAddr, String> = self
            .victims
            .cluster
            .members()
            .map(|member| (member.postgres_direct.ip(), member.name.clone()))
            .collect();
        let keys = self.keys.history();
        let leaderships = Leaderships { origin: self.story.origin(), keys: &keys, members: &members };
        let (counts, anomalies) = count(recorded, &leaderships);
        for anomaly in anomalies {
            self.story.tell_at(anomaly.at, "anomaly", format!("{}: {}", setup.name(), anomaly.what));
        }
        let verdict = self.checker.check(&file)?;
        for key in &verdict.illegal {
            let confirmed = verdict.illegal_confirmed.contains(key);
            let which = if confirmed { "" } else { ", but is without its plain reads" };
            self.story.tell("anomaly", format!("{}: {key} is not linearizable{which}", setup.name()));
        }
        Ok(SetupSummary::new(setup, counts, verdict))
    }

    fn directory_of(&self, setup: Setup) -> Result<PathBuf> {
        let directory = self.plan.out.join(setup.name());
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(directory)
    }

    /// The story with the changes of the leader key, and the logs of proxies and members.
    fn write_story(&self) -> Result<()> {
        for event in self.keys.history().events {
            let at = event.at.saturating_duration_since(self.story.origin());
            let what = match event.holder {
                Some(holder) => format!("{holder} holds it, since revision {}", event.create_revision),
                None => "nobody holds it".to_owned(),
            };
            self.story.tell_at(at, "leader key", what);
        }
        let path = self.plan.out.join("story.txt");
        let mut file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
        self.story.write(&mut file).context("writing the story")?;
        if let Some(proxies) = &self.victims.proxies {
            proxies.copy_logs(&self.plan.out)?;
        }
        for member in self.victims.cluster.members() {
            copy(&member.log, &self.plan.out.join(format!("member-{}.log", member.name)))?;
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {}", from.display())).map(drop)
}
