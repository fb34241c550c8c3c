//! What a decision costs: the router at its work, for one fact each.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use pg_leader_proxy_core::{
    LeaderKey, Lsn, Member, MemberName, Moment, Observation, Policy, ProbeConnection, ProbeReply, Revision,
    Role, Router, ServerAddr, Stamped, StartTime, SystemId, Timeline,
};

/// Members of the clusters: the smallest that fails over, and a large one.
const SIZES: [usize; 2] = [2, 9];
/// Between two facts; as often as members are asked while all is well.
const STEP: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(20);

/// A router with a confirmed leader, and a clock for it.
struct Scene {
    router: Router,
    now: Moment,
    names: Vec<MemberName>,
    revision: u64,
}

impl Scene {
    fn new(members: usize) -> Self {
        let names: Vec<MemberName> =
            (0..members).map(|number| MemberName::new(&format!("pg-{number}"))).collect();
        let known: BTreeMap<MemberName, Member> = names
            .iter()
            .map(|name| (name.clone(), Member { addr: addr(name), no_load_balance: false }))
            .collect();
        let mut scene = Self {
            router: Router::new(Policy::default()),
            now: Moment::from_boot(Duration::from_secs(1)),
            names,
            revision: 0,
        };
        scene.router.observe(Observation::Members(known), scene.now);
        scene.router.observe(Observation::Initialize(Some(SystemId(1))), scene.now);
        let key = scene.key(0);
        scene.router.observe(key, scene.now);
        for number in 0..members {
            let word = scene.word(number, number == 0);
            scene.router.observe(word, scene.now);
        }
        assert!(scene.router.routing().write.leader().is_some(), "the first member leads");
        scene
    }

    /// A member says whether it writes.
    fn word(&self, number: usize, leads: bool) -> Observation {
        let role = if leads {
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
        group.bench_function(BenchmarkId::new("a replica's word", size), |b| {
            one_fact(b, size, |scene| scene.word(scene.names.len() - 1, false));
        });
        group.bench_function(BenchmarkId::new("the leader's word", size), |b| {
            one_fact(b, size, |scene| scene.word(0, true));
        });
        group.bench_function(BenchmarkId::new("the key changes hands", size), |b| {
            one_fact(b, size, |scene| {
                let holder = usize::try_from(scene.revision % 2).unwrap_or_default();
                scene.key(holder)
            });
        });
    }
    group.finish();
}

/// The making of a fact is not measured: it comes from elsewhere.
fn one_fact(b: &mut criterion::Bencher<'_>, size: usize, mut fact: impl FnMut(&mut Scene) -> Observation) {
    let scene = std::cell::RefCell::new(Scene::new(size));
    b.iter_batched(
        || {
            let mut scene = scene.borrow_mut();
            scene.pass_time();
            (fact(&mut scene), scene.now)
        },
        |(fact, now)| black_box(scene.borrow_mut().router.observe(fact, now)),
        BatchSize::PerIteration,
    );
}

criterion_group!(core, observe);
criterion_main!(core);
