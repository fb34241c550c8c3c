//! What one observation costs the router.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use pg_leader_proxy_core::{
    LeaderKey, Lsn, Member, MemberName, Moment, Observation, Policy, ProbeConnection, ProbeReply, Revision,
    Role, Router, ServerAddr, Stamped, StartTime, SystemId, Timeline,
};

/// Members of the clusters: the smallest that can fail over, and a large one.
const SIZES: [usize; 2] = [2, 9];
/// Between two observations: the probe interval of a healthy cluster.
const STEP: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(20);

/// A router with a confirmed leader, and its clock.
struct Fixture {
    router: Router,
    now: Moment,
    names: Vec<MemberName>,
    revision: u64,
}

impl Fixture {
    fn new(members: usize) -> Self {
        let names: Vec<MemberName> =
            (0..members).map(|number| MemberName::new(&format!("pg-{number}"))).collect();
        let known: BTreeMap<MemberName, Member> = names
            .iter()
            .map(|name| (name.clone(), Member { addr: addr(name), no_load_balance: false }))
            .collect();
        let mut fixture = Self {
            router: Router::new(Policy::default()),
            now: Moment::from_boot(Duration::from_secs(1)),
            names,
            revision: 0,
        };
        fixture.router.observe(Observation::Members(known), fixture.now);
        fixture.router.observe(Observation::Initialize(Some(SystemId(1))), fixture.now);
        let key = fixture.key(0);
        fixture.router.observe(key, fixture.now);
        for number in 0..members {
            let probe = fixture.probe(number, number == 0);
            fixture.router.observe(probe, fixture.now);
        }
        assert!(fixture.router.routing().write.leader().is_some(), "the first member leads");
        fixture
    }

    /// A member's answer to a probe.
    fn probe(&self, number: usize, is_primary: bool) -> Observation {
        let role = if is_primary {
            Role::Primary { timeline: Timeline(1), written: Lsn(self.revision) }
        } else {
            let received = Some(Lsn(self.revision));
            Role::Replica { timeline: Some(Timeline(1)), received, replayed: received, streaming: true }
        };
        let member = self.names[number].clone();
        let server = u16::try_from(number).unwrap_or_default();
        Observation::Probe {
            addr: addr(&member),
            member,
            socket: Some(([10, 0, 0, 1], 5432 + server).into()),
            sent: self.now,
            connection: ProbeConnection::Persistent { since: Moment::default() },
            outcome: Ok(ProbeReply { system_id: SystemId(1), started: StartTime(server.into()), role }),
        }
    }

    /// A member takes the leader key.
    fn key(&mut self, number: usize) -> Observation {
        self.revision += 1;
        let holder = self.names[number].clone();
        Observation::LeaderKey {
            key: Some(LeaderKey { holder, create_revision: Revision(self.revision) }),
            lease: Some(Stamped { sent: self.now, fact: LEASE }),
            seen: self.now,
        }
    }

    fn pass_time(&mut self) {
        self.now = self.now + STEP;
    }
}

fn addr(name: &MemberName) -> ServerAddr {
    ServerAddr::new(&name.to_string(), 5432)
}

fn observe(c: &mut Criterion) {
    let mut group = c.benchmark_group("router");
    for size in SIZES {
        group.bench_function(BenchmarkId::new("a replica's answer", size), |b| {
            one_observation(b, size, |fixture| fixture.probe(fixture.names.len() - 1, false));
        });
        group.bench_function(BenchmarkId::new("the leader's answer", size), |b| {
            one_observation(b, size, |fixture| fixture.probe(0, true));
        });
        group.bench_function(BenchmarkId::new("the key changes hands", size), |b| {
            one_observation(b, size, |fixture| {
                let holder = usize::try_from(fixture.revision % 2).unwrap_or_default();
                fixture.key(holder)
            });
        });
    }
    group.finish();
}

/// Measures without the making of the observation, which is a source's work.
fn one_observation(
    b: &mut criterion::Bencher<'_>,
    size: usize,
    mut observation: impl FnMut(&mut Fixture) -> Observation,
) {
    let fixture = std::cell::RefCell::new(Fixture::new(size));
    b.iter_batched(
        || {
            let mut fixture = fixture.borrow_mut();
            fixture.pass_time();
            (observation(&mut fixture), fixture.now)
        },
        |(observation, now)| black_box(fixture.borrow_mut().router.observe(observation, now)),
        BatchSize::PerIteration,
    );
}

criterion_group!(core, observe);
criterion_main!(core);
