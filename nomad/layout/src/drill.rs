//! Drills: the gates first, then an act while clients write through both nodes, what they noticed, the gates again. What was taken
//! away is always put back.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cutover::{HAPROXY, PROXY};
use crate::gate;
use crate::http;
use crate::layout::Layout;
use crate::nomad::Allocation;
use crate::writers::Writers;

const DATABASE: &str = "timescaledb-ha";
const SETTLED: Duration = Duration::from_secs(300);

/// What is done while clients write.
type Act<'a> = &'a dyn Fn(&Layout) -> Result<()>;

/// A drill with its name and what clients may notice.
struct Drill {
    name: &'static str,
    /// The longest time without an acknowledged write.
    longest: fn(u64) -> u64,
    act: fn(&Layout) -> Result<()>,
}

/// `ttl` is Patroni's: a dead leader holds its key for so long.
const DRILLS: [Drill; 9] = [
    Drill { name: "switchover", longest: |_| 15, act: switchover },
    Drill { name: "kill-leader", longest: |ttl| ttl + 15, act: kill_leader },
    Drill { name: "freeze-leader", longest: |ttl| ttl + 30, act: freeze_leader },
    Drill { name: "restart-etcd", longest: |_| 5, act: restart_etcd },
    Drill { name: "restart-database", longest: |ttl| ttl + 15, act: restart_database },
    Drill { name: "restart-proxy", longest: |_| 10, act: restart_proxy },
    Drill { name: "etcd-member-down", longest: |_| 5, act: etcd_member_down },
    Drill { name: "etcd-quorum-lost", longest: |_| 5, act: etcd_quorum_lost },
    Drill { name: "drain-leader", longest: |ttl| ttl + 30, act: drain_leader },
];

/// The names, for the command line.
pub fn names() -> impl Iterator<Item = &'static str> {
    DRILLS.iter().map(|drill| drill.name)
}

/// Runs one.
///
/// # Errors
/// When a gate fails, before or after, or the writers noticed more than they may.
pub fn run(layout: &Layout, name: &str) -> Result<()> {
    let Some(drill) = DRILLS.iter().find(|drill| drill.name == name) else {
        bail!("there is no drill \"{name}\"; there are {}", names().collect::<Vec<_>>().join(", "));
    };
    // A dry run looks at nothing.
    let ttl = if layout.shell.dry_run { 0 } else { ttl(layout)? };
    under_writers(layout, name, Duration::from_secs((drill.longest)(ttl)), &drill.act)
}

/// Runs a command of the operator as a drill of this name: what it takes away, it has to put back.
///
/// # Errors
/// As [`run`], and when the command fails.
pub fn run_command(layout: &Layout, name: &str, longest: Duration, command: &[String]) -> Result<()> {
    ensure!(names().all(|known| known != name), "there is a drill {name} already: give yours another name");
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    under_writers(layout, name, longest, &|layout| {
        let output = layout.shell.act(&command)?;
        output.lines().for_each(|line| layout.shell.say(&format!("  {line}")));
        Ok(())
    })
}

fn under_writers(layout: &Layout, name: &str, longest: Duration, act: Act<'_>) -> Result<()> {
    gates(layout, Duration::from_secs(60)).context("not begun")?;
    if layout.shell.dry_run {
        layout.shell.say(&format!("? writers through both nodes, then {name}"));
        return act(layout);
    }
    let writers = Writers::start(layout, layout.site.write_port)?;
    writers.wait_for(50, Duration::from_secs(30))?;
    let acted = act(layout);
    let serves = writers.wait_for(50, longest + Duration::from_secs(30));
    let healed = gates(layout, SETTLED);
    let report = writers.stop(layout)?;
    report.tell(layout, name)?;
    acted?;
    serves?;
    healed.context("afterwards")?;
    report.check(longest)
}

fn gates(layout: &Layout, within: Duration) -> Result<()> {
    gate::etcd(layout, within).pass(layout)?;
    gate::database(layout, within).pass(layout)?;
    serves(layout, within)
}

