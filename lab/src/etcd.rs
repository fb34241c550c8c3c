//! Three etcd servers, and the requests that the lab makes to them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use etcd_client::{Client, ConnectOptions, PutOptions};

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
    let value = first_answer(addresses, async |mut client| {
        let response = client.get(key, None).await?;
        Ok(response.kvs().first().map(|pair| String::from_utf8_lossy(pair.value()).into_owned()))
    });
    value.await.with_context(|| format!("reading {key} from etcd"))
}

/// Gives a key a value. The key keeps its lease, if it has one.
pub(crate) async fn put(addresses: &[SocketAddr], key: &str, value: &str) -> Result<()> {
    let put = first_answer(addresses, async |mut client| {
        let lease = lease_of(&mut client, key).await?.unwrap_or_default();
        Ok(client.put(key, value, Some(PutOptions::new().with_lease(lease))).await?)
    });
    put.await.with_context(|| format!("writing {key} to etcd")).map(drop)
}

/// Deletes a key, if there is one.
pub(crate) async fn delete(addresses: &[SocketAddr], key: &str) -> Result<()> {
    let deleted = first_answer(addresses, async |mut client| Ok(client.delete(key, None).await?));
    deleted.await.with_context(|| format!("deleting {key} from etcd")).map(drop)
}

/// Renews the lease that a key hangs on, once.
pub(crate) async fn renew_lease(addresses: &[SocketAddr], key: &str) -> Result<()> {
    let renewed = first_answer(addresses, async |mut client| {
        let lease = lease_of(&mut client, key).await?.context("it hangs on no lease")?;
        // The first renewal is part of opening the stream, and an error if the lease has expired.
        client.lease_keep_alive(lease).await.map(drop).map_err(anyhow::Error::from)
    });
    renewed.await.with_context(|| format!("renewing the lease of {key}"))
}

async fn lease_of(client: &mut Client, key: &str) -> Result<Option<i64>> {
    let response = client.get(key, None).await?;
    Ok(response.kvs().first().map(etcd_client::KeyValue::lease).filter(|lease| *lease != 0))
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

/// What the first server answers that answers.
async fn first_answer<T>(addresses: &[SocketAddr], ask: impl AsyncFn(Client) -> Result<T>) -> Result<T> {
    let mut last = None;
    // One server after the other: a client of all of them may keep choosing one that is stopped.
    for address in addresses {
        // On the heap, because it is a large future.
        let answer = Box::pin(async { ask(connect(*address).await?).await });
        match tokio::time::timeout(REQUEST, answer).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(anyhow!("{address} did not answer")),
        }
    }
    Err(last.context("no etcd server was given")?)
}

async fn connect(address: SocketAddr) -> Result<Client> {
    let options = ConnectOptions::new().with_connect_timeout(REQUEST).with_timeout(REQUEST);
    Client::connect([format!("http://{address}")], Some(options)).await.context("connecting to etcd")
}
