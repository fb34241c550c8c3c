//! The ways to the server that are compared. Each is started anew for each measurement, alone, and ended after it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use lab::Process;

use super::protocol::{USER, ask_blocking, startup};
use super::workshop::{Job, Workshop, until_it_works, words};
use super::{peers, programs};

/// The first contender's port; each has one of its own, so that no connection of one meets the remains of another's.
const FIRST_PORT: u16 = 6432;
/// Where ours has its admin page.
const ADMIN_PORT: u16 = 9433;
/// From its start to the first login through it.
const START: Duration = Duration::from_secs(20);
const LOGIN: Duration = Duration::from_secs(5);

/// What kind of a way it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// No proxy.
    Direct,
    /// The least work that epoll allows.
    Floor,
    /// Debian's HAProxy.
    Haproxy,
    /// The same with `option splice-auto`, for COPY.
    HaproxySplice,
    /// The newest HAProxy (`benches/newest-peers`).
    HaproxyNew,
    /// Debian's PgBouncer in session mode.
    Pgbouncer,
    /// The newest PgBouncer (`benches/newest-peers`) in session mode.
    PgbouncerNew,
    /// This project.
    PgLeaderProxy,
}

impl Kind {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Direct,
        Self::Floor,
        Self::Haproxy,
        Self::HaproxySplice,
        Self::HaproxyNew,
        Self::Pgbouncer,
        Self::PgbouncerNew,
        Self::PgLeaderProxy,
    ];

    /// Its name in tables and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy-splice",
            Self::HaproxyNew => "haproxy-new",
            Self::Pgbouncer => "pgbouncer",
            Self::PgbouncerNew => "pgbouncer-new",
            Self::PgLeaderProxy => "pg-leader-proxy",
        }
    }

    /// Whether it is one of the proxies to be measured against.
    #[must_use]
    pub fn is_peer(self) -> bool {
        match self {
            Self::Haproxy | Self::HaproxySplice | Self::HaproxyNew | Self::Pgbouncer | Self::PgbouncerNew => {
                true
            }
            Self::Direct | Self::Floor | Self::PgLeaderProxy => false,
        }
    }

    /// Whether it is PgBouncer, which speaks PostgreSQL itself.
    #[must_use]
    pub fn is_pgbouncer(self) -> bool {
        matches!(self, Self::Pgbouncer | Self::PgbouncerNew)
    }

    /// Whether it is HAProxy.
    #[must_use]
    pub fn is_haproxy(self) -> bool {
        matches!(self, Self::Haproxy | Self::HaproxySplice | Self::HaproxyNew)
    }
}

/// A contender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Its name: its kind's, or that of a variant of this project.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The program, if it has one.
    pub program: Option<PathBuf>,
    /// Settings of this project's proxy that are not at their defaults, as `key=value`.
    pub settings: Vec<String>,
}

/// What a measurement wants of a contender.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// The server as the contender reaches it.
    pub server: SocketAddr,
    /// The server as a client reaches it that uses no proxy.
    pub direct: SocketAddr,
    /// So many sessions at once.
    pub sessions: usize,
    /// Where HAProxy asks over HTTP whether the server leads; else it does not ask.
    pub check: Option<SocketAddr>,
    /// Whether to wait for a login; it is not when the server is in recovery.
    pub wait: bool,
}

/// A contender at work. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// Where clients reach it.
    pub address: SocketAddr,
    /// Where its admin page is, if it is this project's.
    pub admin: SocketAddr,
    process: Option<Process>,
}

impl Running {
    /// Its process; none where there is no proxy.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it has ended, with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::check_running)
    }
}

impl Contender {
    /// Starts it and waits until a client gets through, if that is demanded.
    ///
    /// # Errors
    /// When it does not start, with the end of its log.
    pub fn start(&self, workshop: &Workshop, demand: &Demand) -> Result<Running> {
        let port = FIRST_PORT + self.kind as u16;
        let listen = workshop.hosts.proxy_address(port);
        let admin = workshop.hosts.proxy_address(ADMIN_PORT);
        let Some(program) = &self.program else {
            return Ok(Running { address: demand.direct, admin, process: None });
        };
        let arguments = self.arguments(workshop, demand, listen)?;
        let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        let job = Job { name: &self.name, arguments: &arguments, environment: &[] };
        let process = workshop.start(&workshop.hosts.proxy, program, &job)?;
        let mut running = Running { address: listen, admin, process: Some(process) };
        let ready = until_it_works(START, || {
            if running.check_running().is_err() {
                // Nothing will get better: the caller asks again and says why.
                return Ok(());
            }
            workshop
                .hosts
                .client
                .within(|| if demand.wait { log_in(listen) } else { knock(listen).map(drop) })
        });
        running.check_running()?;
        ready.with_context(|| format!("no client gets through {}", self.name))?;
        Ok(running)
    }

