//! Leadership: what the evidence proves about who may be written to, at one moment, as a pure function.

use std::time::Duration;

use crate::cluster::{MemberName, Revision, ServerAddr, SystemId, Timeline};
use crate::evidence::{Dcs, Evidence};
use crate::moment::{Moment, Stamped};
use crate::observation::{Stance, Word};
use crate::policy::{OnDcsLoss, Policy, Witness};
use crate::reason::Reason;
use crate::routing::Basis;

/// A member that was proved to be the leader and to accept writes. Only this module makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    pub(crate) member: MemberName,
    pub(crate) addr: ServerAddr,
    pub(crate) timeline: Timeline,
    /// The leadership in the DCS that this rests on; `None` without a DCS.
    pub(crate) create_revision: Option<Revision>,
    pub(crate) basis: Basis,
    /// Open sessions may go on, but for this reason new ones must wait.
    pub(crate) shut: Option<Reason>,
    /// The proof does not hold from this moment on.
    pub(crate) until: Moment,
}

/// What the evidence proves at `now`.
pub(crate) fn judge(evidence: &Evidence, policy: &Policy, now: Moment) -> Result<Confirmed, Reason> {
    Judge { evidence, policy, now }.leadership()
}

struct Judge<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    now: Moment,
}

/// A server's word that passed every test of a rule.
struct Vouched {
    addr: ServerAddr,
    timeline: Timeline,
    until: Moment,
}

