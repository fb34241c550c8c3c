//! Setups: what stands in the model's world and under which policy, and the lengths of time in it.

use std::time::Duration;

use pg_leader_proxy_core::{OnDcsLoss, Policy, PolicyError, PolicyOptions, Sources};

/// Everybody acts once in each round, and a round lasts this long.
pub(crate) const ROUND: Duration = Duration::from_secs(1);
/// The length of a lease (Patroni's `ttl`).
pub(crate) const TTL: Duration = Duration::from_secs(5);
/// How long Patroni keeps its primary without etcd (`loop_wait + retry_timeout`, shorter than `ttl`).
pub(crate) const DEMOTE_AFTER: Duration = Duration::from_secs(4);
/// How long before its end the proxy stops trusting a lease, and how far its clock may lag over the whole of a history.
pub(crate) const MARGIN: Duration = Duration::from_secs(1);
/// The policy's limit for the age of another member's reply.
pub(crate) const MAX_MEMBER_PROBE_AGE: Duration = Duration::from_secs(2);
/// How long an answer is on its way at most, in rounds; after that many rounds without one etcd is called silent.
pub(crate) const MAX_DELAY_ROUNDS: u8 = 2;
/// How soon the shell notices that the wall clock was stepped.
pub(crate) const CLOCKS_COMPARED_EVERY: Duration = Duration::from_millis(200);
/// How soon after all faults have ended every proxy must take new sessions again.
pub(crate) const RECOVERY_ROUNDS: u32 = 7;

/// At most this many members and proxies.
pub(crate) const MEMBERS: usize = 3;

/// One world to explore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setup {
    /// What it is called.
    pub name: &'static str,
    /// How many members the cluster has; the first one leads at the beginning.
    pub members: usize,
    /// How many proxies stand in front of it.
    pub proxies: usize,
    /// Where the proxies' evidence comes from.
    pub sources: Sources,
    /// What the proxies do when etcd is silent.
    pub on_dcs_loss: OnDcsLoss,
    /// Whether Patroni's failsafe mode is on.
    pub failsafe: bool,
    /// Whether maintenance mode is on at the beginning.
    pub paused: bool,
    /// Whether only the first member may lead (all others have Patroni's tag `nofailover`), so that a key stays vacant.
    pub nofailover: bool,
    /// How many disturbances a history has in a quick run.
    pub depth: usize,
}

const USUAL: Setup = Setup {
    name: "two members",
    members: 2,
    proxies: 1,
    sources: Sources::DcsAndServers,
    on_dcs_loss: OnDcsLoss::Auto,
    failsafe: false,
    paused: false,
    nofailover: false,
    depth: 2,
};

/// Every world that is explored.
pub const SETUPS: [Setup; 9] = [
    Setup { depth: 3, ..USUAL },
    Setup { name: "maintenance mode", paused: true, depth: 3, ..USUAL },
    Setup { name: "all members without etcd", on_dcs_loss: OnDcsLoss::AllMembers, ..USUAL },
    Setup {
        name: "nobody to succeed",
        on_dcs_loss: OnDcsLoss::AllMembers,
        nofailover: true,
        depth: 2,
        ..USUAL
    },
    Setup { name: "failsafe mode", failsafe: true, ..USUAL },
    Setup { name: "no etcd at all", sources: Sources::ServersOnly, ..USUAL },
    Setup { name: "fence", on_dcs_loss: OnDcsLoss::Fence, ..USUAL },
    Setup { name: "three members, failsafe mode", members: 3, failsafe: true, ..USUAL },
    Setup { name: "two proxies, three members", members: 3, proxies: 2, ..USUAL },
];

impl Setup {
    /// The proxies' policy. Its lengths are scaled down with those of the cluster, and keep their order.
    ///
    /// # Errors
    /// [`PolicyError`] when the lengths contradict each other.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        Policy::new(PolicyOptions {
            sources: self.sources,
            lease_margin: MARGIN,
            max_probe_age: Duration::from_secs(3),
            max_member_probe_age: MAX_MEMBER_PROBE_AGE,
            max_suspension: Duration::from_secs(2),
            probe_interval: Duration::from_millis(500),
            on_dcs_loss: self.on_dcs_loss,
            ..PolicyOptions::default()
        })
    }

    /// Whether the proxies ask etcd.
    pub(crate) fn asks_etcd(&self) -> bool {
        self.sources == Sources::DcsAndServers
    }
}
