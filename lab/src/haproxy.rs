//! HAProxy in front of Patroni's members, in three configurations.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::member::Member;
use crate::process::Process;
use crate::programs::installed_program;
use crate::reaper::Reaper;
use crate::user::User;

/// How long it may take until it listens.
const START: Duration = Duration::from_secs(5);

/// From Patroni's `haproxy.cfg`.
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

/// How HAProxy finds the server to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaproxyCheck {
    /// A TCP connect with HAProxy's defaults. The first member is preferred, the others are its backups.
    Tcp,
    /// Patroni's REST interface, with the values of Patroni's own `haproxy.cfg`.
    Rest,
    /// The same every 100 ms, with one answer enough to mark a server up or down.
    Rest100Ms,
}

/// Its configuration file.
#[must_use]
pub fn haproxy_configuration(check: HaproxyCheck, listen: SocketAddr, members: &[Member]) -> String {
    let (options, per_server) = match check {
        HaproxyCheck::Tcp => ("    default-server check\n", ""),
        HaproxyCheck::Rest => (
            "    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions\n",
            " maxconn 100",
        ),
        HaproxyCheck::Rest100Ms => (
            "    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 100ms fastinter 100ms fall 1 rise 1 on-marked-down shutdown-sessions\n",
            " maxconn 100",
        ),
    };
    let mut text = format!("{HEAD}\nlisten primary\n    bind {listen}\n{options}");
    for (number, member) in members.iter().enumerate() {
        let rest = match check {
            HaproxyCheck::Tcp if number > 0 => " backup".to_owned(),
            HaproxyCheck::Tcp => String::new(),
            HaproxyCheck::Rest | HaproxyCheck::Rest100Ms => format!(" check port {}", member.rest.port()),
        };
        let _ = writeln!(text, "    server {} {}{per_server}{rest}", member.name, member.postgres);
    }
    text
}

/// A running HAProxy. Dropping it ends it.
#[derive(Debug)]
pub struct Haproxy {
    // Dropped before the reaper, which removes the directory.
    _process: Process,
    _reaper: Reaper,
}

impl Haproxy {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When HAProxy is not installed, or does not listen within 5 seconds.
    pub fn start(listen: SocketAddr, configuration: &str) -> Result<Self> {
        let user = User::own();
        let reaper = Reaper::start(&user)?;
        let file = reaper.directory().join("haproxy.cfg");
        fs::write(&file, configuration).with_context(|| format!("writing {}", file.display()))?;
        let mut command = user.command(&installed_program("haproxy", "apt-get install haproxy")?);
        command.args(["-db", "-f"]).arg(&file);
        let mut process = Process::start(&reaper, "haproxy", command, reaper.directory())?;
        process.wait_until_ready(START, || Ok(TcpStream::connect(listen)?))?;
        Ok(Self { _process: process, _reaper: reaper })
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
        let tcp = haproxy_configuration(HaproxyCheck::Tcp, listen, &members());
        assert!(tcp.contains("server a 127.2.3.21:5432\n"), "{tcp}");
        assert!(tcp.contains("server b 127.2.3.22:5432 backup\n"), "{tcp}");
        let rest = haproxy_configuration(HaproxyCheck::Rest, listen, &members());
        assert!(rest.contains("server b 127.2.3.22:5432 maxconn 100 check port 8008\n"), "{rest}");
        assert!(!rest.contains("backup"), "{rest}");
    }
}
