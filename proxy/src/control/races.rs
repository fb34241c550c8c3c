//! The start of a session against the end of its epoch, in all orders in which their threads may run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pg_leader_proxy_core::{
    LeaderKey, Lsn, Member, MemberName, Moment, Observation, Policy, ProbeConnection, ProbeReply, Revision,
    Role, RouteEpoch, Router, ServerAddr, Stamped, StartTime, SystemId, Timeline,
};
use shuttle::future::block_on;
use shuttle::thread;
use tokio::sync::watch;

use super::outputs::Outputs;
use crate::admission::{Gate, GateLimits, Targets};
use crate::races::explore;
use crate::route::RouteKind;

const NOW: Moment = Moment::from_boot(Duration::from_secs(5));
/// From the leader key to the probe that confirms its holder.
const AFTER: Duration = Duration::from_millis(1);

/// A failover from a to b while clients come: none of their bytes passes to a server whose epoch has ended, and each client
/// arrives at b without being told anything twice.
#[test]
fn no_byte_passes_after_the_end_of_an_epoch_and_every_client_finds_the_next_leader() {
    explore(|| {
        let gate = || Gate::new(GateLimits { max_held: 8, max_concurrent_logins: 2 });
        let (outputs, targets, _) = Outputs::new(gate(), gate(), Arc::default());
        let ended = Arc::new(Mutex::new(BTreeSet::new()));
        let clients = [(); 2].map(|()| {
            let (gate, targets, ended) = (outputs.write_gate.clone(), targets.clone(), Arc::clone(&ended));
            thread::spawn(move || session(&gate, &targets, &ended))
        });
        let mut router = Router::new(Policy::default());
        for (revision, leader) in [(1, "a"), (2, "b")] {
            let before = router.routing().write.leader().map(|leader| leader.epoch());
            lead(&mut router, leader, revision);
            outputs.publish(&router);
            ended.lock().unwrap().extend(before);
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(outputs.write_gate.connecting_and_waiting(), (0, 0));
    });
}

/// A client as `Startup` and the event loop treat it: it gets a permit and a server, checks the grant before each byte, and
/// tries again if its epoch ended before the first.
fn session(gate: &Gate, targets: &watch::Receiver<Arc<Targets>>, ended: &Mutex<BTreeSet<RouteEpoch>>) {
    let mut ticket = gate.enqueue().unwrap();
    loop {
        let permit = block_on(ticket.permit()).unwrap();
        let reserved = targets.borrow().reserve(RouteKind::Write, None);
        let Ok((target, _guard)) = reserved else {
            drop(permit);
            ticket.rejoin();
            continue;
        };
        drop(permit);
        let mut passed = 0;
        while passed < 3 && target.grant.allows(NOW) {
            // Between the check and this there is no other thread: that instruction is a known limit.
            assert!(
                !ended.lock().unwrap().contains(&target.epoch),
                "a byte to {} after its end",
                target.member
            );
            passed += 1;
        }
        if target.member.as_str() == "b" {
            assert_eq!(passed, 3, "b leads, and nothing passes");
            return;
        }
        // The session of a goes on until it hears of the end.
        block_on(target.grant.revoked());
        ticket.rejoin();
    }
}

/// Everything that makes this member the leader.
fn lead(router: &mut Router, leader: &str, revision: u64) {
    let addr = |name: &str| ServerAddr::new(name, 5432);
    let member = |name: &str| (MemberName::new(name), Member { addr: addr(name), no_load_balance: false });
    let at = NOW + Duration::from_millis(10 * revision);
    let key = LeaderKey { holder: MemberName::new(leader), create_revision: Revision(revision) };
    let told = [
        Observation::Members(BTreeMap::from(["a", "b"].map(member))),
        Observation::Initialize(Some(SystemId(7))),
        Observation::LeaderKey {
            key: Some(key),
            lease: Some(Stamped { sent: at, fact: Duration::from_secs(20) }),
            seen: at,
        },
        Observation::Probe {
            member: MemberName::new(leader),
            addr: addr(leader),
            socket: Some(([10, 0, 0, revision as u8], 5432).into()),
            sent: at + AFTER,
            connection: ProbeConnection::New,
            outcome: Ok(ProbeReply {
                system_id: SystemId(7),
                started: StartTime(revision as i64),
                role: Role::Primary { timeline: Timeline(revision as u32), written: Lsn(1) },
            }),
        },
    ];
    for observation in told {
        router.observe(observation, at + AFTER);
    }
    assert!(router.routing().write.leader().is_some(), "{:?}", router.routing().write);
}
