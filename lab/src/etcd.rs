//! Three etcd servers and what the lab asks them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_client::{Client, ConnectOptions};

use crate::addresses::Subnet;
use crate::process::{Process, User};

/// Servers, so that one may fail.
pub(crate) const SERVERS: u8 = 3;
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// First host number of the servers in the cluster's /24.
const FIRST_HOST: u8 = 11;
/// One question to etcd. Longer than an election, so that a change of etcd's leader is waited out.
const QUESTION: Duration = Duration::from_secs(4);

/// One etcd server, running or stopped.
#[derive(Debug)]
pub(crate) struct Etcd {
    pub(crate) address: SocketAddr,
    name: String,
    directory: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Etcd {
    pub(crate) fn new(subnet: &Subnet, number: u8, directory: &Path) -> Self {
        let name = name_of(number);
        let client = subnet.socket(FIRST_HOST + number, CLIENT_PORT);
        let peer = subnet.socket(FIRST_HOST + number, PEER_PORT);
        let cluster: Vec<String> = (0..SERVERS)
            .map(|one| format!("{}=http://{}", name_of(one), subnet.socket(FIRST_HOST + one, PEER_PORT)))
            .collect();
        let arguments = [
            ("--name", name.clone()),
            ("--data-dir", directory.join("data").display().to_string()),
            ("--listen-client-urls", format!("http://{client}")),
            ("--advertise-client-urls", format!("http://{client}")),
            ("--listen-peer-urls", format!("http://{peer}")),
            ("--initial-advertise-peer-urls", format!("http://{peer}")),
            ("--initial-cluster", cluster.join(",")),
            ("--initial-cluster-token", "lab".to_owned()),
            // Pauses of a loaded machine (three servers share one disk) must not look like a dead etcd leader.
            ("--heartbeat-interval", "150".to_owned()),
            ("--election-timeout", "1500".to_owned()),
        ];
        let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        Self { address: client, name, directory: directory.to_path_buf(), arguments, process: None }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.check_running().is_ok())
    }

    pub(crate) fn was_started(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn check_running(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.check_running(),
            None => bail!("{} is stopped", self.name),
        }
    }

    pub(crate) fn start(&mut self, user: &User, program: &Path) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = user.command(program);
        command.args(&self.arguments);
        let log = self.directory.join("etcd.log");
        self.process = Some(Process::start(&self.name, command, &self.directory, log)?);
        Ok(())
    }

    /// SIGKILL; the data stays.
    pub(crate) fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }
}

pub(crate) fn name_of(number: u8) -> String {
    format!("etcd{}", number + 1)
}

/// A client of the given servers, not through any link.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> Result<Client> {
    let endpoints: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    let options = ConnectOptions::new().with_connect_timeout(QUESTION).with_timeout(QUESTION);
    Client::connect(endpoints, Some(options)).await.context("connecting to etcd")
}

/// A client for a watch, which must have no timeout of its own but must notice a server that went silent.
pub(crate) async fn connect_for_watch(address: SocketAddr) -> Result<Client> {
    let options = ConnectOptions::new()
        .with_connect_timeout(QUESTION)
        .with_keep_alive(Duration::from_secs(2), QUESTION)
        .with_require_leader(true);
    Client::connect([format!("http://{address}")], Some(options)).await.context("connecting to etcd")
}

/// The value of a key, read with quorum; `None` when there is no such key.
pub(crate) async fn read(addresses: &[SocketAddr], key: &str) -> Result<Option<String>> {
    let mut last = None;
    // Each server alone: a balancing client may keep choosing one that was stopped.
    for address in addresses {
        match read_from(*address, key).await {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no etcd server was given")?).with_context(|| format!("reading {key} from etcd"))
}

async fn read_from(address: SocketAddr, key: &str) -> Result<Option<String>> {
    let ask = async {
        let mut client = connect(&[address]).await?;
        let answer = client.get(key, None).await?;
        anyhow::Ok(answer.kvs().first().map(|pair| String::from_utf8_lossy(pair.value()).into_owned()))
    };
    tokio::time::timeout(QUESTION, ask).await.with_context(|| format!("{address} did not answer"))?
}

/// Moves etcd's own leadership to another server and gives the address of the new leader.
pub(crate) async fn move_leader(addresses: &[SocketAddr]) -> Result<SocketAddr> {
    let mut ids = Vec::new();
    let mut leader = None;
    for address in addresses {
        let Ok(mut client) = connect(&[*address]).await else { continue };
        let Ok(status) = client.status().await else { continue };
        let id = status.header().map(etcd_client::ResponseHeader::member_id).unwrap_or_default();
        if id == status.leader() {
            leader = Some((client, *address));
        } else {
            ids.push((id, *address));
        }
    }
    let (mut client, old) = leader.context("no etcd server says it is the leader")?;
    let (id, new) = ids.first().copied().context("etcd has no other server to lead")?;
    client.move_leader(id).await.with_context(|| format!("moving etcd's leadership from {old} to {new}"))?;
    Ok(new)
}
