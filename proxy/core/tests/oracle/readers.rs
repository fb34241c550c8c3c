//! The read route by the table: which servers take new readers, and which end those that they have.

use std::time::Duration;

use pg_leader_proxy_core::{
    Admission, Leader, Lsn, MemberName, ProbeReply, ReadFallback, ReadServer, Role, ServerId, WriteRoute,
};

use super::Oracle;
use super::places::{Place, Site};

impl Oracle<'_> {
    /// Whether the table lets new readers go to `server`; `write` is the write route of the same moment, and `others` says
    /// whether another server takes them.
    pub(crate) fn admits_readers(&self, server: &ReadServer, write: &WriteRoute, others: bool) -> bool {
        let Some((place, site)) = self.site_of(server) else { return false };
        let name = &server.member;
        let fresh = self.fresh_reply(name, site, self.options().max_probe_age);
        let leads = write.leader().filter(|leader| leader.server() == server.server);
        if let Some(leader) = leads {
            let fallback = self.options().read_fallback == ReadFallback::Leader;
            return fallback && !others && *leader.admission() == Admission::Open;
        }
        let Some((_, reply)) = fresh else { return false };
        let Role::Replica { replayed, streaming, .. } = reply.role else { return false };
        let has_leader = write.leader().is_some_and(|leader| *leader.admission() == Admission::Open);
        place.published == Some(site)
            && place.departed.is_none()
            && !place.record.no_load_balance
            && !self.keeps_users_out(name, site)
            && (streaming || !has_leader)
            && self.is_near(replayed)
    }

    /// Whether the table ends the readers of a server that was on the route before.
    pub(crate) fn ends_readers(&self, server: &ReadServer, leader: Option<&Leader>) -> bool {
        let sites = self.places.iter().flat_map(|(name, place)| place.sites().map(move |site| (name, site)));
        // It may have another name by now.
        let mut replies = sites
            .filter_map(|(name, site)| Some((name, site, self.reply(name, site)?)))
            .filter(|(_, _, (_, reply))| reply.server() == server.server);
        let ours = self.initialize().or_else(|| leader.map(|leader| leader.server().system_id));
        let silence = self.config().ttl.max(self.options().max_probe_age);
        !replies.any(|(_, _, (sent, reply))| {
            let suspended = self.stepped().filter(|stepped| sent < *stepped);
            let lasts = self.now < sent + silence
                && suspended.is_none_or(|at| self.now < at + self.options().max_suspension);
            lasts && ours.is_none_or(|ours| ours == reply.system_id) || leads(leader, reply.server())
        })
    }

    fn site_of(&self, server: &ReadServer) -> Option<(&Place, Site)> {
        let place = self.places.get(&server.member)?;
        place.sites().find(|site| site.socket == server.socket).map(|site| (place, site))
    }

    fn is_near(&self, replayed: Option<Lsn>) -> bool {
        let Some(max_lag) = self.options().max_lag_bytes else { return true };
        let limit: Duration = self.options().max_probe_age;
        let end = |reply: &ProbeReply| match reply.role {
            Role::Primary { written, .. } => Some(written.0),
            Role::Replica { received, replayed, .. } => received.max(replayed).map(|lsn| lsn.0),
        };
        let newest = self.fresh_replies(limit).iter().filter_map(|(_, reply)| end(reply)).max();
        newest.zip(replayed).is_some_and(|(newest, Lsn(replayed))| newest.saturating_sub(replayed) <= max_lag)
    }

    /// Everybody who is out of recovery, by name.
    pub(crate) fn primary_names(&self) -> Vec<MemberName> {
        self.primaries().into_iter().map(|(name, ..)| name).collect()
    }
}

fn leads(leader: Option<&Leader>, server: ServerId) -> bool {
    leader.is_some_and(|leader| leader.server() == server)
}
