//! Disturbances: everything that can happen in the world besides the passing of time.

use std::fmt;

use crate::setup::Setup;
use crate::told::Told;

/// One thing that happens. Those that begin a fault end it when they happen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disturbance {
    /// To etcd, or to the cluster as a whole.
    OfCluster(OfCluster),
    /// To a member.
    OfMember(usize, OfMember),
    /// To a proxy.
    OfProxy(usize, OfProxy),
}

/// What happens to etcd, or to the cluster as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OfCluster {
    /// etcd loses its quorum. No lease ends meanwhile, and all begin anew when it is back.
    EtcdDown,
    /// etcd elects another leader, which extends every lease.
    EtcdElects,
    /// The leader restarts its server as a replica and gives the key back (a planned switchover).
    Switchover,
    /// Maintenance mode.
    Pause,
    /// A server that is promoted stays in recovery (WAL to replay, a slow `pre_promote`).
    SlowPromotion,
    /// Two members do not reach each other.
    MembersApart(usize, usize),
}

/// What happens to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OfMember {
    /// No packet reaches its machine or leaves it.
    Isolated,
    /// Its Patroni does not reach etcd.
    WithoutEtcd,
    /// etcd's answers to its Patroni are lost.
    AnswersLost,
    /// Its Patroni stands still, or was killed.
    PatroniFrozen,
    /// Its server stands still.
    ServerFrozen,
    /// Its server crashes.
    ServerCrash,
    /// `pg_promote()` by hand.
    PromotedByHand,
}

/// What happens to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OfProxy {
    /// It does not reach etcd.
    WithoutEtcd,
    /// It does not reach a member.
    WithoutMember(usize),
    /// One new connection to a member is refused.
    ConnectionRefused(usize),
    /// It reads etcd, and the answer takes as long as answers may.
    LateRead,
    /// It asks a member, and the answer takes as long as answers may.
    LateAnswer(usize),
    /// Its process stands still.
    Frozen,
    /// Its machine stands still with its clock; afterwards the wall clock is stepped.
    Suspended,
    /// Its process is started anew.
    Restart,
    /// Its clock loses the margin, once.
    SlowClock,
}

impl Disturbance {
    /// Everything that can happen in a world.
    pub(crate) fn all(setup: &Setup) -> Vec<Self> {
        let members = || 0..setup.members;
        let mut of_cluster = vec![
            OfCluster::EtcdDown,
            OfCluster::EtcdElects,
            OfCluster::Switchover,
            OfCluster::Pause,
            OfCluster::SlowPromotion,
        ];
        if setup.failsafe {
            of_cluster.extend(members().flat_map(|m| (0..m).map(move |n| OfCluster::MembersApart(n, m))));
        }
        let of_member = [
            OfMember::Isolated,
            OfMember::WithoutEtcd,
            OfMember::AnswersLost,
            OfMember::PatroniFrozen,
            OfMember::ServerFrozen,
            OfMember::ServerCrash,
            OfMember::PromotedByHand,
        ];
        let mut of_proxy = vec![OfProxy::Frozen, OfProxy::Suspended, OfProxy::Restart, OfProxy::SlowClock];
        if setup.asks_etcd() {
            of_proxy.extend([OfProxy::WithoutEtcd, OfProxy::LateRead]);
        }
        of_proxy.extend(members().flat_map(|m| {
            [OfProxy::WithoutMember(m), OfProxy::ConnectionRefused(m), OfProxy::LateAnswer(m)]
        }));
        let of_cluster = of_cluster.into_iter().map(Self::OfCluster);
        let of_members = members().flat_map(|m| of_member.map(|it| Self::OfMember(m, it)));
        let of_proxies =
            (0..setup.proxies).flat_map(|p| of_proxy.iter().map(move |it| Self::OfProxy(p, *it)));
        of_cluster.chain(of_members).chain(of_proxies).collect()
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfCluster(it) => it.fmt(f),
            Self::OfMember(member, it) => write!(f, "{}: {it}", Told::name(*member)),
            Self::OfProxy(proxy, it) => write!(f, "proxy {proxy}: {it}"),
        }
    }
}

impl fmt::Display for OfCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EtcdDown => "etcd goes down, or comes back",
            Self::EtcdElects => "etcd elects a leader, which extends every lease",
            Self::Switchover => "the leader gives the key back for a switchover",
            Self::Pause => "maintenance mode begins, or ends",
            Self::SlowPromotion => "promotions do not finish, or do again",
            Self::MembersApart(n, m) => {
                return write!(f, "{} and {} lose each other, or meet again", Told::name(*n), Told::name(*m));
            }
        })
    }
}

impl fmt::Display for OfMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Isolated => "the machine loses its network, or has it back",
            Self::WithoutEtcd => "Patroni loses etcd, or reaches it again",
            Self::AnswersLost => "etcd's answers to Patroni are lost, or arrive again",
            Self::PatroniFrozen => "Patroni freezes, or goes on",
            Self::ServerFrozen => "the server freezes, or goes on",
            Self::ServerCrash => "the server crashes",
            Self::PromotedByHand => "the server is promoted by hand",
        })
    }
}

impl fmt::Display for OfProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithoutEtcd => f.write_str("etcd is lost, or reached again"),
            Self::WithoutMember(m) => write!(f, "{} is lost, or reached again", Told::name(*m)),
            Self::ConnectionRefused(m) => write!(f, "one new connection to {} is refused", Told::name(*m)),
            Self::LateRead => f.write_str("etcd is read, and the answer comes late"),
            Self::LateAnswer(m) => write!(f, "{} is asked, and the answer comes late", Told::name(*m)),
            Self::Frozen => f.write_str("the process freezes, or goes on"),
            Self::Suspended => f.write_str("the machine is suspended, or goes on"),
            Self::Restart => f.write_str("the process is started anew"),
            Self::SlowClock => f.write_str("the clock loses a second"),
        }
    }
}
