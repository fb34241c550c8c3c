//! HAProxy as people put it before Patroni: three configurations, and the process.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::Member;

/// How HAProxy finds out which server to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A plain TCP connect, HAProxy's own defaults; the first member preferred, the others its backup.
    Tcp,
    /// Patroni's REST interface, with the values of the `haproxy.cfg` that Patroni comes with.
    Rest,
    /// The same, asked every 100 ms and believed at once.
    Rest100Ms,
}

/// As in Patroni's `haproxy.cfg`.
const HEAD: &str = "global
    maxconn 100

defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(5);

/// The configuration file.
#[must_use]
pub fn configuration(check: Check, listen: SocketAddr, members: &[Member]) -> String {
    let mut text = format!("{HEAD}\nlisten primary\n    bind {listen}\n");
    let (head, server) = match check {
        Check::Tcp => ("    default-server check\n", ""),
        Check::Rest => (
            "    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions\n",
            " maxconn 100",
        ),
        Check::Rest100Ms => (
            "    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 100ms fastinter 100ms fall 1 rise 1 on-marked-down shutdown-sessions\n",
            " maxconn 100",
        ),
    };
    text.push_str(head);
    for (number, member) in members.iter().enumerate() {
        text.push_str(&format!("    server {} {}{server}", member.name, member.postgres_direct));
        match check {
            Check::Tcp if number > 0 => text.push_str(" backup"),
            Check::Tcp => {}
            Check::Rest | Check::Rest100Ms => {
                text.push_str(&format!(" check port {}", member.rest_direct.port()));
            }
        }
        text.push('\n');
    }
    text
}

/// A running HAProxy. Dropping it kills it.
#[derive(Debug)]
pub struct Haproxy(Child);

impl Haproxy {
    /// Starts one with its files in `directory`, and waits until it listens.
    ///
    /// # Errors
    /// When it is not installed, refuses its configuration or does not listen in time.
    pub async fn start(directory: &Path, listen: SocketAddr, configuration: &str) -> Result<Self> {
        let file = directory.join("haproxy.cfg");
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&file, configuration))
            .with_context(|| format!("writing {}", file.display()))?;
        let log = fs::File::create(directory.join("haproxy.log")).context("creating HAProxy's log")?;
        // A killed benchmark must leave nothing behind that still listens.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "haproxy", "-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing HAProxy's log")?)
            .stderr(log)
            .spawn()
            .context("starting haproxy through setpriv (apt-get install haproxy util-linux)")?;
        let mut running = Self(child);
        let deadline = Instant::now() + START;
        while tokio::net::TcpStream::connect(listen).await.is_err() {
            if let Some(status) = running.0.try_wait().context("asking for haproxy")? {
                let log = fs::read_to_string(directory.join("haproxy.log")).unwrap_or_default();
                bail!("haproxy ended ({status}):\n{log}");
            }
            anyhow::ensure!(Instant::now() < deadline, "haproxy does not listen on {listen} after {START:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(running)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<Member> {
        let member = |name: &str, host: u8| Member {
            name: name.to_owned(),
            postgres: SocketAddr::from(([127, 2, 3, host], 5432)),
            postgres_direct: SocketAddr::from(([127, 2, 3, host], 5432)),
            rest: SocketAddr::from(([127, 2, 3, host], 8008)),
            rest_direct: SocketAddr::from(([127, 2, 3, host], 8008)),
            data: "data".into(),
            log: "log".into(),
        };
        vec![member("a", 21), member("b", 22)]
    }

    #[test]
    fn only_the_tcp_check_prefers_a_member() {
        let listen = SocketAddr::from(([127, 2, 3, 91], 5433));
        let tcp = configuration(Check::Tcp, listen, &members());
        assert!(tcp.contains("server a 127.2.3.21:5432\n"), "{tcp}");
        assert!(tcp.contains("server b 127.2.3.22:5432 backup\n"), "{tcp}");
        let rest = configuration(Check::Rest, listen, &members());
        assert!(rest.contains("server b 127.2.3.22:5432 maxconn 100 check port 8008\n"), "{rest}");
        assert!(!rest.contains("backup"), "{rest}");
    }
}
