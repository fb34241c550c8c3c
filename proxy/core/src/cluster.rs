//! The terms of a Patroni cluster: members, the leader key, timelines, LSNs and system identifiers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The name of a PostgreSQL instance as the cluster knows it (`name` in Patroni's configuration).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberName(Arc<str>);

impl MemberName {
    /// Wraps a name as it is stored in the DCS.
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a server listens: a host name or IP address and a port, as the cluster publishes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerAddr {
    host: Arc<str>,
    port: u16,
}

impl ServerAddr {
    /// An address from its two parts. `host` has no brackets, even for IPv6.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: Arc::from(host), port }
    }

    /// The host name or IP address, without brackets.
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

/// PostgreSQL's system identifier: `initdb` chooses it, and all members of a cluster share it (`pg_control_system()`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a server process started, by the server's own clock: microseconds since the Unix epoch
/// (`pg_postmaster_start_time()`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartTime(pub i64);

/// One run of one PostgreSQL server, whatever its address is written like and whatever name it has in the cluster.
///
/// A server that is a primary stays one for the whole run: only a restart takes it back into recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// The cluster that its data belongs to.
    pub system_id: SystemId,
    /// When its postmaster started.
    pub started: StartTime,
}

/// PostgreSQL's timeline id: it grows by at least one with each promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in the write-ahead log, in bytes. The name of the field says which one: written, received or replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// etcd's revision: a counter that every write to the store increases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the cluster publishes about one member, as far as routing needs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Where clients reach the member.
    pub addr: ServerAddr,
    /// Patroni's tag `noloadbalance`. It keeps the member out of the read route and does not affect the write route.
    pub no_load_balance: bool,
}

/// Patroni's leader key: its holder, and the revision that created it.
///
/// Patroni creates the key by compare-and-swap, so each leadership has a higher `create_revision` than the one before.
/// Putting the key again with another lease keeps its `create_revision`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaderKey {
    /// The member that the key names.
    pub holder: MemberName,
    /// The revision at which the key was created, which identifies this leadership.
    pub create_revision: Revision,
}

/// The parts of Patroni's dynamic configuration that change what a router must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterConfig {
    /// Maintenance mode (`pause`): no automatic failover, and the primary may run without a leader key.
    pub paused: bool,
    /// The cluster is a standby cluster: its leader is in recovery on purpose and takes no writes.
    pub standby_cluster: bool,
    /// Failsafe mode: Patroni keeps its primary while the DCS is down, as long as the primary reaches all members.
    pub failsafe_mode: bool,
    /// The length of the leader's lease (`ttl`).
    pub ttl: Duration,
}

impl Default for ClusterConfig {
    /// What Patroni takes for granted where its configuration says nothing.
    fn default() -> Self {
        Self { paused: false, standby_cluster: false, failsafe_mode: false, ttl: Duration::from_secs(30) }
    }
}
