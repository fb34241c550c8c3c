//! Leadership: a pure function from the evidence at one moment to the confirmed leader, or the reason why there is none.

use std::time::Duration;

use crate::cluster::{MemberName, Revision, ServerAddr, SystemId, Timeline};
use crate::epoch::RouteEpoch;
use crate::evidence::{Dcs, Evidence};
use crate::moment::{Moment, Stamped};
use crate::observation::{ProbeReply, Role};
use crate::policy::{OnDcsLoss, Policy, Sources};
use crate::reason::Reason;

/// A confirmed leader: leader according to the DCS, and primary according to the server itself.
///
/// Its fields are private and only this module can confirm one, so nothing else can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    epoch: RouteEpoch,
    member: MemberName,
    addr: ServerAddr,
    timeline: Timeline,
    basis: Basis,
    hold_reason: Option<Reason>,
}

impl Leader {
    pub(crate) fn new(epoch: RouteEpoch, confirmed: Confirmed) -> Self {
        let Confirmed { member, addr, timeline, basis, hold_reason, .. } = confirmed;
        Self { epoch, member, addr, timeline, basis, hold_reason }
    }

    /// The epoch of this leader's sessions.
    pub const fn epoch(&self) -> RouteEpoch {
        self.epoch
    }

    /// The member's name.
    pub const fn member(&self) -> &MemberName {
        &self.member
    }

    /// The address of the server.
    pub const fn addr(&self) -> &ServerAddr {
        &self.addr
    }

    /// The timeline it writes on.
    pub const fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Which rule confirmed it.
    pub const fn basis(&self) -> Basis {
        self.basis
    }

    /// Why new sessions must wait while open ones continue; normally `None`.
    pub const fn hold_reason(&self) -> Option<&Reason> {
        self.hold_reason.as_ref()
    }
}

/// The rule that confirmed a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It holds the leader key, and the lease horizon has not passed.
    Lease,
    /// The all-members rule: every known member replies, and it alone is out of recovery.
    AllMembers,
}

/// A leader that was just confirmed, before it has an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    pub(crate) member: MemberName,
    pub(crate) addr: ServerAddr,
    pub(crate) timeline: Timeline,
    /// The leadership in the DCS; `None` without a leader key.
    pub(crate) create_revision: Option<Revision>,
    pub(crate) basis: Basis,
    /// Why new sessions must wait while open ones continue.
    pub(crate) hold_reason: Option<Reason>,
    /// The moment at which this stops being proved.
    pub(crate) until: Moment,
}

/// The leader that the evidence confirms at `now`, or the reason why there is none.
pub(crate) fn confirm(evidence: &Evidence, policy: &Policy, now: Moment) -> Result<Confirmed, Reason> {
    Rules { evidence, policy, now }.leadership()
}

struct Rules<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    now: Moment,
}

/// A server's reply that passed every check of a rule.
struct Verified {
    addr: ServerAddr,
    timeline: Timeline,
    until: Moment,
}

