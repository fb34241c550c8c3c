//! What each disturbance does to the world.

use pg_leader_proxy_core::Observation;

use crate::cluster::{Cluster, EtcdLink, Member};
use crate::disturbance::{Disturbance, OfCluster, OfMember, OfProxy};
use crate::proxy::{Clock, Late, Proxy, Running};
use crate::setup::{CLOCKS_COMPARED_EVERY, MAX_DELAY_ROUNDS};
use crate::told::Told;
use crate::world::World;

impl World {
    /// Has a disturbance happen. Returns whether it could.
    pub(crate) fn disturb(&mut self, disturbance: Disturbance) -> bool {
        match disturbance {
            Disturbance::OfCluster(it) => self.disturb_cluster(it),
            Disturbance::OfMember(member, it) => {
                let could = self.cluster.members[member].disturb(it);
                self.cluster.note(self.now);
                could
            }
            Disturbance::OfProxy(proxy, OfProxy::LateRead) => {
                let (cluster, proxy) = (&self.cluster, &mut self.proxies[proxy]);
                let could =
                    proxy.is_running() && proxy.reaches_etcd && cluster.etcd.up && proxy.late_read.is_none();
                if could {
                    let answer = proxy.read(cluster, self.now);
                    proxy.late_read = Some(Late { rounds_left: MAX_DELAY_ROUNDS, answer });
                }
                could
            }
            Disturbance::OfProxy(proxy, it) => self.proxies[proxy].disturb(it, &self.cluster),
        }
    }

    fn disturb_cluster(&mut self, it: OfCluster) -> bool {
        let now = self.now;
        let etcd = &mut self.cluster.etcd;
        match it {
            OfCluster::EtcdDown => {
                toggle(&mut etcd.up);
                if etcd.up {
                    etcd.elect(now);
                }
                true
            }
            OfCluster::EtcdElects => {
                etcd.elect(now);
                etcd.up
            }
            OfCluster::Pause => etcd.up && toggle(&mut etcd.paused),
            OfCluster::Switchover => self.cluster.switch_over(),
            OfCluster::SlowPromotion => toggle(&mut self.cluster.slow_promotion),
            OfCluster::MembersApart(n, m) => toggle(&mut self.cluster.cut[n + m - 1]),
        }
    }
}

impl Cluster {
    /// Patroni of the leader stops its server, which starts again as a replica, and then deletes the key.
    fn switch_over(&mut self) -> bool {
        let Some(holder) = self.etcd.key.map(|key| key.holder) else { return false };
        let member = &mut self.members[holder];
        let free = !member.isolated && !member.patroni.frozen && member.patroni.link == EtcdLink::Up;
        let could = free && self.etcd.up && member.server.takes_writes();
        if could {
            member.server.restart();
            self.etcd.set_key(None);
        }
        could
    }
}

impl Member {
    fn disturb(&mut self, it: OfMember) -> bool {
        match it {
            OfMember::Isolated => toggle(&mut self.isolated),
            OfMember::WithoutEtcd => self.toggle_link(EtcdLink::Down),
            OfMember::AnswersLost => self.toggle_link(EtcdLink::AnswersLost),
            OfMember::PatroniFrozen => toggle(&mut self.patroni.frozen),
            OfMember::ServerFrozen => toggle(&mut self.server.frozen),
            OfMember::ServerCrash => {
                let could = self.server.up && !self.server.frozen;
                self.server.up &= !could;
                could
            }
            OfMember::PromotedByHand => {
                let could = self.server.is_healthy_replica();
                if could {
                    self.server.promote();
                }
                could
            }
        }
    }

    fn toggle_link(&mut self, fault: EtcdLink) -> bool {
        self.patroni.link = if self.patroni.link == fault { EtcdLink::Up } else { fault };
        true
    }
}

impl Proxy {
    pub(crate) fn is_running(&self) -> bool {
        self.running == Running::Yes
    }

    fn disturb(&mut self, it: OfProxy, cluster: &Cluster) -> bool {
        match it {
            OfProxy::WithoutEtcd => toggle(&mut self.reaches_etcd),
            OfProxy::WithoutMember(m) => toggle(&mut self.reaches[m]),
            OfProxy::ConnectionRefused(m) => {
                let could = self.is_running() && !self.refuses[m];
                could && toggle(&mut self.refuses[m])
            }
            OfProxy::LateAnswer(m) => {
                let could = self.is_running() && self.late_answers[m].is_none();
                if could {
                    self.probe_late(m, cluster, MAX_DELAY_ROUNDS);
                }
                could
            }
            // The world reads etcd, because that takes true time.
            OfProxy::LateRead => false,
            OfProxy::Frozen => self.toggle_running(Running::Frozen),
            OfProxy::Suspended => {
                let could = self.toggle_running(Running::Suspended);
                if could && self.is_running() {
                    self.step_clock();
                }
                could
            }
            OfProxy::Restart => {
                let could = self.is_running() && self.told != Told::default();
                if could {
                    self.restart();
                }
                could
            }
            OfProxy::SlowClock => {
                let could = self.clock == Clock::Exact;
                self.clock = if could { Clock::LosesNext } else { self.clock };
                could
            }
        }
    }

    fn toggle_running(&mut self, fault: Running) -> bool {
        let could = self.is_running() || self.running == fault;
        if could {
            self.running = if self.running == fault { Running::Yes } else { fault };
        }
        could
    }

    /// The machine goes on, and soon the shell sees that the wall clock moved against the clock of its moments.
    pub(crate) fn step_clock(&mut self) {
        self.now = self.now + CLOCKS_COMPARED_EVERY;
        self.told.stepped = Some(self.now);
        self.told.lease_end = None;
        self.observe(Observation::ClockStepped { at: self.now });
    }
}

fn toggle(fault: &mut bool) -> bool {
    *fault = !*fault;
    true
}
