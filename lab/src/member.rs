//! One member: Patroni with its PostgreSQL, their addresses, their links and their processes.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::runtime::Handle;

use crate::addresses::Subnet;
use crate::binaries::Binaries;
use crate::certificates::Authority;
use crate::link::{Link, LinkMode};
use crate::options::ClusterOptions;
use crate::patroni::{self, Place};
use crate::process::{self, Process, User};

const POSTGRES_PORT: u16 = 5432;
const REST_PORT: u16 = 8008;
const ETCD_PORT: u16 = 2379;
/// First host numbers in the /24: where the servers listen, where their links listen, and the members' links to etcd.
const SERVER_HOST: u8 = 21;
const LINK_HOST: u8 = 31;
const ETCD_LINK_HOST: u8 = 41;
/// How long killed processes may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// The addresses of a member; they never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Patroni's name for it: `a`, `b`, …
    pub name: String,
    /// PostgreSQL as others reach it: the member's `connect_address`, a link unless `ClusterOptions::data_links` is off.
    pub postgres: SocketAddr,
    /// PostgreSQL itself, through no link. Also what `inet_server_addr()` says, however one connected.
    pub postgres_direct: SocketAddr,
    /// Patroni's REST interface as others reach it (a link).
    pub rest: SocketAddr,
    /// Patroni's REST interface itself.
    pub rest_direct: SocketAddr,
    /// PostgreSQL's data directory.
    pub data: PathBuf,
    /// The log of Patroni and PostgreSQL.
    pub log: PathBuf,
}

impl Member {
    pub(crate) fn new(setup: &ClusterOptions, subnet: &Subnet, number: u8, directory: &Path) -> Self {
        let postgres_direct = subnet.socket(SERVER_HOST + number, POSTGRES_PORT);
        let link = subnet.socket(LINK_HOST + number, POSTGRES_PORT);
        Self {
            name: name_of(number),
            postgres: if setup.data_links { link } else { postgres_direct },
            postgres_direct,
            rest: subnet.socket(LINK_HOST + number, REST_PORT),
            rest_direct: subnet.socket(SERVER_HOST + number, REST_PORT),
            data: directory.join("data"),
            log: directory.join("member.log"),
        }
    }
}

fn name_of(number: u8) -> String {
    char::from(b'a' + number).to_string()
}

/// The links around a member.
#[derive(Debug)]
pub(crate) struct MemberLinks {
    /// To its PostgreSQL; none when clients go directly.
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
    /// Writes the configuration; nothing runs yet.
    pub(crate) fn prepare(
        setup: &ClusterOptions,
        member: &Member,
        links: &MemberLinks,
        (user, binaries): (&User, &Binaries),
        authority: Option<&Authority>,
    ) -> Result<Self> {
        let directory = member.data.parent().context("the data directory has a parent")?.to_path_buf();
        let etcd: Vec<SocketAddr> = links.etcd.iter().map(Link::address).collect();
        let place = Place {
            name: &member.name,
            listen: (member.postgres_direct, member.rest_direct),
            connect: (member.postgres, member.rest),
            etcd: &etcd,
            directory: &directory,
            postgres_bin: &binaries.postgres,
        };
        make_directory(&directory, user)?;
        fs::write(directory.join("patroni.yml"), patroni::configuration(setup, &place))
            .context("writing Patroni's configuration")?;
        if let Some(authority) = authority {
            authority.issue(&directory, member, user)?;
        }
        Ok(Self { member: member.clone(), directory, patroni: None })
    }

    pub(crate) fn start_patroni(&mut self, user: &User, program: &Path) -> Result<()> {
        if self.patroni.as_mut().is_some_and(|patroni| patroni.check_running().is_ok()) {
            return Ok(());
        }
        let mut command = user.command(program);
        command.arg(self.directory.join("patroni.yml"));
        let name = format!("Patroni of {}", self.member.name);
        self.patroni = Some(Process::start(&name, command, &self.directory, self.member.log.clone())?);
        Ok(())
    }

    pub(crate) fn check_running(&mut self) -> Result<()> {
        match &mut self.patroni {
            Some(patroni) => patroni.check_running(),
            None => bail!("Patroni of {} is stopped", self.member.name),
        }
    }

    /// SIGKILL to Patroni alone: PostgreSQL goes on, writable if it was.
    pub(crate) fn kill_patroni(&mut self) -> Result<()> {
        match self.patroni.take() {
            Some(mut patroni) => patroni.kill(),
            None => Ok(()),
        }
    }

    /// SIGKILL to PostgreSQL alone.
    pub(crate) fn kill_postgres(&self) -> Result<()> {
        let Some(postmaster) = self.postmaster() else {
            bail!("PostgreSQL of {} is not running", self.member.name)
        };
        kill_tree(postmaster)
    }

    /// SIGKILL to both. Patroni first, so that it sees nothing and tells nobody.
    pub(crate) fn kill_all(&mut self) -> Result<()> {
        let postmaster = self.postmaster();
        self.kill_patroni()?;
        postmaster.map_or(Ok(()), kill_tree)
    }

    /// SIGSTOP or SIGCONT to Patroni and PostgreSQL with all their children.
    pub(crate) fn signal_all(&self, signal: Signal) {
        // Parents first, so that none forks a child unseen; twice for the ones that were born meanwhile.
        for _ in 0..2 {
            for pid in self.roots().into_iter().flat_map(process::tree) {
                process::signal_pid(pid, signal);
            }
        }
    }

    /// SIGSTOP or SIGCONT to the process that draws WAL from the leader, if there is one. A stopped one neither reads nor
    /// answers, which is what the leader would see of a partition.
    pub(crate) fn signal_walreceiver(&self, signal: Signal) {
        for pid in self.postmaster().into_iter().flat_map(process::tree) {
            let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if title.contains("walreceiver") {
                process::signal_pid(pid, signal);
            }
        }
    }

    fn roots(&self) -> Vec<u32> {
        self.patroni.as_ref().map(Process::id).into_iter().chain(self.postmaster()).collect()
    }

    /// The postmaster's pid, if the one that its file names is alive and is PostgreSQL.
    pub(crate) fn postmaster(&self) -> Option<u32> {
        let file = fs::read_to_string(self.member.data.join("postmaster.pid")).ok()?;
        let pid = file.lines().next()?.trim().parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "postgres" && process::is_alive(pid)).then_some(pid)
    }
}

pub(crate) fn make_directory(directory: &Path, user: &User) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    if let User::Other { uid, gid, .. } = user {
        chown(directory, Some(*uid), Some(*gid))
            .with_context(|| format!("giving {} away", directory.display()))?;
    }
    Ok(())
}

/// Kills a process with its descendants and waits until all are gone: PostgreSQL does not start while one of an earlier
/// run still holds its shared memory.
fn kill_tree(root: u32) -> Result<()> {
    // Stopped first: a postmaster that sees a child die would start to recover.
    process::signal_pid(root, Signal::STOP);
    let pids = process::tree(root);
    for pid in &pids {
        process::signal_pid(*pid, Signal::KILL);
    }
    let deadline = Instant::now() + GONE;
    while let Some(pid) = pids.iter().find(|pid| process::is_alive(**pid)) {
        if Instant::now() > deadline {
            bail!("process {pid} is still there {GONE:?} after SIGKILL");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
