//! The cluster: started as a whole, asked for addresses and sessions, and removed with everything in it when dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

use crate::addresses::Subnet;
use crate::background::Background;
use crate::certificates::CertificateAuthority;
use crate::etcd::{self, Etcd};
use crate::member::{self, Member, MemberLinks, MemberProcesses, make_directory};
use crate::options::ClusterOptions;
use crate::patroni::{Credentials, SUPERUSER};
use crate::programs::Programs;
use crate::proxy_network::ProxyNetwork;
use crate::reaper::Reaper;
use crate::session;
use crate::user::User;

/// A user with no privileges beyond the defaults, for the proxy's probe.
pub const MONITOR: Credentials = Credentials { user: "monitor", password: "lab-monitor" };
/// The application's user, which owns the database [`DATABASE`].
pub const APP: Credentials = Credentials { user: "app", password: "lab-app" };
/// The application's database.
pub const DATABASE: &str = "app";

/// etcd has to elect a leader, on a machine that may be busy compiling.
const ETCD_START: Duration = Duration::from_secs(30);
/// initdb, the first checkpoint, and a base backup for each replica.
const CLUSTER_START: Duration = Duration::from_secs(120);
const LOGIN: Duration = Duration::from_secs(5);

/// A running cluster. Every method takes `&self`, so tasks can share it.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: first what runs, then the reaper of what is left, the links, and the addresses.
    pub(crate) members: Vec<Node>,
    pub(crate) etcd: Mutex<Vec<Etcd>>,
    pub(crate) proxy_networks: Mutex<BTreeMap<String, ProxyNetwork>>,
    pub(crate) reaper: Reaper,
    pub(crate) background: Background,
    pub(crate) subnet: Subnet,
    pub(crate) etcd_addresses: Vec<SocketAddr>,
    pub(crate) user: User,
    pub(crate) programs: Programs,
    options: ClusterOptions,
    ca: Option<CertificateAuthority>,
    /// The id of the next row that a writer inserts.
    pub(crate) next_id: Arc<AtomicI64>,
}

/// A member with its links and processes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) member: Member,
    pub(crate) links: MemberLinks,
    pub(crate) processes: Mutex<MemberProcesses>,
}

