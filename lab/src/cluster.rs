//! The cluster: started whole, asked for addresses, and gone with everything in it when dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio_postgres::Config;

use crate::addresses::Subnet;
use crate::background::Background;
use crate::binaries::Binaries;
use crate::certificates::Authority;
use crate::etcd::{self, Etcd};
use crate::member::{Member, MemberLinks, MemberProcesses, make_directory};
use crate::options::ClusterOptions;
use crate::patroni::{Credentials, SUPERUSER};
use crate::process::User;
use crate::proxy_network::ProxyNetwork;
use crate::reaper::Reaper;
use crate::session;

/// A user with no privilege beyond the defaults, as the proxy's probe should have.
pub const MONITOR: Credentials = Credentials { user: "monitor", password: "lab-monitor" };
/// The user of the application; it owns the database [`DATABASE`].
pub const APP: Credentials = Credentials { user: "app", password: "lab-app" };
/// The application's database.
pub const DATABASE: &str = "app";

/// etcd has to elect a leader, on a machine that may be busy compiling.
const ETCD_START: Duration = Duration::from_secs(30);
/// initdb, the first checkpoint, a base backup for each replica.
const CLUSTER_START: Duration = Duration::from_secs(120);

/// A running cluster. Every method takes `&self`, so it may be shared between tasks.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: what runs first, the reaper that sweeps after it, the relays, the claim on the addresses.
    pub(crate) members: Vec<Node>,
    pub(crate) etcd: Mutex<Vec<Etcd>>,
    pub(crate) proxy_networks: Mutex<BTreeMap<String, ProxyNetwork>>,
    reaper: Reaper,
    pub(crate) background: Background,
    pub(crate) subnet: Subnet,
    pub(crate) etcd_addresses: Vec<SocketAddr>,
    pub(crate) user: User,
    pub(crate) binaries: Binaries,
    setup: ClusterOptions,
    authority: Option<Authority>,
    pub(crate) ids: Arc<AtomicI64>,
}

/// A member with its links and processes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) member: Member,
    pub(crate) links: MemberLinks,
    pub(crate) processes: Mutex<MemberProcesses>,
}

impl Cluster {
    /// Starts etcd, then the member `a`, which becomes leader, then the others, and waits until all is healthy:
    /// about 15 seconds.
    ///
    /// # Errors
    /// When a program is missing (the error says what to install), a setting is impossible, or something does not come
    /// up in time (the error ends with its log).
    pub async fn start(setup: ClusterOptions) -> Result<Self> {
        check(&setup)?;
        let cluster = Self::prepare(setup)?;
        for server in cluster.etcd.lock().iter_mut() {
            server.start(&cluster.user, &cluster.binaries.etcd)?;
        }
        cluster.wait_for_etcd(ETCD_START).await?;
        let deadline = Instant::now() + CLUSTER_START;
        // One member first, so that tests may count on who leads.
        for (number, node) in cluster.members.iter().enumerate() {
            node.processes.lock().start_patroni(&cluster.user, &cluster.binaries.patroni)?;
            if number == 0 {
                cluster.wait_for_leader(deadline.saturating_duration_since(Instant::now())).await?;
                cluster.create_users().await?;
            }
        }
        cluster.wait_healthy(deadline.saturating_duration_since(Instant::now())).await?;
        Ok(cluster)
    }

    fn prepare(setup: ClusterOptions) -> Result<Self> {
        let binaries = Binaries::find(setup.patroni)?;
        let user = User::for_postgres()?;
        let subnet = Subnet::take(seed())?;
        let reaper = Reaper::start(&user)?;
        let background = Background::start("lab-links")?;
        let directory = reaper.directory();
        let authority = setup.tls.then(|| Authority::create(directory)).transpose()?;
        let mut servers = Vec::new();
        for number in 0..etcd::SERVERS {
            let place = directory.join(etcd::name_of(number));
            make_directory(&place, &user)?;
            servers.push(Etcd::new(&subnet, number, &place));
        }
        let etcd_addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
        let mut members = Vec::new();
        for number in 0..setup.members {
            let place = directory.join(char::from(b'a' + number).to_string());
            let member = Member::new(&setup, &subnet, number, &place);
            let links =
                MemberLinks::start(background.handle()?, &subnet, (number, &member), &etcd_addresses)?;
            let processes =
                MemberProcesses::prepare(&setup, &member, &links, (&user, &binaries), authority.as_ref())?;
            members.push(Node { member, links, processes: Mutex::new(processes) });
        }
        Ok(Self {
            members,
            etcd: Mutex::new(servers),
            proxy_networks: Mutex::default(),
            reaper,
            background,
            subnet,
            etcd_addresses,
            user,
            binaries,
            setup,
            authority,
            ids: Arc::new(AtomicI64::new(1)),
        })
    }