/// HAProxy may be drilled too, before it is replaced.
fn serves(layout: &Layout, within: Duration) -> Result<()> {
    if layout.shell.dry_run || layout.nomad.job(PROXY)?.is_some() {
        gate::proxy(layout, layout.site.write_port, within).pass(layout)
    } else {
        gate::job(layout, HAPROXY, 2, within).pass(layout)
    }
}

fn ttl(layout: &Layout) -> Result<u64> {
    let address = layout.database_addresses().next().context("no database node")?;
    http::json(&format!("http://{address}:8008/config"))?["ttl"]
        .as_u64()
        .context("Patroni's config has no ttl")
}

/// Runs a shell script in the task of an allocation.
fn execute(layout: &Layout, allocation: &Allocation, script: &str) -> Result<()> {
    let command = [
        "nomad",
        "alloc",
        "exec",
        "-i=false",
        "-t=false",
        "-task",
        "database",
        &allocation.id,
        "/bin/sh",
        "-c",
        script,
    ];
    layout.shell.act(&command).map(drop)
}

/// The allocation of the leader; in a dry run, which looks at nothing, a stand-in.
fn leader(layout: &Layout) -> Result<(String, Allocation)> {
    let (leader, _) = layout.leader_and_replica()?;
    Ok((leader.to_owned(), layout.nomad.running_on(DATABASE, leader)?))
}

fn another_leads(layout: &Layout, before: &str, within: Duration) -> Result<()> {
    let before = before.to_owned();
    gate::Gate::new(format!("another leader than {before}"), within, || {
        let (leader, _) = layout.leader_and_replica()?;
        ensure!(leader != before, "{leader} leads");
        Ok(leader.to_owned())
    })
    .pass(layout)
}

fn switchover(layout: &Layout) -> Result<()> {
    let (before, allocation) = leader(layout)?;
    // The command beside Patroni's own, which need not be on the PATH.
    let beside = "PATH=$(dirname \"$(readlink /proc/$PPID/exe)\"):$PATH";
    let script = format!(
        "{beside} patronictl -c \"$NOMAD_TASK_DIR/patroni.yml\" switchover --force {}",
        layout.site.scope
    );
    execute(layout, &allocation, &script)?;
    another_leads(layout, &before, Duration::from_secs(60))
}

/// Where the pid of the PostgreSQL server is, as the task sees it.
fn pid_file(layout: &Layout) -> String {
    let home =
        if layout.site.db_runtime == "docker" { "/home/postgres/pgdata" } else { &layout.site.db_data_dir };
    format!("{home}/data/postmaster.pid")
}

/// Nomad starts Patroni again within seconds. Whether that one leads again or the other one takes over, the writes go on.
fn kill_leader(layout: &Layout) -> Result<()> {
    let (_, allocation) = leader(layout)?;
    execute(layout, &allocation, &format!("kill -9 $(head -n 1 {})", pid_file(layout)))?;
    layout
        .shell
        .act(&["nomad", "alloc", "signal", "-s", "SIGKILL", "-task", "database", &allocation.id])
        .map(drop)
}

/// Patroni, PostgreSQL and all of its processes stop for longer than the lease lasts, and go on.
fn freeze_leader(layout: &Layout) -> Result<()> {
    let (before, allocation) = leader(layout)?;
    let all = format!("$(head -n 1 {0}) $(ps -o pid= --ppid $(head -n 1 {0}))", pid_file(layout));
    let signal = |signal: &str| {
        layout
            .shell
            .act(&["nomad", "alloc", "signal", "-s", signal, "-task", "database", &allocation.id])
            .map(drop)
    };
    let frozen = signal("SIGSTOP").and_then(|()| execute(layout, &allocation, &format!("kill -STOP {all}")));
    let moved = frozen.and_then(|()| another_leads(layout, &before, Duration::from_secs(120)));
    // Whatever failed, everything goes on.
    let thawed = execute(layout, &allocation, &format!("kill -CONT {all}"));
    signal("SIGCONT")?;
    moved?;
    thawed
}

