//! The setups that are compared. Each is started anew for each measurement, alone, and ended after it.

mod kind;
mod options;
mod peer_configs;
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::Process;

use super::protocol::{USER, query_blocking, startup};
use super::sandbox::Sandbox;

pub use self::kind::SetupKind;
pub(crate) use self::options::StartOptions;

/// The first port of the setups. Each has its own, so that none meets leftover connections of another.
const FIRST_PORT: u16 = 6432;
/// The admin page of this project's proxy.
const ADMIN_PORT: u16 = 9433;
/// From the start to the first login through it.
const START: Duration = Duration::from_secs(20);
const LOGIN: Duration = Duration::from_secs(5);

/// A setup that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// The name of its kind, or of a variant of this project.
    pub(crate) name: String,
    pub(crate) kind: SetupKind,
    /// The program, if it has one.
    pub(crate) program: Option<PathBuf>,
    /// Settings of this project's proxy other than its defaults, as `key=value`.
    pub(crate) settings: Vec<String>,
}

/// A running setup. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct RunningSetup {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Where this project's admin page is.
    pub(crate) admin: SocketAddr,
    process: Option<Process>,
}

impl RunningSetup {
    /// Its process id; none without a proxy.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Checks that it is still running.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        self.process.as_mut().map_or(Ok(()), Process::check_running)
    }
}

impl Setup {
    /// Starts it and waits until a client can log in, or connect when there is no leader.
    pub(crate) fn start(&self, sandbox: &Sandbox, options: &StartOptions) -> Result<RunningSetup> {
        let listen = sandbox.hosts.proxy_address(FIRST_PORT + self.kind as u16);
        let admin = sandbox.hosts.proxy_address(ADMIN_PORT);
        let Some(program) = &self.program else {
            return Ok(RunningSetup { address: options.direct, admin, process: None });
        };
        let mut command = sandbox.command(&sandbox.hosts.proxy, program);
        command.args(self.arguments(sandbox, options, listen)?);
        let mut process = sandbox.start(&self.name, command)?;
        process.wait_until_ready(START, || {
            let ready = || if options.has_leader { log_in(listen) } else { connect(listen).map(drop) };
            sandbox.hosts.client.run(ready)
        })?;
        Ok(RunningSetup { address: listen, admin, process: Some(process) })
    }

    fn arguments(
        &self,
        sandbox: &Sandbox,
        options: &StartOptions,
        listen: SocketAddr,
    ) -> Result<Vec<String>> {
        let write = |name: &str, text: String| {
            let file = sandbox.directory().join(name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            anyhow::Ok(file)
        };
        let config = format!("{}.conf", self.name);
        Ok(match self.kind {
            SetupKind::Direct => Vec::new(),
            SetupKind::LowerBound => {
                vec![format!("--listen={listen}"), format!("--server={}", options.server)]
            }
            SetupKind::Haproxy | SetupKind::HaproxyNew | SetupKind::HaproxySplice => {
                let splice = self.kind == SetupKind::HaproxySplice;
                let config = write(&config, peer_configs::haproxy(listen, options, splice))?;
                vec!["-db".to_owned(), "-f".to_owned(), config.display().to_string()]
            }
            SetupKind::Pgbouncer | SetupKind::PgbouncerNew => {
                let users = write("pgbouncer-users", format!("\"{USER}\" \"\"\n"))?;
                let config = write(&config, peer_configs::pgbouncer(listen, options, &users))?;
                vec!["-q".to_owned(), config.display().to_string()]
            }
            SetupKind::PgLeaderProxy => {
                self.proxy_arguments(options, listen, sandbox.hosts.proxy_address(ADMIN_PORT))?
            }
        })
    }

    /// The defaults, except for the addresses, the number of sessions, an admin page for the benchmark, and how often it
    /// probes a server that is the leader from the start.
    fn proxy_arguments(
        &self,
        options: &StartOptions,
        listen: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Vec<String>> {
        let (server, listen, admin) = (options.server.to_string(), listen.to_string(), admin.to_string());
        let sessions = options.sessions.to_string();
        let mut flags = vec![
            ("member", &*server),
            ("probe-user", USER),
            ("probe-sslmode", "disable"),
            ("write-listen", &listen),
            ("admin-listen", &admin),
            ("log-filter", "warn"),
            ("session-max-sessions", &sessions),
            ("write-max-held", &sessions),
        ];
        if options.has_leader {
            // Without etcd the proxy probes ten times as often as with it.
            flags.push(("probe-interval", "5s"));
            flags.extend([("policy-max-probe-age", "10s"), ("policy-max-member-probe-age", "10s")]);
        }
        if options.one_thread {
            flags.push(("session-workers", "1"));
        }
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(flags.iter().map(|(key, value)| format!("--{key}={value}")));
        for setting in &self.settings {
            let (key, value) =
                setting.split_once('=').with_context(|| format!("{setting:?} is not KEY=VALUE"))?;
            let key = key.replace(['.', '_'], "-");
            arguments.retain(|known| !known.starts_with(&format!("--{key}=")));
            arguments.push(format!("--{key}={value}"));
        }
        Ok(arguments)
    }
}

/// The setups of these kinds whose programs are on this machine, and why the others are missing.
pub(crate) fn available(kinds: &[SetupKind], settings: &[String]) -> Result<(Vec<Setup>, Vec<String>)> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for kind in kinds {
        match programs::find(*kind) {
            Ok(program) => found.push(Setup {
                name: kind.name().to_owned(),
                kind: *kind,
                program,
                settings: if *kind == SetupKind::PgLeaderProxy { settings.to_vec() } else { Vec::new() },
            }),
            Err(error) if kind.is_peer() => {
                missing.push(format!("{} did not take part: {error:#}", kind.name()));
            }
            Err(error) => return Err(error),
        }
    }
    ensure!(!found.is_empty(), "there is no setup to measure: {}", missing.join("; "));
    Ok((found, missing))
}

/// The versions of the peers' programs.
pub(crate) fn versions(setups: &[Setup]) -> BTreeMap<String, String> {
    setups.iter().filter_map(|setup| programs::version(setup.kind, setup.program.as_ref()?)).collect()
}

fn log_in(address: SocketAddr) -> Result<()> {
    let mut client = connect(address)?;
    client.set_read_timeout(Some(LOGIN))?;
    query_blocking(&mut client, &startup())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    Ok(TcpStream::connect_timeout(&address, LOGIN)?)
}