    async fn create_users(&self) -> Result<()> {
        let member = &self.members.first().context("the cluster has no member")?.member;
        let server = self.superuser(&member.name, "postgres").await?;
        for Credentials { user, password } in [MONITOR, APP] {
            let statement = format!("create user {user} password '{password}'");
            server.batch_execute(&statement).await.with_context(|| format!("creating the user {user}"))?;
        }
        let statement = format!("create database {DATABASE} owner {}", APP.user);
        server.batch_execute(&statement).await.context("creating the application's database")?;
        let app = self.superuser(&member.name, DATABASE).await?;
        let table = format!(
            "create table writes (id bigint primary key, at timestamptz not null default clock_timestamp());
             alter table writes owner to {}",
            APP.user
        );
        app.batch_execute(&table).await.context("creating the writers' table")
    }

    /// The settings it was started with.
    #[must_use]
    pub fn options(&self) -> &ClusterOptions {
        &self.setup
    }

    /// Patroni's scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.setup.scope
    }

    /// The leader key's full name in etcd.
    #[must_use]
    pub fn leader_key(&self) -> String {
        format!("/service/{}/leader", self.setup.scope)
    }

    /// Everything the cluster writes: data, configuration and logs. Gone at the end unless `LAB_KEEP=1`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.reaper.directory()
    }

    /// All members, in order of name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().map(|node| &node.member)
    }

    /// A member by name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn member(&self, name: &str) -> Result<&Member> {
        self.node(name).map(|node| &node.member)
    }

    /// The members' names other than this one, in order.
    #[must_use]
    pub fn others(&self, name: &str) -> Vec<String> {
        self.members().filter(|member| member.name != name).map(|member| member.name.clone()).collect()
    }

    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        self.members
            .iter()
            .find(|node| node.member.name == name)
            .with_context(|| format!("the cluster has no member {name:?}"))
    }

    /// The etcd servers themselves, through no link.
    #[must_use]
    pub fn etcd_direct(&self) -> &[SocketAddr] {
        &self.etcd_addresses
    }

    /// A free address of the cluster's /24 for something of the caller's own, such as a peer in a bench. `host` is
    /// 90 to 99; the lab uses none of them.
    #[must_use]
    pub fn spare_address(&self, host: u8, port: u16) -> SocketAddr {
        self.subnet.socket(host, port)
    }

    /// The CA that signed the servers' certificates, when `ClusterOptions::tls`.
    #[must_use]
    pub fn ca_certificate(&self) -> Option<PathBuf> {
        self.authority.as_ref().map(|authority| authority.certificate().to_path_buf())
    }

    /// How the application logs in at an address: a member's, or a proxy's.
    #[must_use]
    pub fn app_config(&self, address: SocketAddr) -> Config {
        session::config(address, &APP, DATABASE)
    }

    /// The same as text, for `psql` and other clients.
    #[must_use]
    pub fn app_url(&self, address: SocketAddr) -> String {
        format!("postgres://{}:{}@{address}/{DATABASE}", APP.user, APP.password)
    }

    /// A superuser's session with a member, through no link.
    ///
    /// # Errors
    /// When the member does not answer.
    pub async fn superuser(&self, member: &str, database: &str) -> Result<session::Session> {
        let address = self.member(member)?.postgres_direct;
        let config = session::config(address, &SUPERUSER, database);
        session::Session::open_within(&config, Duration::from_secs(5)).await
    }
}

fn check(setup: &ClusterOptions) -> Result<()> {
    ensure!((1..=5).contains(&setup.members), "a cluster has 1 to 5 members, not {}", setup.members);
    ensure!(setup.ttl >= 20, "Patroni takes no ttl below 20 seconds, {} was given", setup.ttl);
    ensure!(
        setup.ttl >= setup.loop_wait + 2 * setup.retry_timeout,
        "ttl {} < loop_wait {} + 2 * retry_timeout {}: Patroni would alter them",
        setup.ttl,
        setup.loop_wait,
        setup.retry_timeout
    );
    Ok(())
}

/// Somewhere else for each process and each moment.
fn seed() -> u32 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    std::process::id().wrapping_mul(2_654_435_761) ^ now.subsec_nanos()
}
