//! Replicas: which servers may be read from, which of them take new sessions, and what becomes of those that they have.

use std::net::SocketAddr;
use std::time::Duration;

use crate::admission::Admission;
use crate::cluster::{Lsn, MemberName, ServerAddr, ServerId};
use crate::evidence::{Evidence, MemberView, SocketView};
use crate::leadership::Leader;
use crate::moment::{Moment, Stamped};
use crate::observation::{ProbeReply, Role};
use crate::policy::{Policy, ReadFallback};
use crate::reason::Reason;
use crate::restrictions::Restrictions;
use crate::routing::{OpenSessions, ReadServer};

/// A server of the read route, before it has an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) member: MemberName,
    pub(crate) addr: ServerAddr,
    pub(crate) socket: SocketAddr,
    pub(crate) server: ServerId,
    pub(crate) admission: Admission,
    pub(crate) open_sessions: OpenSessions,
    /// No byte may pass from this moment on unless the server has answered by then.
    pub(crate) until: Moment,
}

/// What the read route is made from, at one moment.
pub(crate) struct Readers<'a> {
    pub(crate) evidence: &'a Evidence,
    pub(crate) policy: &'a Policy,
    pub(crate) restrictions: &'a Restrictions,
    /// The confirmed leader, and until when it is.
    pub(crate) leader: Option<(&'a Leader, Moment)>,
    /// The servers that may have sessions already.
    pub(crate) standing: &'a [ReadServer],
    pub(crate) now: Moment,
}

/// A server that has answered, on its way to a [`Candidate`].
struct Answering<'a> {
    member: &'a MemberName,
    known: &'a MemberView,
    view: &'a SocketView,
    socket: SocketAddr,
    reply: Stamped<ProbeReply>,
}

