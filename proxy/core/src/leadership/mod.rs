//! Leadership: who may be written to at one moment, and what that rests on, as a pure function of the evidence and of the
//! leadership that stands.
//!
//! Two questions are answered apart. *May sessions be there at all, and until when?* A proof says so, and its absence ends
//! them. *Do new ones go there?* The [`Admission`] of the proof says so. `lease` and `all_members` are the two rules that
//! prove something; `continuation` says when a standing leadership goes on although neither does for the moment.

mod all_members;
mod continuation;
mod leader;
mod lease;

use std::net::SocketAddr;
use std::time::Duration;

use crate::admission::Admission;
use crate::cluster::{LeaderKey, MemberName, ServerAddr, ServerId, SystemId, Timeline};
use crate::evidence::{Dcs, Evidence, MemberView, SocketView};
use crate::moment::{Moment, Stamped};
use crate::observation::{ProbeReply, Role};
use crate::policy::{OnDcsLoss, Policy, Sources};
use crate::reason::Reason;

pub use leader::{Basis, Leader};

use all_members::Voters;

/// A leadership, by everything that tells it from another one, and where its sessions go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Standing {
    pub(crate) member: MemberName,
    pub(crate) addr: ServerAddr,
    pub(crate) socket: SocketAddr,
    pub(crate) server: ServerId,
    pub(crate) timeline: Timeline,
    /// The leader key that it rests on; `None` without a DCS, and in maintenance mode without a key.
    pub(crate) key: Option<LeaderKey>,
    pub(crate) basis: Basis,
}

/// That a member is the leader and accepts writes. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) leader: Standing,
    pub(crate) admission: Admission,
    /// No byte may pass from this moment on unless there is a newer proof by then.
    pub(crate) until: Moment,
    /// Whether it is the leadership that stands already, so that its sessions go on.
    pub(crate) continues: bool,
}

/// What the evidence proves at `now`, while the leadership `standing` is in force.
pub(crate) fn decide(
    evidence: &Evidence,
    policy: &Policy,
    standing: Option<&Standing>,
    now: Moment,
) -> Result<Proof, Reason> {
    let rules = Rules { evidence, policy, standing, now };
    rules.verdict().or_else(|reason| rules.continuation(reason))
}

struct Rules<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    standing: Option<&'a Standing>,
    now: Moment,
}

/// A primary's own reply, which passed every test of a rule.
struct Verified<'a> {
    member: &'a MemberName,
    addr: &'a ServerAddr,
    view: &'a SocketView,
    socket: SocketAddr,
    server: ServerId,
    timeline: Timeline,
}

impl<'a> Rules<'a> {
    fn verdict(&self) -> Result<Proof, Reason> {
        if self.policy.options().sources == Sources::ServersOnly {
            return self.by_all_members(Voters::List, None);
        }
        let (config, unknown_because) = (self.evidence.config(), self.evidence.unknown_because());
        match (self.evidence.dcs(), self.evidence.leader_key()) {
            (Dcs::Unseen, _) => Err(Reason::Starting(unknown_because.cloned())),
            _ if config.standby_cluster => Err(Reason::StandbyCluster),
            (_, Some(key)) => self.key_is_held(key),
            // In maintenance mode nobody takes a key that is gone.
            (Dcs::Live, None) if config.paused => {
                self.by_all_members(Voters::Known, self.evidence.last_holder())
            }
            (Dcs::Silent(_), None) if config.paused => self.without_dcs(),
            (_, None) if unknown_because.is_some() => Err(Reason::Starting(unknown_because.cloned())),
            (Dcs::Live | Dcs::Silent(_), None) => Err(Reason::NoLeader),
        }
    }

    fn key_is_held(&self, key: &Stamped<LeaderKey>) -> Result<Proof, Reason> {
        let holder = &key.fact.holder;
        let horizon = self.evidence.lease().map(|lease| lease.end() - self.policy.options().lease_margin);
        match horizon {
            Some(horizon) if self.now < horizon => self.by_lease(key, horizon),
            _ if matches!(self.evidence.dcs(), Dcs::Silent(_)) => self.without_dcs(),
            // In maintenance mode nobody takes a key that runs out, and Patroni may be down on purpose.
            Some(_) if self.evidence.config().paused => self.by_all_members(Voters::Known, Some(holder)),
            Some(_) => Err(Reason::LeaseExpiring(holder.clone())),
            None => Err(Reason::LeaseUnconfirmed(holder.clone())),
        }
    }