fn restart(layout: &Layout, job: &str, allocation: &Allocation) -> Result<()> {
    layout.shell.say(&format!("  {job} on {}", allocation.node_name));
    layout.shell.act(&["nomad", "alloc", "restart", &allocation.id]).map(drop)
}

fn running(layout: &Layout, job: &str) -> Result<Vec<Allocation>> {
    Ok(layout.nomad.allocations(job)?.into_iter().filter(Allocation::runs).collect())
}

fn restart_etcd(layout: &Layout) -> Result<()> {
    for allocation in running(layout, "etcd")? {
        restart(layout, "etcd", &allocation)?;
        gate::etcd(layout, SETTLED).pass(layout)?;
    }
    Ok(())
}

/// The replica first, then the leader.
fn restart_database(layout: &Layout) -> Result<()> {
    let (leader, replica) = layout.leader_and_replica()?;
    for node in [replica.to_owned(), leader.to_owned()] {
        restart(layout, DATABASE, &layout.nomad.running_on(DATABASE, &node)?)?;
        gate::database(layout, SETTLED).pass(layout)?;
    }
    Ok(())
}

fn restart_proxy(layout: &Layout) -> Result<()> {
    for allocation in running(layout, "pg-leader-proxy")? {
        restart(layout, "pg-leader-proxy", &allocation)?;
        gate::proxy(layout, layout.site.write_port, SETTLED).pass(layout)?;
    }
    Ok(())
}

/// Nomad takes no second change while the deployment of the first one goes on, which takes half a minute.
fn etcd_member_down(layout: &Layout) -> Result<()> {
    let members = &layout.site.etcd_members;
    let name = &members.last().context("no members")?.name;
    layout.shell.act(&["nomad", "job", "scale", "-detach", "etcd", name, "0"])?;
    let down = gate::job(layout, "etcd", members.len() - 1, SETTLED).pass(layout);
    layout.shell.act(&["nomad", "job", "scale", "-detach", "etcd", name, "1"])?;
    gate::etcd(layout, SETTLED).pass(layout)?;
    down
}

/// All members but one stop for longer than Patroni's lease lasts. With its `failsafe_mode` the primary goes on.
fn etcd_quorum_lost(layout: &Layout) -> Result<()> {
    let members = running(layout, "etcd")?;
    let signal = |signal: &str| {
        let commands = members.iter().skip(1).map(|member| {
            layout.shell.act(&["nomad", "alloc", "signal", "-s", signal, "-task", "etcd", &member.id])
        });
        // The others too when one fails.
        commands.collect::<Vec<_>>().into_iter().try_for_each(|signalled| signalled.map(drop))
    };
    // Before, because Patroni may not answer while etcd does not.
    let pause = if layout.shell.dry_run { 0 } else { ttl(layout)? + 15 };
    let stopped = signal("SIGSTOP");
    if stopped.is_ok() {
        sleep(Duration::from_secs(pause));
    }
    signal("SIGCONT")?;
    stopped
}

fn drain_leader(layout: &Layout) -> Result<()> {
    let (before, allocation) = leader(layout)?;
    let nodes = layout.nomad.api("/v1/nodes")?;
    let node =
        nodes.as_array().into_iter().flatten().find(|node| node["Name"] == allocation.node_name.as_str());
    let id = node.and_then(|node| node["ID"].as_str()).context("the leader's node is not known")?.to_owned();
    let drained = layout
        .shell
        .act(&["nomad", "node", "drain", "-enable", "-yes", "-ignore-system=false", "-deadline", "5m", &id])
        .and_then(|_| another_leads(layout, &before, Duration::from_secs(120)));
    layout.shell.act(&["nomad", "node", "drain", "-disable", "-yes", &id])?;
    layout.shell.act(&["nomad", "node", "eligibility", "-enable", &id])?;
    drained
}