impl Judge<'_> {
    fn leadership(&self) -> Result<Confirmed, Reason> {
        if self.policy.terms().witness == Witness::Servers {
            return self.sole_primary(None);
        }
        match (self.evidence.dcs(), self.evidence.leader_key()) {
            (Dcs::Unseen, _) => Err(Reason::Starting),
            (_, Some(_)) if self.evidence.config().standby_cluster => Err(Reason::StandbyCluster),
            (_, Some(key)) => self.holder(&key.fact.holder, key.sent, key.fact.create_revision),
            (Dcs::Live, None) => self.vacancy(),
            (Dcs::Silent(_), None) => self.without_dcs(),
        }
    }

    /// The leader key is held: the holder leads until the lease horizon, if its own word agrees.
    fn holder(&self, holder: &MemberName, seen: Moment, revision: Revision) -> Result<Confirmed, Reason> {
        let horizon = self.evidence.lease().map(|lease| lease.end() - self.policy.terms().lease_margin);
        match horizon {
            Some(horizon) if self.now < horizon => {
                let vouched = self.holder_word(holder, seen)?;
                Ok(Confirmed {
                    member: holder.clone(),
                    addr: vouched.addr,
                    timeline: vouched.timeline,
                    create_revision: Some(revision),
                    basis: Basis::Lease,
                    shut: self.hung_postmaster(holder),
                    until: horizon.min(vouched.until),
                })
            }
            _ if matches!(self.evidence.dcs(), Dcs::Silent(_)) => self.without_dcs(),
            // In maintenance mode nobody takes a key that runs out, and Patroni may be down on purpose.
            Some(_) if self.evidence.config().paused => self.sole_primary(Some(holder)),
            Some(_) => Err(Reason::LeaseEnding(holder.clone())),
            None => Err(Reason::LeaseUnread(holder.clone())),
        }
    }

    /// The DCS answers that nobody holds the leader key. That is normal only in Patroni's maintenance mode.
    fn vacancy(&self) -> Result<Confirmed, Reason> {
        if self.evidence.config().paused && !self.evidence.config().standby_cluster {
            self.sole_primary(self.evidence.last_holder())
        } else {
            Err(Reason::NoLeader)
        }
    }

    /// The DCS is silent, and nothing it said still holds.
    fn without_dcs(&self) -> Result<Confirmed, Reason> {
        match self.policy.terms().on_dcs_loss {
            _ if self.evidence.config().standby_cluster => Err(Reason::StandbyCluster),
            OnDcsLoss::Fence => Err(Reason::DcsSilent),
            OnDcsLoss::Evidence => match self.evidence.last_holder() {
                Some(holder) => self.sole_primary(Some(holder)),
                None => Err(Reason::NoLeader),
            },
        }
    }

    /// The holder's own word: sent after its leadership was seen, fresh, of this cluster, on the newest timeline.
    fn holder_word(&self, holder: &MemberName, seen: Moment) -> Result<Vouched, Reason> {
        let limit = self.policy.terms().evidence_limit;
        let testimony = self.evidence.testimony(holder);
        let Some(testimony) = testimony.filter(|_| self.evidence.members().contains_key(holder)) else {
            return Err(Reason::HolderUnknown(holder.clone()));
        };
        let word = match (testimony.word, testimony.failure) {
            (Some(word), _) if word.sent >= seen => word,
            (_, Some(failure)) if failure.sent >= seen => {
                return Err(Reason::HolderFailed(holder.clone(), failure.fact));
            }
            _ => return Err(Reason::HolderUnasked(holder.clone())),
        };
        if self.now >= word.sent + limit {
            return Err(match testimony.failure {
                Some(failure) => Reason::HolderFailed(holder.clone(), failure.fact),
                None => Reason::HolderSilent(holder.clone()),
            });
        }
        let Some(initialize) = self.evidence.initialize() else { return Err(Reason::Bootstrapping) };
        self.same_cluster(holder, word, initialize)?;
        let Stance::Primary { timeline, .. } = word.fact.stance else {
            return Err(Reason::HolderInRecovery(holder.clone()));
        };
        self.newest_timeline(holder, timeline, limit)?;
        Ok(Vouched { addr: testimony.addr.clone(), timeline, until: word.sent + limit })
    }

    /// The evidence rule: every known member answers, exactly one is out of recovery, it is the one that held the key
    /// last (where that is known), and its timeline is the highest. One silent member might have been promoted, so
    /// one silent member fences. A word from before the leader key last changed says nothing of what came of that.
    /// The primary's own word may be as old as a leader's may always be; only rivals must be heard more often.
    fn sole_primary(&self, last_holder: Option<&MemberName>) -> Result<Confirmed, Reason> {
        let terms = self.policy.terms();
        let since = self.evidence.leadership_changed();
        let mut cluster = self.evidence.initialize();
        let mut until = None;
        let mut primary: Option<(&MemberName, &ServerAddr, Timeline)> = None;
        for (member, testimony) in self.evidence.testimonies() {
            let is_primary = testimony.word.is_some_and(|word| word.fact.is_primary());
            let limit = if is_primary { terms.evidence_limit } else { terms.rival_limit };
            let fresh = testimony.fresh_word(self.now, limit);
            let Some(word) = fresh.filter(|word| Some(word.sent) >= since) else {
                return Err(Reason::RivalSilent(member.clone()));
            };
            self.same_cluster(member, word, *cluster.get_or_insert(word.fact.system_id))?;
            until = Some(until.map_or(word.sent + limit, |until: Moment| until.min(word.sent + limit)));
            if let Stance::Primary { timeline, .. } = word.fact.stance {
                if let Some((other, ..)) = primary {
                    return Err(Reason::TwoPrimaries(other.clone(), member.clone()));
                }
                primary = Some((member, &testimony.addr, timeline));
            }
        }
        let Some(until) = until else { return Err(Reason::NoMembers) };
        let Some((member, addr, timeline)) = primary else { return Err(Reason::NoPrimary) };
        if last_holder.is_some_and(|holder| holder != member) {
            return Err(Reason::NotLastHolder(member.clone()));
        }
        self.newest_timeline(member, timeline, terms.evidence_limit.max(terms.rival_limit))?;
        Ok(Confirmed {
            member: member.clone(),
            addr: addr.clone(),
            timeline,
            create_revision: self.evidence.leader_key().map(|key| key.fact.create_revision),
            basis: Basis::Evidence,
            shut: self.hung_postmaster(member),
            until,
        })
    }

    fn same_cluster(
        &self,
        member: &MemberName,
        word: Stamped<Word>,
        expected: SystemId,
    ) -> Result<(), Reason> {
        if word.fact.system_id == expected {
            Ok(())
        } else {
            Err(Reason::OtherCluster(member.clone(), word.fact.system_id))
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
        let testimony = self.evidence.testimony(member)?;
        testimony.takes_no_connections.map(|_| Reason::HolderTakesNoConnections(member.clone()))
    }
}
