//! The lease rule: the holder of the leader key leads until the lease horizon, if its own reply agrees.

use crate::admission::Admission;
use crate::cluster::{LeaderKey, MemberName};
use crate::evidence::{MemberView, SocketView};
use crate::moment::{Moment, Stamped};
use crate::observation::{ProbeFailure, ProbeReply, Role};
use crate::reason::Reason;

use super::{Basis, Proof, Rules, Standing, Verified};

impl<'a> Rules<'a> {
    /// The key is held, and its lease is confirmed until `horizon`.
    pub(super) fn by_lease(&self, key: &'a Stamped<LeaderKey>, horizon: Moment) -> Result<Proof, Reason> {
        let holder = &key.fact.holder;
        let Some(member) = self.evidence.member(holder) else {
            return Err(Reason::LeaderAddressUnknown(holder.clone()));
        };
        let same =
            |standing: &&Standing| standing.member == *holder && standing.key.as_ref() == Some(&key.fact);
        match self.standing.filter(same) {
            Some(standing) => self.go_on(standing, member, key, horizon),
            None => self.begin(member, key, horizon),
        }
    }

    /// A leadership begins with a reply that was sent after its key was seen.
    fn begin(
        &self,
        member: &'a MemberView,
        key: &'a Stamped<LeaderKey>,
        horizon: Moment,
    ) -> Result<Proof, Reason> {
        let (holder, view) = (&key.fact.holder, &member.published);
        let reply = self.present_reply(holder, view, key.sent)?;
        let Some(initialize) = self.evidence.initialize() else { return Err(Reason::Bootstrapping) };
        if reply.system_id != initialize {
            return Err(Reason::SystemIdMismatch(holder.clone(), reply.system_id));
        }
        let (Role::Primary { timeline, .. }, Some(socket)) = (reply.role, view.socket) else {
            return Err(Reason::LeaderInRecovery(holder.clone()));
        };
        let addr = &member.record.addr;
        let verified = Verified { member: holder, addr, view, socket, server: reply.server(), timeline };
        let admission = self.admission(holder, member, view);
        Ok(self.prove(&verified, Basis::Lease, admission, horizon))
    }

    /// A leadership goes on until the horizon, unless its server is down or says otherwise. Silence says nothing.
    fn go_on(
        &self,
        standing: &'a Standing,
        member: &'a MemberView,
        key: &'a Stamped<LeaderKey>,
        horizon: Moment,
    ) -> Result<Proof, Reason> {
        let holder = &key.fact.holder;
        let (addr, view) = self.speaker(holder, member);
        if view.is_down() {
            return Err(self.silence(holder, view));
        }
        let (server, timeline) = match view.reply.map(|reply| reply.fact) {
            None => (standing.server, standing.timeline),
            Some(reply) if !self.is_ours(reply.system_id) => {
                return Err(Reason::SystemIdMismatch(holder.clone(), reply.system_id));
            }
            Some(reply) => match reply.role {
                Role::Replica { .. } => return Err(Reason::LeaderInRecovery(holder.clone())),
                Role::Primary { timeline, .. } => (reply.server(), timeline),
            },
        };
        if (server, timeline) != (standing.server, standing.timeline) {
            return self.begin(member, key, horizon);
        }
        let socket = view.socket.unwrap_or(standing.socket);
        let verified = Verified { member: holder, addr, view, socket, server, timeline };
        let admission = self.admission(holder, member, view);
        Ok(self.prove(&verified, Basis::Lease, admission, horizon))
    }

    /// The reply of a server that took the key at `seen`: sent since, and fresh.
    fn present_reply(
        &self,
        holder: &MemberName,
        view: &SocketView,
        seen: Moment,
    ) -> Result<ProbeReply, Reason> {
        let since = self.evidence.clock_stepped().map_or(seen, |stepped| stepped.max(seen));
        match (view.reply, view.failure) {
            (Some(reply), _) if reply.sent >= since => {
                if self.is_fresh(reply.sent, self.policy.options().max_probe_age) {
                    Ok(reply.fact)
                } else {
                    Err(self.silence(holder, view))
                }
            }
            (_, Some(failure)) if failure.sent >= since => Err(self.silence(holder, view)),
            _ => Err(Reason::LeaderNotProbed(holder.clone())),
        }
    }

    /// Why the holder of the key gives no reply.
    fn silence(&self, holder: &MemberName, view: &SocketView) -> Reason {
        match view.failure {
            Some(failure) => Reason::LeaderProbeFailed(holder.clone(), failure.fact),
            None if view.is_down() => Reason::LeaderProbeFailed(holder.clone(), ProbeFailure::Refused),
            None => Reason::LeaderSilent(holder.clone()),
        }
    }

    /// Whether new sessions go to a leader that `view` speaks for.
    fn admission(&self, holder: &MemberName, member: &MemberView, view: &SocketView) -> Admission {
        let limit = self.policy.options().max_probe_age;
        if self.evidence.fresh_reply(view, self.now, limit).is_none() {
            let stepped = view.reply.is_some_and(|reply| !self.evidence.is_trusted(reply.sent));
            return Admission::Waits(if stepped { Reason::ClockStepped } else { self.silence(holder, view) });
        }
        self.reachable(holder, member, view)
    }

    /// Whether new sessions get in at a server that answers.
    pub(super) fn reachable(&self, name: &MemberName, member: &MemberView, view: &SocketView) -> Admission {
        let published = self.primary(&member.published).map(|(reply, _)| reply.server());
        let here = view.reply.map(|reply| reply.fact.server());
        if published.is_some() && published != here {
            return Admission::Waits(Reason::LeaderAmbiguous(name.clone()));
        }
        match view.keeps_users_out() {
            Some(_) => Admission::Waits(Reason::LeaderNotAcceptingConnections(name.clone())),
            None => Admission::Open,
        }
    }
}
