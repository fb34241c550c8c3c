//! The laws, judged by what is really so in the cluster and by what a proxy was told, never by what its router makes of it.

use std::time::Duration;

use pg_leader_proxy_core::{Basis, Leader};

use crate::broken::Broken;
use crate::proxy::{Clock, Epoch, Proxy};
use crate::setup::{MARGIN, MAX_MEMBER_PROBE_AGE, MEMBERS, ROUND};
use crate::told::{Said, Told};
use crate::world::World;

impl Proxy {
    /// Laws 1, 2, 3 and 8, after each call of the router: what begins, and what ends.
    pub(crate) fn note_epoch(&mut self) {
        let leader = self.router.routing().write.leader().cloned();
        let known = self.epoch;
        let broken = match (&leader, known) {
            (None, Some(known)) if !known.ended => self.ends(&known),
            (Some(leader), Some(known)) if leader.epoch() == known.number => self.goes_on(leader, &known),
            (Some(leader), Some(known)) if leader.epoch() < known.number => {
                Some(Broken::new(1, format!("epoch {} follows epoch {}", leader.epoch(), known.number)))
            }
            (Some(leader), Some(known)) if !known.ended => self.ends(&known).or_else(|| self.begins(leader)),
            (Some(leader), _) => self.begins(leader),
            (None, _) => None,
        };
        self.broken = self.broken.take().or(broken);
        self.epoch = match leader {
            Some(leader) => {
                Some(self.epoch_of(&leader, known.filter(|known| known.number == leader.epoch())))
            }
            None => known.map(|known| Epoch { ended: true, ..known }),
        };
    }

    /// An epoch rests on the key under which its leader last said that it is a primary.
    fn epoch_of(&self, leader: &Leader, known: Option<Epoch>) -> Epoch {
        let key = match known {
            Some(known) if self.begins(leader).is_some() => known.key,
            _ => self.told.key().flatten(),
        };
        let (number, server, timeline) = (leader.epoch(), leader.server(), leader.timeline());
        Epoch { number, member: Told::index(leader.member()), server, timeline, key, ended: false }
    }

    fn goes_on(&self, leader: &Leader, known: &Epoch) -> Option<Broken> {
        let epoch = known.number;
        if known.ended {
            return Some(Broken::new(2, format!("epoch {epoch} had ended")));
        }
        if (leader.server(), leader.timeline()) != (known.server, known.timeline) {
            return Some(Broken::new(1, format!("epoch {epoch} has two leaders")));
        }
        let other_key = known.key != self.told.key().flatten() && !self.told.is_paused();
        other_key.then(|| Broken::new(2, format!("epoch {epoch} goes on under another leader key")))
    }

    /// New sessions go to a server that has said it is a primary since its leader key was heard of.
    fn begins(&self, leader: &Leader) -> Option<Broken> {
        let member = Told::index(leader.member());
        let since = self.told.key_changed.max(self.told.stepped);
        match self.told.answers[member] {
            Some((sent, Said::Role { server, role: (true, timeline) }))
                if Some(sent) >= since
                    && server == leader.server()
                    && timeline == Some(leader.timeline()) =>
            {
                None
            }
            other => Some(Broken::new(3, format!("{} leads by {other:?}", leader.member()))),
        }
    }

    /// Law 8: what a proxy must have been told to end the sessions of a leader whose lease is confirmed.
    fn ends(&self, known: &Epoch) -> Option<Broken> {
        let key_is_another = known.key.is_none() || self.told.key() != Some(known.key);
        if key_is_another || !self.told.lease_holds(self.now, MARGIN) {
            return None;
        }
        let contradicted = self.told.answers[known.member].is_some_and(|(_, said)| match said {
            Said::Down => true,
            Said::Role { server, role: (primary, timeline) } => {
                server != known.server || !primary || timeline != Some(known.timeline)
            }
        });
        let reason = self.router.routing().write.waits().map_or("another leader", |reason| reason.code());
        (!contradicted).then(|| Broken::new(8, format!("epoch {} ends: {reason}", known.number)))
    }
}

impl World {
    /// The laws, as things stand.
    ///
    /// # Errors
    /// The law that is broken.
    pub(crate) fn judge(&self) -> Result<(), Broken> {
        (0..self.proxies.len()).try_for_each(|proxy| may_bytes_pass(self, proxy))
    }
}

/// Laws 3, 5 and 7, whenever a byte might pass.
fn may_bytes_pass(world: &World, proxy: usize) -> Result<(), Broken> {
    judge(world, proxy).map_err(|broken| Broken { proxy, ..broken })
}

