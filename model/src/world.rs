//! The world: a cluster, the proxies in front of it, and true time.

use pg_leader_proxy_core::{Admission, Moment, PolicyError};

use crate::broken::Broken;
use crate::cluster::Cluster;
use crate::fingerprint::fingerprint;
use crate::proxy::{Proxy, Recording, Running};
use crate::setup::{MEMBERS, RECOVERY_ROUNDS, ROUND, Setup};
use crate::told::Told;

/// How many rounds every world runs undisturbed before its histories begin.
const WARM_UP_ROUNDS: usize = 15;

/// A world at one moment.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) now: Moment,
    pub(crate) cluster: Cluster,
    pub(crate) proxies: Vec<Proxy>,
}

impl World {
    /// A healthy world in which every proxy forwards to the leader.
    ///
    /// # Errors
    /// [`PolicyError`] when the setup's policy contradicts itself.
    pub(crate) fn new(setup: Setup) -> Result<Self, PolicyError> {
        let policy = setup.policy()?;
        let now = Moment::from_boot(ROUND * 10);
        Ok(Self {
            setup,
            now,
            cluster: Cluster::new(&setup, now),
            proxies: (0..setup.proxies).map(|_| Proxy::new(policy, now)).collect(),
        })
    }

    /// The rounds before anything happens.
    ///
    /// # Errors
    /// The law that is broken already.
    pub(crate) fn warm_up(&mut self) -> Result<(), Broken> {
        (0..WARM_UP_ROUNDS).try_for_each(|_| self.round())
    }

    /// Stops recording what the routers are told.
    pub(crate) fn forget_recordings(&mut self) {
        self.proxies.iter_mut().for_each(|proxy| proxy.recording = Recording(None));
    }

    /// A round: time passes, the cluster acts, bytes pass on what was known before, and each proxy asks everybody.
    ///
    /// # Errors
    /// The law that is broken.
    pub(crate) fn round(&mut self) -> Result<(), Broken> {
        self.now = self.now + ROUND;
        self.cluster.round(self.now);
        self.proxies.iter_mut().for_each(|proxy| proxy.pass(ROUND));
        self.judge()?;
        let (now, cluster, asks_etcd) = (self.now, &self.cluster, self.setup.asks_etcd());
        for proxy in self.proxies.iter_mut().filter(|proxy| proxy.running == Running::Yes) {
            proxy.catch_up();
            if asks_etcd {
                proxy.ask_etcd(cluster, now);
            } else {
                proxy.list_members(cluster);
            }
            proxy.take_late_answers();
            (0..cluster.size).for_each(|member| proxy.probe(member, cluster));
        }
        self.judge()
    }

    /// Law 6: all faults end, and every proxy serves new sessions again. Returns after how many rounds.
    ///
    /// # Errors
    /// The law that is broken, on the way or at its end.
    pub(crate) fn recover(mut self) -> Result<u32, Broken> {
        self.heal();
        self.judge()?;
        for rounds in 0..RECOVERY_ROUNDS {
            if self.is_served() {
                return Ok(rounds);
            }
            self.round()?;
        }
        if self.is_served() {
            return Ok(RECOVERY_ROUNDS);
        }
        let waits = self.proxies.iter().map(|proxy| proxy.router.routing().write.waits());
        let waits: Vec<String> = waits.map(|reason| format!("{reason:?}")).collect();
        let proxy = self.proxies.iter().position(|proxy| proxy.passes_to().is_none()).unwrap_or_default();
        let why =
            format!("{RECOVERY_ROUNDS} rounds after all faults new sessions wait: {}", waits.join(", "));
        Err(Broken { proxy, ..Broken::new(6, why) })
    }

    /// All faults end.
    pub(crate) fn heal(&mut self) {
        self.cluster.heal(self.now);
        for proxy in &mut self.proxies {
            proxy.reaches_etcd = true;
            proxy.reaches = [true; MEMBERS];
            if proxy.running == Running::Suspended {
                proxy.step_clock();
            }
            proxy.running = Running::Yes;
        }
    }

    /// Whether every proxy takes new sessions to the one server that Patroni made the primary.
    fn is_served(&self) -> bool {
        self.proxies.iter().all(|proxy| {
            let Some(leader) = proxy.passes_to().filter(|leader| *leader.admission() == Admission::Open)
            else {
                return false;
            };
            let member = Told::index(leader.member());
            let server = &self.cluster.members[member].server;
            server.takes_writes() && self.cluster.etcd.key.is_some_and(|key| key.holder == member)
        })
    }

    /// The same for two worlds that go on alike.
    pub(crate) fn fingerprint(&self) -> u64 {
        let proxies: Vec<u64> = self.proxies.iter().map(|proxy| fingerprint(proxy, proxy.now)).collect();
        fingerprint(&(&self.cluster, proxies), self.now)
    }
}
