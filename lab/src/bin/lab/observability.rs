//! `lab observability`: the alert rules and the dashboard of `nomad/observability`, on a real Prometheus through a real
//! failover and the other conditions that alerts are for.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::{
    Cluster, ClusterOptions, LinkMode, MONITOR, NewClients, Prometheus, Proxy, ProxyArguments, ProxyCommand,
    Session, Writers,
};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::up::PROXY;

/// The second proxy, which is killed.
const OTHER: &str = "other";
/// Bound of each single wait. The longest is for rates over two minutes to be zero again.
const PATIENCE: Duration = Duration::from_secs(150);
const POLL: Duration = Duration::from_millis(200);
/// For how long nothing may fire before anything is done.
const QUIET: Duration = Duration::from_secs(15);
/// Sessions that do nothing.
const IDLE: usize = 30;
/// The limit that these sessions, with those that do something, are close to.
const LIMIT: usize = 40;
/// What each alert's name begins with.
const PREFIX: &str = "PgLeaderProxy";

/// Brings about one condition after the other, and prints when the alerts fired and resolved.
pub(crate) async fn observability(out: &mut impl Write) -> Result<()> {
    let mut proof = Proof::start(out).await?;
    proof.quiet().await?;
    proof.etcd_lost().await?;
    let lost = proof.failover().await?;
    proof.operations(&lost).await?;
    let split = proof.two_primaries().await?;
    proof.no_leader(&split).await?;
    proof.end().await
}

/// When an alert fired and resolved.
struct Measured {
    alert: &'static str,
    cause: &'static str,
    fired: Duration,
    resolved: Option<Duration>,
}

struct Proof<'a, W: Write> {
    out: &'a mut W,
    began: Instant,
    // The clients end before the cluster.
    clients: Clients,
    proxy: Proxy,
    other: Proxy,
    prometheus: Prometheus,
    cluster: Cluster,
    /// The alerts that may fire now.
    expected: BTreeSet<&'static str>,
    measured: Vec<Measured>,
}