    fn arguments(&self, workshop: &Workshop, demand: &Demand, listen: SocketAddr) -> Result<Vec<OsString>> {
        let write = |text: String| {
            let file = workshop.directory().join(format!("{}.conf", self.name));
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            anyhow::Ok(file.into_os_string())
        };
        let owned = |list: &[&str]| words(list).into_iter().map(OsStr::to_owned).collect();
        Ok(match self.kind {
            Kind::Direct => Vec::new(),
            Kind::Floor => owned(&["--listen", &listen.to_string(), "--server", &demand.server.to_string()]),
            Kind::Haproxy | Kind::HaproxyNew | Kind::HaproxySplice => {
                let splice = self.kind == Kind::HaproxySplice;
                vec!["-db".into(), "-f".into(), write(peers::haproxy(listen, demand, splice))?]
            }
            Kind::Pgbouncer | Kind::PgbouncerNew => {
                let users = workshop.directory().join("pgbouncer-users");
                fs::write(&users, format!("\"{USER}\" \"\"\n")).context("writing PgBouncer's users")?;
                vec!["-q".into(), write(peers::pgbouncer(listen, demand, &users))?]
            }
            Kind::PgLeaderProxy => self.own_arguments(workshop, demand, listen)?,
        })
    }

    /// The defaults of its keys, but for where everything is, the number of sessions, an admin page for the bench, and how
    /// often it asks a server that leads from the start.
    fn own_arguments(
        &self,
        workshop: &Workshop,
        demand: &Demand,
        listen: SocketAddr,
    ) -> Result<Vec<OsString>> {
        let (admin, sessions) =
            (workshop.hosts.proxy_address(ADMIN_PORT).to_string(), demand.sessions.to_string());
        let (server, listen) = (demand.server.to_string(), listen.to_string());
        let mut flags = vec![("member", &*server), ("probe-user", USER), ("probe-sslmode", "disable")];
        flags.extend([("write-listen", &*listen), ("admin-listen", &admin), ("log-filter", "warn")]);
        flags.extend([("session-max-sessions", &*sessions), ("write-max-held", &sessions)]);
        if demand.wait {
            // Without etcd it asks ten times as often as beside it, where it belongs.
            flags.push(("probe-interval", "5s"));
            flags.extend([("policy-max-probe-age", "10s"), ("policy-max-member-probe-age", "10s")]);
        }
        let mut arguments = vec![OsString::from("run")];
        arguments.extend(flags.iter().map(|(key, value)| OsString::from(format!("--{key}={value}"))));
        for setting in &self.settings {
            let (key, value) =
                setting.split_once('=').with_context(|| format!("{setting:?} is not KEY=VALUE"))?;
            let key = key.replace(['.', '_'], "-");
            arguments.retain(|known| !known.to_string_lossy().starts_with(&format!("--{key}=")));
            arguments.push(format!("--{key}={value}").into());
        }
        Ok(arguments)
    }
}

/// All contenders that this machine has, and for those it has not, why.
///
/// # Errors
/// When this project's own programs are not built.
pub fn available(kinds: &[Kind], settings: &[String]) -> Result<(Vec<Contender>, Vec<String>)> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for kind in kinds {
        match programs::find(*kind) {
            Ok(program) => found.push(Contender {
                name: kind.name().to_owned(),
                kind: *kind,
                program,
                settings: if *kind == Kind::PgLeaderProxy { settings.to_vec() } else { Vec::new() },
            }),
            Err(error) if kind.is_peer() => {
                missing.push(format!("{} did not take part: {error:#}", kind.name()));
            }
            Err(error) => return Err(error),
        }
    }
    ensure!(!found.is_empty(), "nobody takes part: {}", missing.join("; "));
    Ok((found, missing))
}

fn log_in(address: SocketAddr) -> Result<()> {
    let mut client = knock(address)?;
    client.set_read_timeout(Some(LOGIN))?;
    ask_blocking(&mut client, &startup())
}

fn knock(address: SocketAddr) -> Result<TcpStream> {
    Ok(TcpStream::connect_timeout(&address, LOGIN)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contender_is_called_the_same_everywhere() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
        }
    }
}