impl Cluster {
    /// Starts etcd, then the member `a`, which becomes the leader, then the other members, and waits until all is
    /// healthy. This takes about 15 seconds.
    ///
    /// # Errors
    /// When a program is missing (the error says what to install), an option is invalid, or something does not come up
    /// in time (the error has the end of its log).
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        check(&options)?;
        let cluster = Self::prepare(options)?;
        cluster.start_etcd_servers()?;
        cluster.wait_for_etcd(ETCD_START).await?;
        let deadline = Instant::now() + CLUSTER_START;
        // The first member alone, so that tests know who leads.
        for (number, node) in cluster.members.iter().enumerate() {
            cluster.start_patroni(node)?;
            if number == 0 {
                cluster.wait_for_leader(deadline.saturating_duration_since(Instant::now())).await?;
                cluster.create_users().await?;
            }
        }
        cluster.wait_healthy(deadline.saturating_duration_since(Instant::now())).await?;
        Ok(cluster)
    }

    fn prepare(options: ClusterOptions) -> Result<Self> {
        let programs = Programs::find(options.patroni)?;
        let user = User::for_postgres()?;
        let subnet = Subnet::take()?;
        let reaper = Reaper::start(&user)?;
        let background = Background::start("lab-links")?;
        let directory = reaper.directory();
        let ca = if options.tls {
            Some(CertificateAuthority::create("lab CA", directory.join("ca.crt"))?)
        } else {
            None
        };
        let mut servers = Vec::new();
        for number in 0..etcd::SERVERS {
            let directory = directory.join(etcd::name_of(number));
            make_directory(&directory, &user)?;
            servers.push(Etcd::new(&subnet, number, &directory));
        }
        let etcd_addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
        let mut members = Vec::new();
        for number in 0..options.members {
            let member = Member::new(&options, &subnet, number, &directory.join(member::name_of(number)));
            let links =
                MemberLinks::start(background.handle()?, &subnet, (number, &member), &etcd_addresses)?;
            let processes =
                MemberProcesses::prepare(&options, &member, &links, (&user, &programs), ca.as_ref())?;
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
            programs,
            options,
            ca,
            next_id: Arc::new(AtomicI64::new(1)),
        })
    }

    pub(crate) fn start_etcd_servers(&self) -> Result<()> {
        let mut servers = self.etcd.lock();
        servers.iter_mut().try_for_each(|server| server.start(&self.reaper, &self.user, &self.programs.etcd))
    }

    pub(crate) fn start_patroni(&self, node: &Node) -> Result<()> {
        node.processes.lock().start_patroni(&self.reaper, &self.user, &self.programs.patroni)
    }

    async fn create_users(&self) -> Result<()> {
        let member = &self.members.first().context("the cluster has no member")?.member;
        // There is no replica yet, for which strict synchronous replication would wait.
        let alone = "set synchronous_commit = local";
        let server = self.superuser(&member.name, "postgres").await?;
        server.batch_execute(alone).await.context("creating users without a replica")?;
        for Credentials { user, password } in [MONITOR, APP] {
            let statement = format!("create user {user} password '{password}'");
            server.batch_execute(&statement).await.with_context(|| format!("creating the user {user}"))?;
        }
        let statement = format!("create database {DATABASE} owner {}", APP.user);
        server.batch_execute(&statement).await.context("creating the application's database")?;
        let app = self.superuser(&member.name, DATABASE).await?;
        app.batch_execute(alone).await.context("creating a table without a replica")?;
        let table = format!(
            "create table writes (id bigint primary key, at timestamptz not null default clock_timestamp());
             alter table writes owner to {}",
            APP.user
        );
        app.batch_execute(&table).await.context("creating the writers' table")
    }

    /// The options that it was started with.
    #[must_use]
    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// Patroni's scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.options.scope
    }

    /// The full name of the leader key in etcd.
    #[must_use]
    pub fn leader_key(&self) -> String {
        format!("/service/{}/leader", self.options.scope)
    }

    /// The directory of all data, configuration and logs. It goes with the cluster, unless the environment has
    /// `LAB_KEEP=1`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.reaper.directory()
    }

    /// All members, in the order of their names.
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

    /// The names of the other members, in order.
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

    /// The etcd servers themselves, without a link.
    #[must_use]
    pub fn etcd_direct(&self) -> &[SocketAddr] {
        &self.etcd_addresses
    }

    /// A free address in the cluster's /24 for the caller, such as for HAProxy in a benchmark. `host` is 90 to 99; the
    /// lab uses none of these.
    #[must_use]
    pub fn spare_address(&self, host: u8, port: u16) -> SocketAddr {
        self.subnet.socket(host, port)
    }

    /// The file with the CA that signed the servers' certificates, with `ClusterOptions::tls`.
    #[must_use]
    pub fn ca_certificate(&self) -> Option<&Path> {
        self.ca.as_ref().map(CertificateAuthority::file)
    }

    /// How the application logs in at an address, of a member or of a proxy.
    #[must_use]
    pub fn app_config(&self, address: SocketAddr) -> Config {
        session::config(address, &APP, DATABASE)
    }

    /// How the application logs in without a proxy: libpq's rules for several hosts, which tokio-postgres follows. It tries
    /// the members in order and uses the first that is read-write.
    #[must_use]
    pub fn multi_host_config(&self) -> Config {
        let mut config = Config::new();
        for member in self.members() {
            config.host(member.postgres.ip().to_string()).port(member.postgres.port());
        }
        config.user(APP.user).password(APP.password).dbname(DATABASE);
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config
    }

    /// [`Cluster::app_config`] as a URL, for `psql` and other clients.
    #[must_use]
    pub fn app_url(&self, address: SocketAddr) -> String {
        format!("postgres://{}:{}@{address}/{DATABASE}", APP.user, APP.password)
    }

    /// Opens a superuser's session with a member, without a link.
    ///
    /// # Errors
    /// When the member does not answer within 5 seconds.
    pub async fn superuser(&self, member: &str, database: &str) -> Result<session::Session> {
        let address = self.member(member)?.postgres_direct;
        let config = session::config(address, &SUPERUSER, database);
        session::Session::open_within(&config, LOGIN).await
    }
}

fn check(options: &ClusterOptions) -> Result<()> {
    let ClusterOptions { members, ttl, loop_wait, retry_timeout, .. } = options;
    ensure!((1..=5).contains(members), "a cluster has 1 to 5 members, not {members}");
    ensure!(*ttl >= 20, "Patroni needs a ttl of at least 20 seconds, not {ttl}");
    ensure!(
        *ttl >= loop_wait + 2 * retry_timeout,
        "ttl {ttl} < loop_wait {loop_wait} + 2 * retry_timeout {retry_timeout}: Patroni would change them"
    );
    Ok(())
}
