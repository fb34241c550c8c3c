//! Why a server has left the read route, as its readers are told.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::{
    LeaderKey, Lsn, Member, MemberName, Moment, Observation, Policy, ProbeConnection, ProbeReply, Reason,
    Revision, Role, RouteEpoch, Router, ServerAddr, Stamped, StartTime, SystemId, Timeline,
};

fn at(seconds: u64) -> Moment {
    Moment::from_boot(Duration::from_secs(seconds))
}

fn replica() -> MemberName {
    MemberName::new("b")
}

fn socket(member: &MemberName) -> SocketAddr {
    ([10, 0, 0, member.as_str().as_bytes()[0]], 5432).into()
}

fn probe(member: &MemberName, reply: ProbeReply, sent: Moment) -> Observation {
    Observation::Probe {
        member: member.clone(),
        addr: ServerAddr::new(member.as_str(), 5432),
        socket: Some(socket(member)),
        sent,
        connection: ProbeConnection::New,
        outcome: Ok(reply),
    }
}

fn reply(system_id: u64, started: i64, is_replica: bool) -> ProbeReply {
    let lsn = Lsn(1);
    let role = match is_replica {
        true => Role::Replica {
            timeline: Some(Timeline(1)),
            received: Some(lsn),
            replayed: Some(lsn),
            streaming: true,
        },
        false => Role::Primary { timeline: Timeline(1), written: lsn },
    };
    ProbeReply { system_id: SystemId(system_id), started: StartTime(started), role }
}

/// A router that reads from `b`, and the epoch of its sessions there.
fn reading() -> (Router, RouteEpoch) {
    let mut router = Router::new(Policy::default());
    let names = [MemberName::new("a"), replica()];
    let members = names.clone().map(|name| {
        let addr = ServerAddr::new(name.as_str(), 5432);
        (name, Member { addr, no_load_balance: false })
    });
    let key = LeaderKey { holder: names[0].clone(), create_revision: Revision(1) };
    let lease = Some(Stamped { sent: at(1), fact: Duration::from_secs(1000) });
    for observation in [
        Observation::Members(members.into()),
        Observation::Initialize(Some(SystemId(7))),
        Observation::LeaderKey { key: Some(key), lease, seen: at(1) },
        probe(&names[0], reply(7, 1, false), at(1)),
        probe(&names[1], reply(7, 2, true), at(1)),
    ] {
        router.observe(observation, at(1));
    }
    let servers = router.routing().read.servers();
    assert_eq!(servers.len(), 1);
    let epoch = servers[0].epoch;
    (router, epoch)
}

#[test]
fn a_silent_replica() {
    let (mut router, epoch) = reading();
    router.observe(probe(&MemberName::new("a"), reply(7, 1, false), at(60)), at(60));
    assert_eq!(router.read_ended(epoch), Some(&Reason::ReplicaSilent(replica())));
    router.advance(at(61));
    assert_eq!(router.read_ended(epoch), None, "it is said once");
}

#[test]
fn a_replica_that_was_restarted() {
    let (mut router, epoch) = reading();
    router.observe(probe(&replica(), reply(7, 3, true), at(2)), at(2));
    assert_eq!(router.read_ended(epoch), Some(&Reason::ReplicaRestarted(replica())));
}

#[test]
fn an_address_with_a_server_of_another_cluster() {
    let (mut router, epoch) = reading();
    router.observe(probe(&replica(), reply(8, 3, true), at(2)), at(2));
    assert_eq!(router.read_ended(epoch), Some(&Reason::SystemIdMismatch(replica(), SystemId(8))));
}

#[test]
fn a_replica_that_was_promoted_keeps_its_readers_until_they_are_idle() {
    let (mut router, epoch) = reading();
    router.observe(probe(&replica(), reply(7, 2, false), at(2)), at(2));
    assert_eq!(router.read_ended(epoch), None);
}
