//! Laws that both random histories and the fuzzer's are held against.

#![allow(dead_code, reason = "each test crate uses a part of the laws")]

use std::collections::{BTreeMap, BTreeSet};

use pg_leader_proxy_core::{Basis, Leader, RouteEpoch, Routing, ServerId, Timeline};

use crate::histories::Outcome;
use crate::oracle::{self, Oracle, Replay};
use crate::script::{Player, Snapshot, Step, play};

/// Law 1: there is one leader per epoch, and epochs only grow.
pub(crate) fn one_leader_per_epoch(_: &[Step], player: &Player) -> Outcome {
    let mut leaders: BTreeMap<RouteEpoch, (ServerId, Timeline)> = BTreeMap::new();
    for leader in player.trail.iter().filter_map(|snapshot| snapshot.routing.write.leader()) {
        let identity = (leader.server(), leader.timeline());
        let newest = leaders.last_key_value().map(|(epoch, _)| *epoch);
        ensure(newest <= Some(leader.epoch()), || format!("epoch {} comes back", leader.epoch()))?;
        let known = leaders.entry(leader.epoch()).or_insert(identity);
        ensure(*known == identity, || format!("epoch {} has {known:?} and {identity:?}", leader.epoch()))?;
    }
    Ok(())
}

/// Law 2: an ended epoch never returns.
pub(crate) fn ended_epochs_stay_ended(_: &[Step], player: &Player) -> Outcome {
    let mut ended = BTreeSet::new();
    for (before, after) in player.trail.iter().zip(player.trail.iter().skip(1)) {
        let (before, after) = (epoch(&before.routing), epoch(&after.routing));
        ended.extend(before.filter(|_| before != after));
        ensure(!after.is_some_and(|epoch| ended.contains(&epoch)), || format!("{after:?} had ended"))?;
    }
    Ok(())
}

/// Law 3: nothing is forwarded past the horizon without the all-members rule.
pub(crate) fn never_past_the_lease(steps: &[Step], player: &Player) -> Outcome {
    each(steps, player, |snapshot, oracle| {
        let Some(leader) = snapshot.routing.write.leader() else { return Ok(()) };
        let Some(until) = snapshot.valid_until else { return Err("there is no end to it".to_owned()) };
        let suspended = until <= snapshot.at;
        let Some(horizon) = oracle.horizon() else {
            return ensure(
                suspended || !oracle.asks_the_dcs() || oracle.config().paused || !is_by_lease(leader),
                || format!("at {} no lease is confirmed", snapshot.at),
            );
        };
        let by_lease = is_by_lease(leader) && !oracle.config().paused && oracle.asks_the_dcs();
        ensure(!by_lease || until <= horizon, || format!("valid until {until}, but the horizon is {horizon}"))
    })
}

/// Law 4: the same observations give the same routing.
pub(crate) fn deterministic(steps: &[Step], player: &Player) -> Outcome {
    let again = play(steps);
    ensure(again.trail == player.trail, || "the second run differs from the first".to_owned())
}

/// Law 7: no server that is known not to be the leader is forwarded to.
pub(crate) fn never_to_another(steps: &[Step], player: &Player) -> Outcome {
    each(steps, player, |snapshot, oracle| {
        let Some(leader) = snapshot.routing.write.leader() else { return Ok(()) };
        let member = leader.member();
        if let Some((_, reply)) = oracle.reply_at(member, leader.socket()) {
            ensure(reply.timeline() == Some(leader.timeline()), || format!("{member} is elsewhere"))?;
            ensure(oracle::is_primary(reply), || format!("{member} said that it is in recovery"))?;
            let ours = oracle.initialize().is_none_or(|id| id == reply.system_id);
            ensure(ours || !oracle.asks_the_dcs(), || format!("{member} is of another cluster"))?;
        } else {
            ensure(!oracle.is_down_at(member, leader.socket()), || format!("{member} was found down"))?;
        }
        let live = oracle.asks_the_dcs() && !oracle.dcs_is_silent();
        let holder = oracle.key().map(|(key, _)| &key.holder);
        ensure(!live || holder.is_none_or(|holder| holder == member), || {
            format!("{holder:?} holds the key, and {member} is served")
        })?;
        ensure(!live || holder.is_some() || oracle.config().paused, || "nobody holds the key".to_owned())
    })
}

/// Law 3 in full: the router forwards exactly when the table allows it.
pub(crate) fn exactly_the_table(steps: &[Step], player: &Player) -> Outcome {
    each(steps, player, oracle::by_the_table)
}

/// Law 8: a session of a leader with a confirmed lease ends only by a row of the table.
pub(crate) fn no_healthy_leader_is_cut(steps: &[Step], player: &Player) -> Outcome {
    each(steps, player, oracle::no_healthy_leader_is_cut)
}

/// `why`, unless it is met.
pub(crate) fn ensure(met: bool, why: impl FnOnce() -> String) -> Outcome {
    if met { Ok(()) } else { Err(why()) }
}

/// Judges each thing that the router said by what the oracle says at that moment.
pub(crate) fn each(
    steps: &[Step],
    player: &Player,
    mut judge: impl FnMut(&Snapshot, &Oracle<'_>) -> Outcome,
) -> Outcome {
    let mut replay = Replay::new(steps, &player.trail);
    while let Some((snapshot, oracle)) = replay.next() {
        judge(snapshot, &oracle)?;
    }
    Ok(())
}

/// Whether a leader leads by its lease.
pub(crate) fn is_by_lease(leader: &Leader) -> bool {
    leader.basis() == Basis::Lease
}

/// The epoch of the write route.
pub(crate) fn epoch(routing: &Routing) -> Option<RouteEpoch> {
    routing.write.leader().map(|leader| leader.epoch())
}
