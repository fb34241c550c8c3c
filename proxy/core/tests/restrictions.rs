//! What an operator restricts changes where new sessions go, and nothing else, in any history.

#![allow(clippy::unwrap_used)]

mod check_law;
mod histories;
mod script;

use std::collections::BTreeSet;

use check_law::check_law;
use histories::Outcome;
use pg_leader_proxy_core::{Admission, Alarm, Leader, MemberName, Moment, Restrictions, Routing};
use script::{Input, Player, Snapshot, Step};

/// The same history under restrictions from its beginning on.
fn restricted(steps: &[Step], restrictions: Restrictions) -> Player {
    let mut player = Player::new();
    player.play(&Step { at: Moment::default(), input: Input::Restrict(restrictions) });
    player.trail.clear();
    steps.iter().for_each(|step| player.play(step));
    player
}

#[test]
fn a_pause_stops_all_new_sessions_and_nothing_else() {
    check_law("a pause touches no open session", |steps, free| {
        let paused = restricted(steps, Restrictions { paused: true, drained: BTreeSet::new() });
        ensure(paused.trail.len() == free.trail.len(), "the router is called at other times")?;
        for (free, paused) in free.trail.iter().zip(&paused.trail) {
            ensure(open_sessions(free) == open_sessions(paused), "open sessions are treated differently")?;
            ensure(
                admissions(&paused.routing).all(|found| *found != Admission::Open),
                "a session is let in",
            )?;
            let mut alarms = paused.routing.alarms.clone();
            ensure(alarms.pop() == Some(Alarm::PausedByOperator), "there is no alarm")?;
            ensure(alarms == free.routing.alarms, "another alarm differs")?;
            ensure(
                free.routing.probe_urgency == paused.routing.probe_urgency,
                "servers are asked differently",
            )?;
            for (free, paused) in admissions(&free.routing).zip(admissions(&paused.routing)) {
                ensure(*free == Admission::Open || free == paused, "another reason is hidden")?;
            }
        }
        Ok(())
    });
}

/// What becomes of open sessions: the epochs and servers, and until when bytes may pass.
fn open_sessions(snapshot: &Snapshot) -> impl PartialEq {
    let Routing { write, read, .. } = &snapshot.routing;
    let leader = write.leader().map(|leader: &Leader| {
        (
            leader.epoch(),
            leader.member().clone(),
            leader.socket(),
            leader.server(),
            leader.timeline(),
            leader.basis(),
        )
    });
    let held = write.leader().is_none().then(|| write.waits().cloned());
    let readers: Vec<_> = read
        .servers()
        .iter()
        .map(|server| (server.epoch, server.member.clone(), server.socket, server.open_sessions))
        .collect();
    (leader, held, readers, snapshot.valid_until, snapshot.deadline)
}

fn admissions(routing: &Routing) -> impl Iterator<Item = &Admission> {
    let leader = routing.write.leader().map(Leader::admission);
    leader.into_iter().chain(routing.read.servers().iter().map(|server| &server.admission))
}

#[test]
fn a_drained_member_gets_no_new_readers_and_writers_do_not_notice() {
    let member = MemberName::new("b");
    check_law("a drain touches no writer", |steps, _| {
        let drained = BTreeSet::from([member.clone()]);
        let mut player = Player::new();
        let mut free = Player::new();
        for step in steps {
            player.play(step);
            free.play(step);
            free.play(&Step { at: step.at, input: Input::Tick });
            // Again and again, since a member that is not known cannot be drained.
            let restrict = Input::Restrict(Restrictions { paused: false, drained: drained.clone() });
            player.play(&Step { at: step.at, input: restrict });
            let routing = player.router.routing();
            ensure(routing.write == free.router.routing().write, "writers notice")?;
            let readers = routing.read.servers().iter().filter(|server| server.member == member);
            let known = player.router.restrictions().drained.contains(&member);
            for server in readers.filter(|_| known) {
                ensure(server.admission != Admission::Open, "the drained member gets a reader")?;
            }
        }
        Ok(())
    });
}

fn ensure(is: bool, otherwise: &str) -> Outcome {
    if is { Ok(()) } else { Err(otherwise.to_owned()) }
}