impl Rules<'_> {
    fn leadership(&self) -> Result<Confirmed, Reason> {
        if self.policy.options().sources == Sources::ServersOnly {
            return self.by_all_members(None);
        }
        match (self.evidence.dcs(), self.evidence.leader_key()) {
            (Dcs::Unseen, _) => Err(Reason::Starting),
            (_, Some(_)) if self.evidence.config().standby_cluster => Err(Reason::StandbyCluster),
            (_, Some(key)) => self.holder(&key.fact.holder, key.sent, key.fact.create_revision),
            (Dcs::Live, None) => self.without_key(),
            (Dcs::Silent(_), None) => self.without_dcs(),
        }
    }

    /// The leader key is held: its holder is the leader until the lease horizon, if its own reply agrees.
    fn holder(&self, holder: &MemberName, seen: Moment, revision: Revision) -> Result<Confirmed, Reason> {
        let horizon = self.evidence.lease().map(|lease| lease.end() - self.policy.options().lease_margin);
        match horizon {
            Some(horizon) if self.now < horizon => {
                let verified = self.holder_reply(holder, seen)?;
                Ok(Confirmed {
                    member: holder.clone(),
                    addr: verified.addr,
                    timeline: verified.timeline,
                    create_revision: Some(revision),
                    basis: Basis::Lease,
                    hold_reason: self.hung_postmaster(holder),
                    until: horizon.min(verified.until),
                })
            }
            _ if matches!(self.evidence.dcs(), Dcs::Silent(_)) => self.without_dcs(),
            // In maintenance mode nobody takes over an expired key, and Patroni may be down on purpose.
            Some(_) if self.evidence.config().paused => self.by_all_members(Some(holder)),
            Some(_) => Err(Reason::LeaseExpiring(holder.clone())),
            None => Err(Reason::LeaseUnconfirmed(holder.clone())),
        }
    }

    /// The DCS says that nobody holds the leader key, which is normal only in maintenance mode.
    fn without_key(&self) -> Result<Confirmed, Reason> {
        if self.evidence.config().paused && !self.evidence.config().standby_cluster {
            self.by_all_members(self.evidence.last_holder())
        } else {
            Err(Reason::NoLeader)
        }
    }

    /// The DCS is silent, and the last lease it confirmed has expired.
    fn without_dcs(&self) -> Result<Confirmed, Reason> {
        match self.policy.options().on_dcs_loss {
            _ if self.evidence.config().standby_cluster => Err(Reason::StandbyCluster),
            OnDcsLoss::Fence => Err(Reason::DcsSilent),
            OnDcsLoss::AllMembers => match self.evidence.last_holder() {
                Some(holder) => self.by_all_members(Some(holder)),
                None => Err(Reason::NoLeader),
            },
        }
    }

    /// Checks the holder's own reply: asked for after it took the key, recent, from this cluster, a primary, and on the
    /// highest timeline.
    fn holder_reply(&self, holder: &MemberName, seen: Moment) -> Result<Verified, Reason> {
        let limit = self.policy.options().max_probe_age;
        let server = self.evidence.server(holder);
        let Some(server) = server.filter(|_| self.evidence.members().contains_key(holder)) else {
            return Err(Reason::LeaderAddressUnknown(holder.clone()));
        };
        let reply = match (server.reply, server.failure) {
            (Some(reply), _) if reply.sent >= seen => reply,
            (_, Some(failure)) if failure.sent >= seen => {
                return Err(Reason::LeaderProbeFailed(holder.clone(), failure.fact));
            }
            _ => return Err(Reason::LeaderNotProbed(holder.clone())),
        };
        if self.now >= reply.sent + limit {
            return Err(match server.failure {
                Some(failure) => Reason::LeaderProbeFailed(holder.clone(), failure.fact),
                None => Reason::LeaderSilent(holder.clone()),
            });
        }
        let Some(initialize) = self.evidence.initialize() else { return Err(Reason::Bootstrapping) };
        self.same_cluster(holder, reply, initialize)?;
        let Role::Primary { timeline, .. } = reply.fact.role else {
            return Err(Reason::LeaderInRecovery(holder.clone()));
        };
        self.newest_timeline(holder, timeline, limit)?;
        Ok(Verified { addr: server.addr.clone(), timeline, until: reply.sent + limit })
    }

    /// The all-members rule: every known member replies, exactly one is out of recovery, it held the leader key last (if
    /// that is known), and no timeline is higher.
    ///
    /// A silent member might have been promoted, so a single one fences. A reply from before the leader key last changed
    /// does not count, because it says nothing about the outcome. The primary's reply may be as old as a leader's usually
    /// may (`max_probe_age`); those of the other members must be younger (`max_member_probe_age`).
    fn by_all_members(&self, last_holder: Option<&MemberName>) -> Result<Confirmed, Reason> {
        let options = self.policy.options();
        let since = self.evidence.leadership_changed();
        let mut cluster = self.evidence.initialize();
        let mut until = None;
        let mut primary: Option<(&MemberName, &ServerAddr, Timeline)> = None;
        for (member, server) in self.evidence.servers() {
            let is_primary = server.reply.is_some_and(|reply| reply.fact.is_primary());
            let limit = if is_primary { options.max_probe_age } else { options.max_member_probe_age };
            let fresh = server.fresh_reply(self.now, limit);
            let Some(reply) = fresh.filter(|reply| Some(reply.sent) >= since) else {
                return Err(Reason::MemberSilent(member.clone()));
            };
            self.same_cluster(member, reply, *cluster.get_or_insert(reply.fact.system_id))?;
            until = Some(until.map_or(reply.sent + limit, |until: Moment| until.min(reply.sent + limit)));
            if let Role::Primary { timeline, .. } = reply.fact.role {
                if let Some((other, ..)) = primary {
                    return Err(Reason::TwoPrimaries(other.clone(), member.clone()));
                }
                primary = Some((member, &server.addr, timeline));
            }
        }
        let Some(until) = until else { return Err(Reason::NoMembers) };
        let Some((member, addr, timeline)) = primary else { return Err(Reason::NoPrimary) };
        if last_holder.is_some_and(|holder| holder != member) {
            return Err(Reason::NotLastLeader(member.clone()));
        }
        self.newest_timeline(member, timeline, options.max_probe_age.max(options.max_member_probe_age))?;
        Ok(Confirmed {
            member: member.clone(),
            addr: addr.clone(),
            timeline,
            create_revision: self.evidence.leader_key().map(|key| key.fact.create_revision),
            basis: Basis::AllMembers,
            hold_reason: self.hung_postmaster(member),
            until,
        })
    }

    fn same_cluster(
        &self,
        member: &MemberName,
        reply: Stamped<ProbeReply>,
        expected: SystemId,
    ) -> Result<(), Reason> {
        if reply.fact.system_id == expected {
            Ok(())
        } else {
            Err(Reason::SystemIdMismatch(member.clone(), reply.fact.system_id))
        }
    }

    fn newest_timeline(
        &self,
        member: &MemberName,
        timeline: Timeline,
        limit: Duration,
    ) -> Result<(), Reason> {
        match self.evidence.highest_timeline(self.now, limit) {
            Some(highest) if highest > timeline => {
                Err(Reason::TimelineBehind { member: member.clone(), timeline, highest })
            }
            _ => Ok(()),
        }
    }

    fn hung_postmaster(&self, member: &MemberName) -> Option<Reason> {
        let server = self.evidence.server(member)?;
        server.connect_failure.map(|_| Reason::LeaderNotAcceptingConnections(member.clone()))
    }
}
