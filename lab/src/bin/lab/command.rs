//! The faults one can type while `lab up` runs.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::{Cluster, LinkMode};

const HELP: &str = "\
status                   who leads, who is out of recovery
switchover MEMBER        planned, to that member
kill MEMBER              SIGKILL to Patroni and PostgreSQL
kill-postgres MEMBER     SIGKILL to PostgreSQL alone
kill-patroni MEMBER      SIGKILL to Patroni alone; PostgreSQL stays writable
start MEMBER             start what was killed
freeze MEMBER            SIGSTOP to all of it
wake MEMBER              SIGCONT
isolate MEMBER           no byte to or from it
cut MEMBER               its Patroni loses etcd
heal MEMBER              all links of it open again
pause | resume           Patroni's maintenance mode
quorum-lost | etcd-start SIGKILL two etcd servers; start them again
etcd-move                etcd elects another leader";

/// How long `switchover` and the like may take to show.
const HEALTHY: Duration = Duration::from_secs(60);

/// Does one line.
pub(crate) async fn run(cluster: &Cluster, line: &str, out: &mut impl Write) -> Result<()> {
    let mut words = line.split_whitespace();
    let Some(verb) = words.next() else { return Ok(()) };
    let member = || words.clone().next().with_context(|| format!("{verb} which member?"));
    match verb {
        "help" => return Ok(writeln!(out, "{HELP}")?),
        "status" => return status(cluster, out).await,
        "switchover" => {
            cluster.switchover(member()?).await?;
            cluster.wait_for_leader_to_be(member()?, HEALTHY).await?;
        }
        "kill" => cluster.kill_member(member()?)?,
        "kill-postgres" => cluster.kill_postgres(member()?)?,
        "kill-patroni" => cluster.kill_patroni(member()?)?,
        "start" => cluster.start_member(member()?)?,
        "freeze" => cluster.freeze_member(member()?)?,
        "wake" => cluster.thaw_member(member()?)?,
        "isolate" => cluster.isolate_member(member()?, LinkMode::Paused)?,
        "cut" => cluster.cut_member_from_etcd(member()?, LinkMode::Cut)?,
        "heal" => cluster.heal_member(member()?)?,
        "pause" => cluster.set_pause(true).await?,
        "resume" => cluster.set_pause(false).await?,
        "quorum-lost" => cluster.lose_etcd_quorum()?,
        "etcd-start" => cluster.start_etcd().await?,
        "etcd-move" => cluster.move_etcd_leader().await?,
        _ => bail!("no such fault: {verb}; try help"),
    }
    writeln!(out, "done")?;
    Ok(())
}

async fn status(cluster: &Cluster, out: &mut impl Write) -> Result<()> {
    let leader = match cluster.leader().await {
        Ok(Some(leader)) => leader,
        Ok(None) => "nobody".to_owned(),
        Err(error) => format!("unknown ({error:#})"),
    };
    writeln!(out, "leader key: {leader}; out of recovery: {:?}", cluster.primaries().await)?;
    Ok(())
}
