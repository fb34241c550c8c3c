//! What kind of cluster to start.

/// Which Patroni runs the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patroni {
    /// 4.1, from the lab's own venv (`lab/install`); `LAB_PATRONI` overrides the path.
    #[default]
    Venv,
    /// Debian 12's package: 3.0, where the leader's role is called `master`.
    Debian,
}

/// The settings of a cluster. `ClusterOptions::default()` is a good one: two members, asynchronous, links everywhere.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Which Patroni.
    pub patroni: Patroni,
    /// Patroni's scope; the keys are under `/service/<scope>/`.
    pub scope: String,
    /// PostgreSQL members, 1 to 5, called `a`, `b`, …
    pub members: u8,
    /// Seconds the leader key outlives a silent leader. Patroni takes no less than 20.
    pub ttl: u32,
    /// Seconds between two of Patroni's rounds.
    pub loop_wait: u32,
    /// Seconds Patroni retries etcd and PostgreSQL. `ttl >= loop_wait + 2 * retry_timeout`, else Patroni alters them.
    pub retry_timeout: u32,
    /// Patroni's failsafe mode: a leader without etcd stays one while every member answers its REST calls.
    pub failsafe_mode: bool,
    /// Synchronous replication: no acknowledged write is lost by a failover.
    pub synchronous_mode: bool,
    /// PostgreSQL's `max_connections`.
    pub max_connections: u32,
    /// TLS on the PostgreSQL servers, with a CA of the lab's own (`Cluster::ca_certificate`). Plain text stays allowed.
    pub tls: bool,
    /// Whether clients reach PostgreSQL through a link (default). Without it, members publish their own address: one
    /// hop less, which benches want, but a member can then not be cut off from its clients.
    pub data_links: bool,
    /// More PostgreSQL parameters; they win over the lab's.
    pub parameters: Vec<(String, String)>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            patroni: Patroni::default(),
            scope: "lab".to_owned(),
            members: 2,
            ttl: 20,
            loop_wait: 5,
            retry_timeout: 5,
            failsafe_mode: false,
            synchronous_mode: false,
            max_connections: 200,
            tls: false,
            data_links: true,
            parameters: Vec::new(),
        }
    }
}
