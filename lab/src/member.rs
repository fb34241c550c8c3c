//! One member: Patroni and its PostgreSQL, with their addresses, links and processes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tokio::runtime::Handle;

use crate::addresses::Subnet;
use crate::certificates::CertificateAuthority;
use crate::link::{Link, LinkMode};
use crate::options::ClusterOptions;
use crate::patroni::{self, MemberSettings};
use crate::process::{Process, signal_pid};
use crate::process_tree::{is_alive, program_name, title, tree};
use crate::programs::Programs;
use crate::reaper::Reaper;
use crate::user::User;
use crate::wait::retry;

const POSTGRES_PORT: u16 = 5432;
const REST_PORT: u16 = 8008;
const ETCD_PORT: u16 = 2379;
/// First host numbers in the /24: of the servers, of the links to them, and of the members' links to etcd.
const SERVER_HOST: u8 = 21;
const LINK_HOST: u8 = 31;
const ETCD_LINK_HOST: u8 = 41;
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// The addresses of a member. They never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Patroni's name for it: `a`, `b`, …
    pub name: String,
    /// PostgreSQL as others reach it (the member's `connect_address`): a link, unless `ClusterOptions::data_links` is off.
    pub postgres: SocketAddr,
    /// PostgreSQL itself, without a link. `inet_server_addr()` returns this address in every session.
    pub postgres_direct: SocketAddr,
    /// Patroni's REST interface as others reach it: a link.
    pub rest: SocketAddr,
    /// Patroni's REST interface itself.
    pub rest_direct: SocketAddr,
    /// PostgreSQL's data directory.
    pub data: PathBuf,
    /// The log of Patroni and PostgreSQL.
    pub log: PathBuf,
}

impl Member {
    pub(crate) fn new(options: &ClusterOptions, subnet: &Subnet, number: u8, directory: &Path) -> Self {
        let name = name_of(number);
        let postgres_direct = subnet.socket(SERVER_HOST + number, POSTGRES_PORT);
        let link = subnet.socket(LINK_HOST + number, POSTGRES_PORT);
        Self {
            postgres: if options.data_links { link } else { postgres_direct },
            postgres_direct,
            rest: subnet.socket(LINK_HOST + number, REST_PORT),
            rest_direct: subnet.socket(SERVER_HOST + number, REST_PORT),
            data: directory.join("data"),
            log: directory.join(format!("{}.log", process_name(&name))),
            name,
        }
    }
}

/// The name of member `number`, counted from 0.
pub(crate) fn name_of(number: u8) -> String {
    char::from(b'a' + number).to_string()
}

fn process_name(member: &str) -> String {
    format!("patroni-{member}")
}

/// The links around a member.
#[derive(Debug)]
pub(crate) struct MemberLinks {
    /// To its PostgreSQL; none when clients connect directly.
    pub(crate) postgres: Option<Link>,
    /// To its REST interface.
    pub(crate) rest: Link,
    /// From its Patroni to each etcd server.
    pub(crate) etcd: Vec<Link>,
}

impl MemberLinks {
    pub(crate) fn start(
        runtime: &Handle,
        subnet: &Subnet,
        (number, member): (u8, &Member),
        etcd: &[SocketAddr],
    ) -> Result<Self> {
        let postgres = (member.postgres != member.postgres_direct)
            .then(|| Link::start(runtime, member.postgres, member.postgres_direct))
            .transpose()?;
        let rest = Link::start(runtime, member.rest, member.rest_direct)?;
        let mut links = Vec::new();
        for (host, server) in (ETCD_LINK_HOST + 10 * number..).zip(etcd) {
            links.push(Link::start(runtime, subnet.socket(host, ETCD_PORT), *server)?);
        }
        Ok(Self { postgres, rest, etcd: links })
    }

    pub(crate) fn set_etcd(&self, mode: LinkMode) {
        self.etcd.iter().for_each(|link| link.set(mode));
    }

    pub(crate) fn set_all(&self, mode: LinkMode) {
        self.set_etcd(mode);
        self.rest.set(mode);
        self.postgres.iter().for_each(|link| link.set(mode));
    }
}

/// The processes of a member.
#[derive(Debug)]
pub(crate) struct MemberProcesses {
    member: Member,
    directory: PathBuf,
    patroni: Option<Process>,
}

impl MemberProcesses {
    /// Writes the configuration; nothing is started yet.
    pub(crate) fn prepare(
        options: &ClusterOptions,
        member: &Member,
        links: &MemberLinks,
        (user, programs): (&User, &Programs),
        ca: Option<&CertificateAuthority>,
    ) -> Result<Self> {
        let directory = member.data.parent().context("the data directory has a parent")?.to_path_buf();
        let etcd: Vec<SocketAddr> = links.etcd.iter().map(Link::address).collect();
        let settings = MemberSettings {
            name: &member.name,
            listen: (member.postgres_direct, member.rest_direct),
            connect: (member.postgres, member.rest),
            etcd: &etcd,
            directory: &directory,
            postgres_bin: &programs.postgres,
        };
        make_directory(&directory, user)?;
        fs::write(directory.join("patroni.yml"), patroni::configuration(options, &settings))
            .context("writing Patroni's configuration")?;
        if let Some(ca) = ca {
            let addresses = [member.postgres, member.postgres_direct].map(|address| address.ip().to_string());
            let names = [&["localhost".to_owned(), member.name.clone()][..], &addresses].concat();
            ca.issue(names, &directory, user)?;
        }
        Ok(Self { member: member.clone(), directory, patroni: None })
    }