    /// The DCS is silent, and no lease that it told of lasts any longer.
    fn without_dcs(&self) -> Result<Proof, Reason> {
        let config = self.evidence.config();
        let holder = self.evidence.last_holder();
        match self.policy.options().on_dcs_loss {
            OnDcsLoss::Fence => Err(Reason::DcsSilent),
            OnDcsLoss::AllMembers => self.by_all_members(Voters::Known, holder),
            OnDcsLoss::Auto if config.failsafe_mode && !self.evidence.failsafe().is_empty() => {
                self.by_all_members(Voters::Failsafe, holder)
            }
            OnDcsLoss::Auto if config.paused => self.by_all_members(Voters::Known, holder),
            OnDcsLoss::Auto => Err(Reason::DcsSilent),
        }
    }

    /// A reply as the proof of a leadership.
    fn prove(&self, verified: &Verified<'_>, basis: Basis, admission: Admission, until: Moment) -> Proof {
        Proof {
            leader: Standing {
                member: verified.member.clone(),
                addr: verified.addr.clone(),
                socket: verified.socket,
                server: verified.server,
                timeline: verified.timeline,
                key: self.evidence.leader_key().map(|key| key.fact.clone()),
                basis,
            },
            admission,
            until,
            continues: self.continues(verified.server, verified.timeline),
        }
    }

    /// Whether a primary is the one that stands, in the same leadership.
    ///
    /// A server in the same run as before has been a primary all the time. What may have happened meanwhile is that
    /// another one led, which another leader key tells; in maintenance mode nobody takes over, and the key may come
    /// and go.
    fn continues(&self, server: ServerId, timeline: Timeline) -> bool {
        let same_key = |standing: &Standing| {
            standing.key.as_ref() == self.evidence.leader_key().map(|key| &key.fact)
                || self.evidence.config().paused
                || self.policy.options().sources == Sources::ServersOnly
        };
        self.standing.is_some_and(|standing| {
            standing.server == server && standing.timeline == timeline && same_key(standing)
        })
    }

    /// The view that speaks for a member: that of its published address, but for a standing leader whose address leads
    /// elsewhere by now that of the socket in use, until a primary at the new address has to take its place.
    fn speaker(&self, name: &MemberName, member: &'a MemberView) -> (&'a ServerAddr, &'a SocketView) {
        let published = (&member.record.addr, &member.published);
        match (self.standing.filter(|standing| standing.member == *name), &member.former) {
            (Some(standing), Some(former))
                if former.socket == Some(standing.socket)
                    && self.stays(standing, former, &member.published) =>
            {
                (&standing.addr, former)
            }
            _ => published,
        }
    }

    fn stays(&self, standing: &Standing, former: &SocketView, published: &SocketView) -> bool {
        let primary = |view| self.primary(view).map(|(reply, _)| reply.server());
        // A reply from before the leader key last changed says nothing about this leadership.
        let asked_since =
            published.reply.is_some_and(|reply| Some(reply.sent) >= self.evidence.leadership_changed());
        match primary(published).filter(|_| asked_since) {
            Some(server) if server == standing.server => false,
            Some(_) => primary(former) == Some(standing.server),
            None => true,
        }
    }

    /// The fresh reply of a server that is a primary of this cluster, and its timeline.
    fn primary(&self, view: &SocketView) -> Option<(ProbeReply, Timeline)> {
        let reply = self.evidence.fresh_reply(view, self.now, self.policy.options().max_probe_age)?.fact;
        match reply.role {
            Role::Primary { timeline, .. } if self.is_ours(reply.system_id) => Some((reply, timeline)),
            Role::Primary { .. } | Role::Replica { .. } => None,
        }
    }

    /// The system identifier of the cluster, as far as anything tells.
    fn cluster(&self) -> Option<SystemId> {
        self.evidence.initialize().or_else(|| self.standing.map(|standing| standing.server.system_id))
    }

    fn is_ours(&self, system_id: SystemId) -> bool {
        self.cluster().is_none_or(|ours| ours == system_id)
    }

    fn is_fresh(&self, sent: Moment, limit: Duration) -> bool {
        self.now < sent + limit && self.evidence.is_trusted(sent)
    }
}
