//! The gate of the proxy: ready on both nodes, one leader for both, and every port leads where it should.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Gate;
use crate::http;
use crate::layout::Layout;
use crate::sql;

/// How long a connect may take before nobody listens there.
const CONNECT: Duration = Duration::from_secs(2);

/// The proxies at this write port; read port and page are at the same distance from it as in the variables.
#[must_use]
pub fn proxy(layout: &Layout, write_port: u16, within: Duration) -> Gate<'_> {
    Gate::new(format!("proxy on {write_port}"), within, move || look(layout, write_port))
}

fn look(layout: &Layout, write_port: u16) -> Result<String> {
    let site = &layout.site;
    let shifted = |port: u16| write_port.wrapping_sub(site.write_port).wrapping_add(port);
    let mut leaders = Vec::new();
    for node in &site.db_nodes {
        let page = format!("http://{}:{}", node.address, shifted(site.admin_port));
        let (status, body) =
            http::get(&format!("{page}/ready")).with_context(|| format!("the proxy on {}", node.node))?;
        ensure!(status == 200, "the proxy on {} is not ready: {}", node.node, body.trim());
        let leader =
            http::json(&format!("{page}/leader")).with_context(|| format!("the proxy on {}", node.node))?;
        leaders.push(
            leader["member"].as_str().with_context(|| format!("{page}/leader says {leader}"))?.to_owned(),
        );
        for (port, expected) in [(write_port, "f"), (shifted(site.read_port), "t")] {
            let login = layout.login("monitor", "postgres", &[(&node.address, port)])?;
            let recovering = sql::value(&login, "SELECT pg_is_in_recovery()")
                .with_context(|| format!("{}:{port}", node.address))?;
            ensure!(
                recovering == expected,
                "{}:{port} says pg_is_in_recovery() = {recovering}",
                node.address
            );
        }
    }
    ensure!(
        leaders.windows(2).all(|pair| pair[0] == pair[1]),
        "the proxies name different leaders: {leaders:?}"
    );
    Ok(format!("{}/{}, leader {}", leaders.len(), leaders.len(), leaders[0]))
}

/// Nobody listens on this port of any database node.
#[must_use]
pub fn silent(layout: &Layout, port: u16, within: Duration) -> Gate<'_> {
    Gate::new(format!("nobody listens on {port}"), within, move || {
        for address in layout.database_addresses() {
            ensure!(!listens(address, port)?, "{address}:{port} still takes connections");
        }
        Ok("so it is".to_owned())
    })
}

pub(crate) fn listens(address: &str, port: u16) -> Result<bool> {
    let address: SocketAddr =
        (address, port).to_socket_addrs()?.next().with_context(|| format!("{address} is no address"))?;
    Ok(TcpStream::connect_timeout(&address, CONNECT).is_ok())
}