impl Readers<'_> {
    /// The servers that sessions of the read route may be on; the leader, if it is among them, comes last.
    ///
    /// A server of this route keeps its sessions while it answers now and then and belongs to the cluster. The leader is
    /// among them as the fallback, and any primary as long as it may have sessions from when it was a replica.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut leader = None;
        for answering in self.answering() {
            let server = answering.reply.fact.server();
            let twice = |known: &Candidate| known.server == server;
            if candidates.iter().any(twice) || leader.as_ref().is_some_and(twice) {
                continue;
            }
            match answering.reply.fact.role {
                // Whatever an older reply from another address says.
                _ if self.leader.is_some_and(|(leader, _)| leader.server() == server) => {
                    leader = self.fallback(&answering);
                }
                Role::Replica { .. } => candidates.extend(self.replica(&answering)),
                Role::Primary { .. } => candidates.extend(self.stray(&answering)),
            }
        }
        candidates.extend(self.renamed(&candidates));
        if let Some(leader) = &mut leader {
            let needed = candidates.iter().all(|candidate| candidate.admission != Admission::Open);
            let takes = self.leader.is_some_and(|(leader, _)| *leader.admission() == Admission::Open)
                && self.restrictions.drained(&leader.member).is_none();
            if needed && takes && self.falls_back() {
                leader.admission = Admission::Open;
            }
        }
        candidates.extend(leader);
        candidates
    }

    /// Why a server that had sessions is no longer among the candidates.
    pub(crate) fn departure(&self, left: &ReadServer) -> Reason {
        let member = left.member.clone();
        let Some(known) = self.evidence.member(&member) else { return Reason::MemberRecordGone(member) };
        let Some(view) = known.views().find(|view| view.socket == Some(left.socket)) else {
            return Reason::ReplicaMoved(member);
        };
        match view.reply {
            Some(reply) if reply.fact.system_id != left.server.system_id => {
                Reason::SystemIdMismatch(member, reply.fact.system_id)
            }
            Some(reply) if reply.fact.server() != left.server => Reason::ReplicaRestarted(member),
            Some(reply) if reply.fact.is_primary() && self.until(reply).is_some() => {
                Reason::ReplicaPromoted(member)
            }
            Some(_) | None => Reason::ReplicaSilent(member),
        }
    }

    fn answering(&self) -> impl Iterator<Item = Answering<'_>> {
        let views = self
            .evidence
            .members()
            .iter()
            .flat_map(|(member, known)| known.views().map(move |view| (member, known, view)));
        views
            .filter_map(|(member, known, view)| {
                Some(Answering { member, known, view, socket: view.socket?, reply: view.reply? })
            })
            .filter(|answering| self.is_ours(answering))
    }

    fn is_ours(&self, answering: &Answering<'_>) -> bool {
        let leader = self.leader.map(|(leader, _)| leader.server().system_id);
        self.evidence.initialize().or(leader).is_none_or(|ours| ours == answering.reply.fact.system_id)
    }

    fn is_standing(&self, server: ServerId) -> bool {
        self.standing.iter().any(|known| known.server == server)
    }

    /// Until when a server that may have sessions keeps them without another answer; `None` when that is over.
    fn until(&self, reply: Stamped<ProbeReply>) -> Option<Moment> {
        let options = self.policy.options();
        let end = reply.sent + self.silence_limit();
        match self.evidence.clock_stepped() {
            Some(stepped) if reply.sent < stepped => {
                (self.now < end.min(stepped + options.max_suspension)).then_some(stepped)
            }
            _ => (self.now < end).then_some(end),
        }
    }

    fn silence_limit(&self) -> Duration {
        silence_limit(self.evidence, self.policy)
    }

    fn candidate(&self, answering: &Answering<'_>, admission: Admission, until: Moment) -> Candidate {
        Candidate {
            member: answering.member.clone(),
            addr: answering.known.record.addr.clone(),
            socket: answering.socket,
            server: answering.reply.fact.server(),
            admission,
            open_sessions: OpenSessions::GoOn,
            until,
        }
    }

    fn replica(&self, answering: &Answering<'_>) -> Option<Candidate> {
        let admission = match self.unfit(answering) {
            Some(reason) => Admission::Waits(reason),
            None => Admission::Open,
        };
        let keeps = self.is_standing(answering.reply.fact.server());
        let lists = keeps || self.is_fresh(answering.view) && !is_former(answering);
        let until = self.until(answering.reply).filter(|_| lists)?;
        Some(self.candidate(answering, admission, until))
    }

    /// Why a replica takes no new sessions, if it does not.
    fn unfit(&self, answering: &Answering<'_>) -> Option<Reason> {
        if let Some(drained) = self.restrictions.drained(answering.member) {
            return Some(drained);
        }
        let Role::Replica { replayed, streaming, .. } = answering.reply.fact.role else { return None };
        let leads = self.leader.is_some_and(|(leader, _)| *leader.admission() == Admission::Open);
        let reason = if is_former(answering) {
            Reason::ReplicaMoved
        } else if !self.is_fresh(answering.view) {
            Reason::ReplicaSilent
        } else if answering.known.departed.is_some() {
            Reason::MemberRecordGone
        } else if answering.view.keeps_users_out().is_some() {
            Reason::ReplicaNotAcceptingConnections
        } else if answering.known.record.no_load_balance {
            Reason::ReplicaTagged
        } else if leads && !streaming {
            Reason::ReplicaNotStreaming
        } else if !self.is_near(replayed) {
            Reason::ReplicaLagging
        } else {
            return None;
        };
        Some(reason(answering.member.clone()))
    }

    fn is_fresh(&self, view: &SocketView) -> bool {
        self.evidence.fresh_reply(view, self.now, self.policy.options().max_probe_age).is_some()
    }

    fn falls_back(&self) -> bool {
        self.policy.options().read_fallback == ReadFallback::Leader
    }

    /// The leader, for those who read there because no replica would do, or because it was a replica before.
    fn fallback(&self, answering: &Answering<'_>) -> Option<Candidate> {
        let (_, until) = self.leader?;
        let member = answering.member.clone();
        if self.falls_back() {
            let reason = self.restrictions.drained(&member).unwrap_or(Reason::MemberIsLeader(member));
            return Some(self.candidate(answering, Admission::Waits(reason), until));
        }
        self.is_standing(answering.reply.fact.server()).then(|| Candidate {
            open_sessions: OpenSessions::EndWhenIdle,
            ..self.candidate(answering, Admission::Waits(Reason::ReplicaPromoted(member)), until)
        })
    }

    /// A primary that is not the leader, or not yet: it was a replica when its sessions began.
    fn stray(&self, answering: &Answering<'_>) -> Option<Candidate> {
        let until =
            self.until(answering.reply).filter(|_| self.is_standing(answering.reply.fact.server()))?;
        let holds_key = self.evidence.leader_key().is_some_and(|key| key.fact.holder == *answering.member);
        let open_sessions =
            if holds_key && self.falls_back() { OpenSessions::GoOn } else { OpenSessions::EndWhenIdle };
        let admission = Admission::Waits(Reason::ReplicaPromoted(answering.member.clone()));
        Some(Candidate { open_sessions, ..self.candidate(answering, admission, until) })
    }

    /// Servers whose names are gone from the list while others on it have not answered yet: one of these may be the same
    /// server.
    fn renamed(&self, candidates: &[Candidate]) -> Vec<Candidate> {
        let limit = self.policy.options().max_member_probe_age;
        let Some(until) = self.evidence.joining(self.now, limit).map(|(_, until)| until).max() else {
            return Vec::new();
        };
        let gone = self.standing.iter().filter(|known| {
            self.evidence.member(&known.member).is_none()
                && candidates.iter().all(|candidate| candidate.server != known.server)
        });
        gone.map(|known| Candidate {
            member: known.member.clone(),
            addr: known.addr.clone(),
            socket: known.socket,
            server: known.server,
            admission: Admission::Waits(Reason::MemberRecordGone(known.member.clone())),
            open_sessions: known.open_sessions,
            until,
        })
        .collect()
    }

    /// Whether `replayed` is near enough to the end of the log. A replica that cannot tell has not earned a limit.
    fn is_near(&self, replayed: Option<Lsn>) -> bool {
        match (self.policy.options().max_lag_bytes, self.newest_lsn(), replayed) {
            (None, _, _) => true,
            (Some(max_lag), Some(Lsn(newest)), Some(Lsn(replayed))) => {
                newest.saturating_sub(replayed) <= max_lag
            }
            (Some(_), _, _) => false,
        }
    }

    /// The end of the log as far as anybody knows: what a primary wrote, or the most that a replica received.
    fn newest_lsn(&self) -> Option<Lsn> {
        self.evidence
            .fresh_replies(self.now, self.policy.options().max_probe_age)
            .filter_map(|(_, _, reply)| match reply.role {
                Role::Primary { written, .. } => Some(written),
                Role::Replica { received, replayed, .. } => received.max(replayed),
            })
            .max()
    }
}

/// How long a server of the read route may be silent before its sessions end: as long as a leader's lease lasts.
pub(crate) fn silence_limit(evidence: &Evidence, policy: &Policy) -> Duration {
    evidence.config().ttl.max(policy.options().max_probe_age)
}

fn is_former(answering: &Answering<'_>) -> bool {
    answering.known.published.socket != Some(answering.socket)
}