/// Clients of both routes, which keep the panels busy.
struct Clients {
    writers: Writers,
    _new: NewClients,
    reader: JoinHandle<()>,
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl<'a, W: Write> Proof<'a, W> {
    async fn start(out: &'a mut W) -> Result<Self> {
        writeln!(out, "Starting a cluster of three members, two proxies and Prometheus …")?;
        let cluster = Cluster::start(ClusterOptions { members: 3, ..ClusterOptions::default() }).await?;
        let proxy = Proxy::start(&command(&cluster, PROXY)?).await?;
        let other = Proxy::start(&command(&cluster, OTHER)?).await?;
        let targets = [proxy.admin(), other.admin()];
        let rules = file("alerts.yaml");
        let address = cluster.spare_address(90, 9090);
        let prometheus = Prometheus::start(address, ("pg-leader-proxy", &targets), &rules).await?;
        let addresses = cluster.proxy_addresses(PROXY)?;
        let load = cluster.load(addresses.write);
        let clients = Clients {
            writers: Writers::start(load.clone())?,
            _new: NewClients::start(load, Duration::from_millis(500))?,
            reader: tokio::spawn(read(cluster.app_config(addresses.read))),
        };
        cluster.wait_healthy(PATIENCE).await?;
        Ok(Self {
            out,
            began: Instant::now(),
            clients,
            proxy,
            other,
            prometheus,
            cluster,
            expected: BTreeSet::new(),
            measured: Vec::new(),
        })
    }

    /// Says what is done next; returns when.
    fn step(&mut self, what: &str) -> Result<Instant> {
        writeln!(self.out, "{:>4} s  {what}", self.began.elapsed().as_secs())?;
        self.out.flush()?;
        Ok(Instant::now())
    }

    /// Which alerts fire now, without the beginning of their names.
    ///
    /// # Errors
    /// When one does that is not expected.
    async fn firing(&self) -> Result<BTreeSet<String>> {
        let firing = self.prometheus.firing().await?;
        let firing: BTreeSet<String> =
            firing.iter().map(|alert| alert.strip_prefix(PREFIX).unwrap_or(alert).to_owned()).collect();
        for alert in &firing {
            ensure!(
                self.expected.contains(alert.as_str()),
                "{alert} fires, and nothing is wrong of that kind"
            );
        }
        Ok(firing)
    }

    /// Waits until an alert fires that was caused at `since`.
    async fn fires(&mut self, alert: &'static str, cause: &'static str, since: Instant) -> Result<()> {
        self.expected.insert(alert);
        self.until(alert, true).await?;
        let fired = since.elapsed();
        self.step(&format!("{alert} fires"))?;
        self.measured.push(Measured { alert, cause, fired, resolved: None });
        Ok(())
    }

    /// Waits until an alert does not fire any more, whose cause ended at `since`.
    async fn resolves(&mut self, alert: &'static str, since: Instant) -> Result<()> {
        self.until(alert, false).await?;
        self.expected.remove(alert);
        self.step(&format!("{alert} is resolved"))?;
        let measured = self.measured.iter_mut().rfind(|measured| measured.alert == alert);
        measured.with_context(|| format!("{alert} never fired"))?.resolved = Some(since.elapsed());
        Ok(())
    }

    async fn until(&self, alert: &str, fires: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.firing().await?.contains(alert) != fires {
            let missing = if fires { "does not fire" } else { "is not resolved" };
            ensure!(Instant::now() < deadline, "{alert} {missing} within {PATIENCE:?}");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn quiet(&mut self) -> Result<()> {
        self.step("nothing is wrong")?;
        let until = Instant::now() + QUIET;
        while Instant::now() < until {
            self.firing().await?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn etcd_lost(&mut self) -> Result<()> {
        let lost = self.step("the proxy is cut off from etcd")?;
        self.cluster.set_proxy_etcd_links(PROXY, LinkMode::Cut)?;
        self.expected.insert("AllMembersRule");
        self.fires("DcsSilent", "the proxy cut off from etcd", lost).await?;
        self.fires("AllMembersRule", "the same, and then the lease ends", lost).await?;
        let healed = self.step("the proxy reaches etcd again")?;
        self.cluster.set_proxy_etcd_links(PROXY, LinkMode::Open)?;
        self.resolves("DcsSilent", healed).await?;
        self.resolves("AllMembersRule", healed).await
    }

    /// Kills the leader, and returns its name and when that was.
    async fn failover(&mut self) -> Result<(String, Instant)> {
        let leader = self.cluster.leader().await?.context("there is no leader")?;
        self.expected.extend(["MemberUnhealthy", "LeaderChanged"]);
        let killed = self.step(&format!("the leader {leader} is killed"))?;
        self.cluster.kill_member(&leader)?;
        self.fires("LeaderChanged", "SIGKILL to the leader's Patroni and PostgreSQL", killed).await?;
        self.clients.writers.wait_for_more(100, PATIENCE).await?;
        Ok((leader, killed))
    }

    /// What operators do wrong, while the former leader is down.
    async fn operations(&mut self, (lost, member_lost): &(String, Instant)) -> Result<()> {
        let leader = self.cluster.wait_for_leader(PATIENCE).await?;
        let denied = self.step("the monitoring user may not log in any more")?;
        self.expected.insert("MonitorDenied");
        self.monitor_may_log_in(&leader, false).await?;
        let killed = self.step("the second proxy is killed")?;
        self.expected.insert("Absent");
        self.other.kill()?;

        let refused = self.step("a configuration with a mistake is loaded")?;
        self.proxy.write_config("[write]\nlisten = \"nowhere\"\n")?;
        self.proxy.reload();
        self.fires("ReloadFailed", "SIGHUP with a wrong file", refused).await?;
        let idle = self.idle_sessions().await?;
        let limited = self.step(&format!("the file is mended, and allows {LIMIT} sessions"))?;
        self.expected.insert("SessionsNearLimit");
        self.proxy.write_config(&config(&self.cluster, LIMIT)?)?;
        self.proxy.reload();
        self.resolves("ReloadFailed", limited).await?;

        self.fires("MonitorDenied", "`ALTER ROLE monitor NOLOGIN`", denied).await?;
        // It is seen while the kept connection answers, and sessions go on.
        self.clients.writers.wait_for_more(100, PATIENCE).await?;
        let allowed = self.step("the monitoring user may log in again")?;
        self.monitor_may_log_in(&leader, true).await?;

        self.fires("Absent", "SIGKILL to a proxy", killed).await?;
        let started = self.step("the second proxy is started again")?;
        self.other = Proxy::start(&command(&self.cluster, OTHER)?).await?;
        self.fires("SessionsNearLimit", "more than 80 % of `max_sessions` in use", limited).await?;
        let raised = self.step("the limit is raised again")?;
        self.proxy.write_config(&config(&self.cluster, 1000)?)?;
        self.proxy.reload();
        drop(idle);
        self.resolves("Absent", started).await?;
        self.resolves("SessionsNearLimit", raised).await?;
        self.resolves("MonitorDenied", allowed).await?;

        self.fires("MemberUnhealthy", "the killed member stays down", *member_lost).await?;
        // By itself, when two minutes are over.
        self.resolves("LeaderChanged", *member_lost).await?;
        let back = self.step(&format!("{lost} is started again"))?;
        self.cluster.start_member(lost)?;
        self.cluster.wait_healthy(PATIENCE).await?;
        self.resolves("MemberUnhealthy", back).await
    }

    async fn monitor_may_log_in(&self, leader: &str, may: bool) -> Result<()> {
        let server = self.cluster.superuser(leader, "postgres").await?;
        let statement = format!("alter role {} {}", MONITOR.user, if may { "login" } else { "nologin" });
        server.batch_execute(&statement).await.with_context(|| statement.clone())
    }

    async fn idle_sessions(&self) -> Result<Vec<Session>> {
        let config = self.cluster.app_config(self.cluster.proxy_addresses(PROXY)?.write);
        let mut sessions = Vec::new();
        for _ in 0..IDLE {
            sessions.push(Session::open_within(&config, PATIENCE).await?);
        }
        Ok(sessions)
    }

    /// A replica without Patroni is promoted beside the leader. It is killed afterwards, and its name returned.
    async fn two_primaries(&mut self) -> Result<String> {
        let leader = self.cluster.wait_for_leader(PATIENCE).await?;
        let replica = self.cluster.others(&leader).first().cloned().context("there is no replica")?;
        self.expected.extend(["HigherTimeline", "MemberUnhealthy"]);
        self.cluster.kill_patroni(&replica)?;
        let promoted = self.step(&format!("the replica {replica} is promoted, whose Patroni is dead"))?;
        self.expected.insert("TwoPrimaries");
        let server = self.cluster.superuser(&replica, "postgres").await?;
        server.batch_execute("select pg_promote()").await.context("promoting a replica")?;
        self.fires("TwoPrimaries", "`pg_promote()` on a replica whose Patroni is dead", promoted).await?;
        self.fires("HigherTimeline", "the same", promoted).await?;
        drop(server);
        let killed = self.step(&format!("{replica} is killed"))?;
        self.cluster.kill_member(&replica)?;
        self.resolves("TwoPrimaries", killed).await?;
        self.resolves("HigherTimeline", killed).await?;
        Ok(replica)
    }

    /// Kills every member but `split`, which is down already and stays so, because it is on a timeline of its own.
    async fn no_leader(&mut self, split: &str) -> Result<()> {
        self.expected.extend(["LeaderChanged", "NoLeader", "NoReplica", "ClientsHeld", "ClientsRejected"]);
        let killed = self.step("every member is killed")?;
        let members = self.cluster.others(split);
        for member in &members {
            self.cluster.kill_member(member)?;
        }
        self.fires("ClientsRejected", "every member killed: after `write.hold_timeout`, 30 s here", killed)
            .await?;
        for alert in ["NoLeader", "NoReplica", "ClientsHeld"] {
            self.fires(alert, "every member killed", killed).await?;
        }
        let started = self.step("every member is started")?;
        for member in &members {
            self.cluster.start_member(member)?;
        }
        for alert in ["NoLeader", "NoReplica", "ClientsHeld", "ClientsRejected"] {
            self.resolves(alert, started).await?;
        }
        Ok(())
    }

    /// Checks that every panel has data and every rule was seen, and prints the times.
    async fn end(mut self) -> Result<()> {
        let dashboard = std::fs::read_to_string(file("dashboard.json")).context("reading the dashboard")?;
        let dashboard: Value = serde_json::from_str(&dashboard).context("reading the dashboard")?;
        let (panels, queries) = self.panels(&dashboard).await?;
        self.step(&format!("each of {queries} queries in {panels} panels has data"))?;
        let rules = std::fs::read_to_string(file("alerts.yaml")).context("reading the rules")?;
        let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        for name in names.map(|name| name.strip_prefix(PREFIX).unwrap_or(name)) {
            ensure!(
                self.measured.iter().any(|measured| measured.alert == name),
                "{name} was not brought about"
            );
        }
        writeln!(self.out, "\n| alert | cause | fires after | resolved after the end of its cause |")?;
        writeln!(self.out, "| --- | --- | --- | --- |")?;
        for Measured { alert, cause, fired, resolved } in &self.measured {
            let resolved = resolved.with_context(|| format!("{alert} was never seen resolved"))?;
            let [fired, resolved] = [*fired, resolved].map(|time| time.as_secs_f64());
            writeln!(self.out, "| `{PREFIX}{alert}` | {cause} | {fired:.1} s | {resolved:.1} s |")?;
        }
        Ok(())
    }

    /// How many panels and queries there are.
    ///
    /// # Errors
    /// When a query gives no number.
    async fn panels(&self, dashboard: &Value) -> Result<(usize, usize)> {
        let panels = dashboard["panels"].as_array().context("a dashboard without panels")?;
        let (mut with_queries, mut queries) = (0, 0);
        for panel in panels {
            let Some(targets) = panel["targets"].as_array() else { continue };
            with_queries += 1;
            for target in targets {
                let expr = target["expr"].as_str().context("a query without an expression")?;
                let expr = expr.replace("$__rate_interval", "15s");
                let expr = expr.replace("$cluster", ".*").replace("$instance", ".*");
                let values = self.prometheus.values(&expr, self.began.elapsed()).await?;
                if !values.iter().any(|value| value.is_finite()) {
                    bail!("the panel {} has no data: {expr}", panel["title"]);
                }
                queries += 1;
            }
        }
        ensure!(with_queries > 0, "the dashboard has no panel with a query");
        Ok((with_queries, queries))
    }
}

/// Opens a session, asks once and leaves, for ever.
async fn read(config: tokio_postgres::Config) {
    loop {
        if let Ok(session) = Session::open(&config).await {
            // An error ends the session, as in every client.
            let _ = session.batch_execute("select 1").await;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn command(cluster: &Cluster, proxy: &str) -> Result<ProxyCommand> {
    let mut command = cluster.proxy_command(proxy)?;
    if proxy == PROXY {
        command.arguments = ProxyArguments::Config(config(cluster, 1000)?);
    }
    Ok(command)
}

/// The configuration of the first proxy.
fn config(cluster: &Cluster, max_sessions: usize) -> Result<String> {
    let config = cluster.proxy_config(PROXY)?;
    Ok(format!(
        "{config}\n[policy]\non_dcs_loss = \"all_members\"\n\n[session]\nmax_sessions = {max_sessions}\n"
    ))
}

/// A file of `nomad/observability`.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../nomad/observability").join(name)
}
