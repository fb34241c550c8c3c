//! The commands of `lab up`: one fault per line.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::{Cluster, LinkMode};

const HELP: &str = "\
status                   the leader, and who is not in recovery
switchover MEMBER        planned switchover to that member
kill MEMBER              SIGKILL to Patroni and PostgreSQL
kill-postgres MEMBER     SIGKILL to PostgreSQL alone
kill-patroni MEMBER      SIGKILL to Patroni alone; PostgreSQL stays writable
start MEMBER             start what was killed
freeze MEMBER            SIGSTOP to Patroni and PostgreSQL
thaw MEMBER              SIGCONT
isolate MEMBER           cut it off from everything
cut MEMBER               cut its Patroni off from etcd
heal MEMBER              open all its links again
pause | resume           Patroni's maintenance mode
quorum-lost | etcd-start SIGKILL to two etcd servers; start them again
etcd-move                move etcd's leadership to another server";

/// How long a switchover may take.
const HEALTHY: Duration = Duration::from_secs(60);

/// Runs one line.
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
        "thaw" => cluster.thaw_member(member()?)?,
        "isolate" => cluster.isolate_member(member()?, LinkMode::Paused)?,
        "cut" => cluster.cut_member_from_etcd(member()?, LinkMode::Cut)?,
        "heal" => cluster.heal_member(member()?)?,
        "pause" => cluster.set_pause(true).await?,
        "resume" => cluster.set_pause(false).await?,
        "quorum-lost" => cluster.lose_etcd_quorum()?,
        "etcd-start" => cluster.start_etcd().await?,
        "etcd-move" => cluster.move_etcd_leader().await?,
        _ => bail!("unknown command {verb}; try help"),
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
    writeln!(out, "leader key: {leader}; not in recovery: {:?}", cluster.primaries().await)?;
    Ok(())
}