fn judge(world: &World, proxy: usize) -> Result<(), Broken> {
    let it = &world.proxies[proxy];
    if let Some(broken) = &it.broken {
        return Err(broken.clone());
    }
    let Some(leader) = it.passes_to() else { return Ok(()) };
    let member = Told::index(leader.member());
    if it.told.content.is_none() {
        return Err(Broken::new(5, "a router that was told nothing forwards"));
    }
    if world.setup.asks_etcd() {
        knows_the_key(it, leader)?;
    }
    match it.told.answers[member] {
        Some((_, Said::Role { server, role: (true, _) })) if server == leader.server() => {}
        other => {
            return Err(Broken::new(7, format!("bytes pass to {}, which said {other:?}", leader.member())));
        }
    }
    if leader.basis() == Basis::AllMembers && !may_be_unheard(it) {
        all_members_answer(it, member)?;
    }
    nobody_leads_instead(world, it, member, leader)
}

/// Laws 3 and 7: the leader key, as it was told.
fn knows_the_key(it: &Proxy, leader: &Leader) -> Result<(), Broken> {
    if it.told.is_paused() {
        return Ok(());
    }
    let holder = it.told.key().flatten().map(|key| key.holder);
    if holder != Some(Told::index(leader.member())) {
        return Err(Broken::new(7, format!("bytes pass to {}, the key is {holder:?}'s", leader.member())));
    }
    if leader.basis() == Basis::Lease && !it.told.lease_holds(it.now, MARGIN) {
        return Err(Broken::new(3, "bytes pass after the horizon"));
    }
    Ok(())
}

/// In maintenance mode, for a while after the key came or went.
fn may_be_unheard(it: &Proxy) -> bool {
    it.told.is_paused() && it.told.key_changed.is_some_and(|changed| it.now < changed + MAX_MEMBER_PROBE_AGE)
}

/// Law 3: the all-members rule.
fn all_members_answer(it: &Proxy, leader: usize) -> Result<(), Broken> {
    for member in (0..MEMBERS).filter(|member| it.told.known[*member] && *member != leader) {
        match it.told.answers[member] {
            Some((sent, Said::Role { role: (false, _), .. })) if it.now < sent + MAX_MEMBER_PROBE_AGE => {}
            other => {
                let why = format!("all members must answer, and {} said {other:?}", Told::name(member));
                return Err(Broken::new(3, why));
            }
        }
    }
    Ok(())
}

/// Law 7, by what is really so: no byte passes to a server that takes writes when another one leads instead.
///
/// Who leads is whom Patroni made the primary last, in possession of the leader key; without etcd, whoever takes writes.
/// Where a lease says that nobody can, that holds at every moment. Where the members must say so, an answer of theirs may be
/// as old as the policy allows, and in maintenance mode they have as long again to give it when the key came or went.
fn nobody_leads_instead(world: &World, it: &Proxy, member: usize, leader: &Leader) -> Result<(), Broken> {
    let cluster = &world.cluster;
    let server = &cluster.members[member].server;
    let acknowledges = server.takes_writes()
        && server.started == leader.server().started.0
        && it.reaches[member]
        && !cluster.members[member].isolated;
    if !acknowledges {
        return Ok(());
    }
    let lag = if it.clock == Clock::Exact { Duration::ZERO } else { ROUND };
    let by_lease = leader.basis() == Basis::Lease && !it.told.is_paused();
    let unheard = if may_be_unheard(it) { MAX_MEMBER_PROBE_AGE } else { Duration::ZERO };
    let bound = if by_lease { Duration::ZERO } else { MAX_MEMBER_PROBE_AGE + unheard + lag };
    let newest = cluster.newest;
    let succeeded = newest.member != member && server.led < newest.led;
    let led_since = newest.since;
    if world.setup.asks_etcd() && succeeded && world.now.since(led_since) >= bound {
        let why =
            format!("{} acknowledges a write although {} leads", leader.member(), Told::name(newest.member));
        return Err(Broken::new(7, why));
    }
    let others = (0..cluster.size).filter(|other| *other != member && leader.basis() == Basis::AllMembers);
    for other in others {
        let since = cluster.members[other].server.writes_since;
        if since.is_some_and(|since| world.now.since(since) >= bound) {
            let why = format!("both {} and {} take writes", leader.member(), Told::name(other));
            return Err(Broken::new(7, why));
        }
    }
    Ok(())
}