    pub(crate) fn start_patroni(&mut self, reaper: &Reaper, user: &User, program: &Path) -> Result<()> {
        if self.patroni.as_mut().is_some_and(|patroni| patroni.check_running().is_ok()) {
            return Ok(());
        }
        let mut command = user.command(program);
        command.arg(self.directory.join("patroni.yml"));
        let name = process_name(&self.member.name);
        self.patroni = Some(Process::start(reaper, &name, command, &self.directory)?);
        Ok(())
    }

    pub(crate) fn check_running(&mut self) -> Result<()> {
        match &mut self.patroni {
            Some(patroni) => patroni.check_running(),
            None => bail!("Patroni of {} is stopped", self.member.name),
        }
    }

    /// SIGKILL to Patroni alone. PostgreSQL goes on, and stays writable if it was.
    pub(crate) fn kill_patroni(&mut self) -> Result<()> {
        match self.patroni.take() {
            Some(mut patroni) => patroni.kill(),
            None => Ok(()),
        }
    }

    /// SIGKILL to PostgreSQL alone.
    pub(crate) fn kill_postgres(&self) -> Result<()> {
        kill_tree(self.running_postmaster()?)
    }

    /// SIGKILL to both. Patroni first, so that it cannot react to PostgreSQL's end.
    pub(crate) fn kill_all(&mut self) -> Result<()> {
        let postmaster = self.postmaster();
        self.kill_patroni()?;
        postmaster.map_or(Ok(()), kill_tree)
    }

    /// SIGSTOP to Patroni alone.
    pub(crate) fn stop_patroni(&self) -> Result<()> {
        let patroni = self.patroni.as_ref();
        patroni
            .with_context(|| format!("Patroni of {} is not running", self.member.name))?
            .signal(Signal::STOP);
        Ok(())
    }

    /// SIGSTOP or SIGCONT to Patroni, PostgreSQL and all their children.
    pub(crate) fn signal_all(&self, signal: Signal) {
        // Twice, to reach children that were forked while the first round ran.
        for _ in 0..2 {
            let roots = self.patroni.as_ref().map(Process::id).into_iter().chain(self.postmaster());
            roots.flat_map(tree).for_each(|pid| signal_pid(pid, signal));
        }
    }

    /// SIGSTOP to PostgreSQL and all its children. Patroni keeps running.
    pub(crate) fn stop_postgres(&self) -> Result<()> {
        let postmaster = self.running_postmaster()?;
        // Twice, to reach children that were forked while the first round ran.
        for _ in 0..2 {
            tree(postmaster).into_iter().for_each(|pid| signal_pid(pid, Signal::STOP));
        }
        Ok(())
    }

    /// SIGSTOP or SIGCONT to the process that receives WAL from the leader, if there is one. To the leader a stopped one
    /// looks like a partition: it neither reads nor answers.
    pub(crate) fn signal_walreceiver(&self, signal: Signal) {
        for pid in self.postmaster().into_iter().flat_map(tree) {
            if title(pid).is_some_and(|title| title.contains("walreceiver")) {
                signal_pid(pid, signal);
            }
        }
    }

    fn running_postmaster(&self) -> Result<u32> {
        self.postmaster().with_context(|| format!("PostgreSQL of {} is not running", self.member.name))
    }

    /// The process that `postmaster.pid` names, if it is alive and is PostgreSQL.
    fn postmaster(&self) -> Option<u32> {
        let file = fs::read_to_string(self.member.data.join("postmaster.pid")).ok()?;
        let pid = file.lines().next()?.trim().parse().ok()?;
        (program_name(pid)? == "postgres" && is_alive(pid)).then_some(pid)
    }
}

pub(crate) fn make_directory(directory: &Path, user: &User) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    user.take_ownership(directory)
}

/// Kills a process with its descendants and waits until all are gone: PostgreSQL does not start as long as a process of
/// an earlier run is attached to its shared memory.
fn kill_tree(root: u32) -> Result<()> {
    // Stopped first: a postmaster that sees a child die would start a recovery.
    signal_pid(root, Signal::STOP);
    let pids = tree(root);
    pids.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
    retry("killed processes to be gone", GONE, || {
        let alive: Vec<&u32> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        ensure!(alive.is_empty(), "{alive:?} are still there");
        Ok(())
    })
}
