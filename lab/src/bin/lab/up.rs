//! `lab up`: a cluster to play with.

use std::io::Write;

use anyhow::Result;
use lab::{Cluster, ClusterOptions, MONITOR, Proxy};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

use crate::command;

/// The observer whose place the proxy has.
const OBSERVER: &str = "proxy";

/// Starts everything, prints it, and then does what is typed. It ends only with the program.
pub(crate) async fn up(setup: ClusterOptions, with_proxy: bool, out: &mut impl Write) -> Result<()> {
    writeln!(out, "starting a cluster of {} …", setup.members)?;
    let cluster = Cluster::start(setup).await?;
    let proxy = if with_proxy { Some(Proxy::start(&cluster.proxy_command(OBSERVER)?).await?) } else { None };
    describe(&cluster, out)?;
    if let Some(proxy) = &proxy {
        describe_proxy(&cluster, proxy, out)?;
    }
    writeln!(out, "\nCtrl-C ends it all. Type a fault, or \"help\".")?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Err(error) = command::run(&cluster, &line, out).await {
            writeln!(out, "{error:#}")?;
        }
        out.flush()?;
    }
    // No terminal: nothing can be typed, and the cluster is wanted all the same.
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
    writeln!(out, "probe user  {} with password {}", MONITOR.user, MONITOR.password)?;
    Ok(())
}

/// Where the proxy's routes and its page are.
pub(crate) fn describe_proxy(cluster: &Cluster, proxy: &Proxy, out: &mut impl Write) -> Result<()> {
    let listen = cluster.proxy_addresses(OBSERVER)?;
    writeln!(out, "proxy write {}", cluster.app_url(listen.write))?;
    writeln!(out, "proxy read  {}", cluster.app_url(listen.read))?;
    writeln!(out, "admin page  http://{}/", proxy.admin())?;
    Ok(())
}
