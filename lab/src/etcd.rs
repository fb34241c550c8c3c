//! Three etcd servers, and the requests that the lab makes to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_client::{Client, ConnectOptions};

use crate::addresses::Subnet;
use crate::process::Process;
use crate::reaper::Reaper;
use crate::user::User;

/// The smallest number of which one may fail.
pub(crate) const SERVERS: u8 = 3;
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// First host number of the servers in the cluster's /24.
const FIRST_HOST: u8 = 11;
/// One request. Longer than an election, so that a change of etcd's leader is waited out.
const REQUEST: Duration = Duration::from_secs(4);

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
            // On a loaded machine, with three servers on one disk, a pause must not look like a dead etcd leader.
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

    pub(crate) fn start(&mut self, reaper: &Reaper, user: &User, program: &Path) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = user.command(program);
        command.args(&self.arguments);
        self.process = Some(Process::start(reaper, &self.name, command, &self.directory)?);
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

/// A client for a watch. It has no timeout for requests, but notices a server that does not respond any more.
pub(crate) async fn connect_for_watch(address: SocketAddr) -> Result<Client> {
    let options = ConnectOptions::new()
        .with_connect_timeout(REQUEST)
        .with_keep_alive(Duration::from_secs(2), REQUEST)
        .with_require_leader(true);
    Client::connect([format!("http://{address}")], Some(options)).await.context("connecting to etcd")
}

/// The value of a key, from a linearizable read; `None` when there is no such key.
pub(crate) async fn read(addresses: &[SocketAddr], key: &str) -> Result<Option<String>> {
    let mut last = None;
    // One server after the other: a client of all of them may keep choosing one that is stopped.
    for address in addresses {
        match read_from(*address, key).await {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no etcd server was given")?).with_context(|| format!("reading {key} from etcd"))
}

/// Moves etcd's own leadership to another of its servers.
pub(crate) async fn move_leader(addresses: &[SocketAddr]) -> Result<()> {
    let mut followers = Vec::new();
    let mut leader = None;
    for address in addresses {
        let Ok(mut client) = connect(*address).await else { continue };
        let Ok(status) = client.status().await else { continue };
        let id = status.header().map(etcd_client::ResponseHeader::member_id).unwrap_or_default();
        if id == status.leader() {
            leader = Some(client);
        } else {
            followers.push(id);
        }
    }
    let mut leader = leader.context("no etcd server says that it is the leader")?;
    let follower = *followers.first().context("etcd has no other server that could lead")?;
    leader.move_leader(follower).await.context("moving etcd's leadership").map(drop)
}

async fn read_from(address: SocketAddr, key: &str) -> Result<Option<String>> {
    let read = async {
        let mut client = connect(address).await?;
        let response = client.get(key, None).await?;
        anyhow::Ok(response.kvs().first().map(|pair| String::from_utf8_lossy(pair.value()).into_owned()))
    };
    // On the heap, because it is a large future.
    tokio::time::timeout(REQUEST, Box::pin(read))
        .await
        .with_context(|| format!("{address} did not answer"))?
}

async fn connect(address: SocketAddr) -> Result<Client> {
    let options = ConnectOptions::new().with_connect_timeout(REQUEST).with_timeout(REQUEST);
    Client::connect([format!("http://{address}")], Some(options)).await.context("connecting to etcd")
}
