//! `lab up`: a cluster to try things on.

use std::io::Write;

use anyhow::Result;
use lab::{Cluster, ClusterOptions, MONITOR, Proxy, SUPERUSER};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

use crate::command;

/// The name of the proxy in the cluster.
pub(crate) const PROXY: &str = "proxy";

/// Starts everything, prints it, and then runs what is typed, until the program ends.
pub(crate) async fn up(options: ClusterOptions, with_proxy: bool, out: &mut impl Write) -> Result<()> {
    writeln!(out, "starting a cluster of {} …", options.members)?;
    let cluster = Cluster::start(options).await?;
    let proxy = if with_proxy { Some(Proxy::start(&cluster.proxy_command(PROXY)?).await?) } else { None };
    describe(&cluster, out)?;
    if let Some(proxy) = &proxy {
        describe_proxy(&cluster, proxy, out)?;
    }
    writeln!(out, "\nCtrl-C ends it all. Type a command, or \"help\".")?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Err(error) = command::run(&cluster, &line, out).await {
            writeln!(out, "{error:#}")?;
        }
        out.flush()?;
    }
    // End of input: no more commands, but the cluster stays.
    std::future::pending().await
}

fn describe(cluster: &Cluster, out: &mut impl Write) -> Result<()> {
    writeln!(out, "scope {}, files in {}", cluster.scope(), cluster.directory().display())?;
    for server in cluster.etcd_direct() {
        writeln!(out, "etcd        http://{server}")?;
    }
    for member in cluster.members() {
        writeln!(out, "member {}    {}", member.name, cluster.app_url(member.postgres))?;
        writeln!(out, "            REST http://{}  log {}", member.rest, member.log.display())?;
    }
    writeln!(out, "superuser   {} with password {}", SUPERUSER.user, SUPERUSER.password)?;
    writeln!(out, "probe user  {} with password {}", MONITOR.user, MONITOR.password)?;
    Ok(())
}

/// Prints where the proxy's routes and its page are.
pub(crate) fn describe_proxy(cluster: &Cluster, proxy: &Proxy, out: &mut impl Write) -> Result<()> {
    let addresses = cluster.proxy_addresses(PROXY)?;
    writeln!(out, "proxy write {}", cluster.app_url(addresses.write))?;
    writeln!(out, "proxy read  {}", cluster.app_url(addresses.read))?;
    writeln!(out, "admin page  http://{}/", proxy.admin())?;
    Ok(())
}
