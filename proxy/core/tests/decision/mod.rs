//! The decision as a fuzz target: bytes become a history, which the laws judge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use pg_leader_proxy_core::{
    ClusterConfig, ConfigProblem, LeaderKey, Lsn, Member, MemberName, Moment, Observation, ProbeConnection,
    ProbeFailure, ProbeReply, Revision, Role, ServerAddr, Stamped, StartTime, SystemId, Timeline,
};

use crate::histories::history;
use crate::judged;
use crate::script::{Input, Step, default_addr, play, scenario_text};

/// How many bytes make a strange observation.
const STRANGE: usize = 8;
/// More of them than any counterexample needs.
const MOVES_MAX: usize = 60;

const NAMES: [&str; 5] = ["a", "b", "c", "", "a name that nobody has"];
const NUMBERS: [u64; 8] = [0, 1, 9, 10, 11, u32::MAX as u64, i64::MAX as u64, u64::MAX];
const SPANS: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_secs(1),
    Duration::from_secs(20),
    Duration::from_secs(86_400),
    Duration::from_secs(i64::MAX as u64),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];

/// No history breaks a law that is about the router alone; one of a cluster breaks none at all.
pub(crate) fn decision(data: &[u8]) {
    let Some((&[low, high, strange], data)) = data.split_first_chunk() else { return };
    let (strange, moves) = data.split_at((usize::from(strange % 8) * STRANGE).min(data.len()));
    let moves = moves.as_chunks::<4>().0.iter().take(MOVES_MAX).map(|[a, b, c, d]| (a % 100, *b, *c, *d));
    let mut steps = history(u16::from_le_bytes([low, high]), moves);
    for bytes in strange.as_chunks::<STRANGE>().0 {
        let index = usize::from(bytes[0]) * steps.len() / 256;
        let at = steps[index].at;
        steps.insert(index + 1, Step { at, input: Input::Observe(observation(*bytes, at)) });
    }
    let player = play(&steps);
    let of_the_router = [
        judged::one_leader_per_epoch(&steps, &player),
        judged::ended_epochs_stay_ended(&steps, &player),
        judged::deterministic(&steps, &player),
    ];
    let all = strange.is_empty().then(|| {
        [
            judged::never_past_the_lease(&steps, &player),
            judged::exactly_the_table(&steps, &player),
            judged::never_to_another(&steps, &player),
            judged::no_healthy_leader_is_cut(&steps, &player),
        ]
    });
    for outcome in of_the_router.into_iter().chain(all.into_iter().flatten()) {
        if let Err(why) = outcome {
            panic!("{}", scenario_text(&why, &steps));
        }
    }
}

/// An observation that makes little sense, of nothing that is later than now.
fn observation([_, kind, who, a, b, c, d, e]: [u8; STRANGE], now: Moment) -> Observation {
    let pick = |choice: u8| usize::from(choice) % 8;
    let name = |choice: u8| MemberName::new(NAMES[usize::from(choice) % NAMES.len()]);
    let before = |choice: u8| now - SPANS[pick(choice)];
    let addr = |choice: u8| match choice % 4 {
        0..3 => default_addr(&MemberName::new(NAMES[usize::from(choice % 4)])),
        _ => ServerAddr::new("", 0),
    };
    let socket =
        |choice: u8| SocketAddr::new([10, 0, 0, choice % 5].into(), u16::from(choice / 5 % 2) * 5432);
    match kind % 11 {
        0 => {
            let key = LeaderKey { holder: name(who), create_revision: Revision(NUMBERS[pick(a)]) };
            let lease = (b < 128).then(|| Stamped { sent: before(b), fact: SPANS[pick(c)] });
            Observation::LeaderKey { key: Some(key), lease, seen: before(d) }
        }
        1 => Observation::Config(ClusterConfig {
            paused: a & 1 == 1,
            standby_cluster: a & 2 == 2,
            failsafe_mode: a & 4 == 4,
            ttl: SPANS[pick(b)],
        }),
        2 => Observation::Probe {
            member: name(who),
            addr: addr(a),
            socket: (b < 200).then(|| socket(b)),
            sent: before(c),
            connection: match d % 2 {
                0 => ProbeConnection::New,
                _ => ProbeConnection::Persistent { since: before(d / 2) },
            },
            outcome: outcome(e, NUMBERS[pick(d / 16)]),
        },
        3 => {
            let members = [(who, a), (b, c), (d, e)]
                .map(|(who, at)| (name(who), Member { addr: addr(at), no_load_balance: at >= 128 }));
            Observation::Members(BTreeMap::from(members))
        }
        4 => Observation::Failsafe([who, a, b].into_iter().take(usize::from(c % 4)).map(name).collect()),
        5 => Observation::Initialize((a < 200).then(|| SystemId(NUMBERS[pick(a)]))),
        6 => Observation::ClockStepped { at: before(a) },
        7 => Observation::Address { member: name(who), addr: addr(a), socket: socket(b) },
        8 => Observation::DcsSilent { since: before(a) },
        9 => {
            Observation::ConfigLost(if a < 128 { ConfigProblem::Deleted } else { ConfigProblem::Unreadable })
        }
        _ => Observation::Switchover { announced: a < 128 },
    }
}

fn outcome(choice: u8, number: u64) -> Result<ProbeReply, ProbeFailure> {
    let timeline = Timeline(number as u32);
    let role = match choice % 4 {
        0 => return Err(ProbeFailure::ALL[usize::from(choice / 4) % ProbeFailure::ALL.len()]),
        1 | 2 => Role::Primary { timeline, written: Lsn(number) },
        _ => Role::Replica {
            timeline: (choice < 128).then_some(timeline),
            received: (choice & 16 == 0).then_some(Lsn(number)),
            replayed: (choice & 32 == 0).then_some(Lsn(u64::MAX - number)),
            streaming: choice & 64 == 0,
        },
    };
    Ok(ProbeReply {
        system_id: if choice & 8 == 0 { SystemId(7) } else { SystemId(number) },
        started: StartTime(if choice & 4 == 0 { 1 } else { number.cast_signed() }),
        role,
    })
}
