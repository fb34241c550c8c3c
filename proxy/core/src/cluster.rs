//! The nouns of a Patroni cluster: members, the leader key, and the identities that tell one cluster from another.

use std::fmt;
use std::sync::Arc;

/// The name of a PostgreSQL instance as the cluster knows it (`name` in Patroni's configuration).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(Arc<str>);

impl MemberName {
    /// Takes the name as it stands in the DCS.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a server listens: a host name or an address, and a port, exactly as the cluster publishes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerAddr {
    host: Arc<str>,
    port: u16,
}

impl ServerAddr {
    /// An address from its two parts; `host` carries no brackets, also for IPv6.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: Arc::from(host), port }
    }

    /// The host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The number that `initdb` gives a cluster and that all its members share (`pg_control_system()`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// PostgreSQL's timeline id: it grows by at least one with each promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in the write-ahead log, in bytes. Which one (written, received, replayed) the field that holds it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// etcd's own counter: it grows with every write to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the cluster publishes of one member, as far as routing cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where clients reach it.
    pub addr: ServerAddr,
    /// The tag `noloadbalance`. It keeps a member out of the read route; it never means anything to the write route.
    pub no_load_balance: bool,
}

/// The leader key: who holds it, and since which write to the store.
///
/// Patroni creates the key by compare-and-swap, so `create_revision` grows strictly from one leadership to the next;
/// a key that is put again with another lease keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderKey {
    /// The member whose name is the key's value.
    pub holder: MemberName,
    /// The store's revision at which this leadership began.
    pub create_revision: Revision,
}

/// The parts of Patroni's dynamic configuration that change what a router must do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Maintenance mode: no automatic failover, and the leader key may be missing while the primary runs on.
    pub paused: bool,
    /// The whole cluster follows another one: its leader is in recovery by design and takes no writes.
    pub standby_cluster: bool,
    /// Patroni keeps its primary through an outage of the DCS as long as it reaches all members.
    pub failsafe_mode: bool,
}
