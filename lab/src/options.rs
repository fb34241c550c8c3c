//! The options of a cluster.

/// Which Patroni runs the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patroni {
    /// 4.1, from the lab's own venv (`lab/install`). The environment's `LAB_PATRONI` overrides the path.
    #[default]
    Venv,
    /// Debian 12's package: 3.0, which calls the leader's role `master`.
    Debian,
}

/// The options of a cluster. The default has two members, asynchronous replication, and links everywhere.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Which Patroni.
    pub patroni: Patroni,
    /// Patroni's scope: the keys in etcd are below `/service/<scope>/`.
    pub scope: String,
    /// PostgreSQL members, 1 to 5, named `a`, `b`, …
    pub members: u8,
    /// Patroni's `ttl` in seconds: how long the leader key outlives a leader that does not renew it. At least 20.
    pub ttl: u32,
    /// Patroni's `loop_wait` in seconds.
    pub loop_wait: u32,
    /// Patroni's `retry_timeout` in seconds. Patroni changes all three unless `ttl >= loop_wait + 2 * retry_timeout`.
    pub retry_timeout: u32,
    /// Patroni's failsafe mode: without etcd a leader stays leader as long as every member answers its REST calls.
    pub failsafe_mode: bool,
    /// Synchronous replication: a failover loses no acknowledged write.
    pub synchronous_mode: bool,
    /// With `synchronous_mode`: without a synchronous replica nothing is acknowledged, where otherwise the leader would go
    /// on alone and could not be replaced.
    pub synchronous_mode_strict: bool,
    /// PostgreSQL's `max_connections`.
    pub max_connections: u32,
    /// TLS on the PostgreSQL servers, with a CA of their own ([`ca_certificate`](crate::Cluster::ca_certificate)).
    /// Connections without TLS are accepted too.
    pub tls: bool,
    /// Whether clients reach PostgreSQL through a link (the default). Benchmarks turn it off, because a link is one
    /// more hop; the member then cannot be cut off from its clients.
    pub data_links: bool,
    /// More PostgreSQL parameters. They override the lab's.
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
            synchronous_mode_strict: false,
            max_connections: 200,
            tls: false,
            data_links: true,
            parameters: Vec::new(),
        }
    }
}
