//! A scene: a real cluster, a proxy in front of it, writers and new clients, and the questions asked of all at the end.

use std::time::{Duration, Instant};

use lab::{
    Cluster, ClusterOptions, Failure, History, KeyWatch, NewClients, Proxy, ProxyArguments, TOLERANCE,
    Writers,
};
use serde_json::Value;

/// Beyond a lease, a promotion and a rewind on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// How often a new client arrives.
const NEW_CLIENT_EVERY: Duration = Duration::from_millis(150);
/// How many of them there must be, however short the fault was.
const MIN_NEW_CLIENTS: usize = 20;
/// How far apart a busy machine may let two clients notice that they were cut at the same moment.
const TOGETHER: Duration = Duration::from_secs(1);
/// Everybody who waited for a leader is connected at once when it comes.
const MAX_CONNECTIONS: u32 = 500;
/// How long writes must flow before a fault and after it.
const STEADY_WRITES: usize = 200;

/// Everything that is on stage.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) keys: KeyWatch,
    pub(crate) proxy: Proxy,
    pub(crate) writers: Writers,
    new_clients: NewClients,
}

/// Which of the writes acknowledged before the end must be found on the final leader.
pub(crate) enum Kept {
    /// All of them: the old leader shut down in order, or never lost its place.
    All,
    /// All but those of the last second before the fault at this moment, which the old leader took to its grave:
    /// replication is asynchronous, and no proxy can help.
    ButTheLastBefore(Instant),
}

impl Scene {
    pub(crate) async fn set(options: ClusterOptions) -> Self {
        Self::set_with(options, "").await
    }

    /// Like [`set`](Self::set), with these lines at the end of the proxy's configuration.
    pub(crate) async fn set_with(options: ClusterOptions, more: &str) -> Self {
        let cluster =
            Cluster::start(ClusterOptions { max_connections: MAX_CONNECTIONS, ..options }).await.unwrap();
        let keys = KeyWatch::start(&cluster).await.unwrap();
        let mut proxy = cluster.proxy_command("proxy").unwrap();
        // Longer than any downtime here, so every client that arrives meanwhile must be served.
        let config = cluster
            .proxy_config("proxy")
            .unwrap()
            .replace("hold_timeout = \"30s\"", "hold_timeout = \"80s\"");
        proxy.arguments = ProxyArguments::Config(format!("{config}\n{more}"));
        // More than one on any machine, so that every fault meets sessions on several threads.
        proxy.environment.push(("PGLP_SESSION_WORKERS".to_owned(), "2".to_owned()));
        let proxy = Proxy::start(&proxy).await.unwrap();
        let mut load = cluster.load(cluster.proxy_addresses("proxy").unwrap().write);
        load.timeout = SOON;
        let writers = Writers::start(load.clone()).unwrap();
        let new_clients = NewClients::start(load, NEW_CLIENT_EVERY).unwrap();
        let scene = Self { cluster, keys, proxy, writers, new_clients };
        scene.writes_flow().await;
        scene
    }

    /// Waits until writes are acknowledged again, or still.
    pub(crate) async fn writes_flow(&self) {
        if let Err(error) = self.writers.wait_for_more(STEADY_WRITES, SOON).await {
            panic!("{error:#}\nrouting: {}\nlog: {}", self.routing().await, self.proxy.log().unwrap());
        }
    }

    /// What the proxy says of its decision.
    pub(crate) async fn routing(&self) -> Value {
        serde_json::from_str(&self.proxy.get("/routing").await.unwrap().body).unwrap()
    }

    /// The member that the proxy forwards to.
    pub(crate) async fn leader(&self) -> Option<String> {
        let answer = self.proxy.get("/leader").await.unwrap();
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        (answer.status == 200).then(|| body["member"].as_str().unwrap().to_owned())
    }

    /// Waits until the proxy's answer to `/leader` is `expected`.
    pub(crate) async fn wait_for_leader(&self, expected: Option<&str>) {
        let began = Instant::now();
        while self.leader().await.as_deref() != expected {
            assert!(began.elapsed() < SOON, "never {expected:?}: {}", self.routing().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the proxy forwards by this rule, `lease` or `evidence`.
    pub(crate) async fn wait_until_routed_by(&self, basis: &str) {
        self.wait_until(|routing| routing["write"]["leader"]["basis"] == basis, basis).await;
    }

    /// Waits until the proxy has seen that Patroni is in maintenance mode.
    pub(crate) async fn wait_until_paused(&self) {
        self.wait_until(|routing| routing["evidence"]["paused"] == true, "paused").await;
    }

    async fn wait_until(&self, is: impl Fn(&Value) -> bool, what: &str) {
        let began = Instant::now();
        loop {
            let routing = self.routing().await;
            if is(&routing) {
                return;
            }
            assert!(began.elapsed() < SOON, "never {what}: {routing:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the proxy raises the alarm that two members take writes.
    pub(crate) async fn wait_for_alarm(&self) {
        self.wait_until(
            |routing| routing["two_primaries"].as_array().is_some_and(|all| all.len() == 2),
            "alarm",
        )
        .await;
    }

    /// Waits until the proxy has logged this.
    pub(crate) async fn wait_for_log(&self, words: &str) {
        let began = Instant::now();
        while !self.proxy.log().unwrap().contains(words) {
            assert!(began.elapsed() < SOON, "never logged {words:?}: {}", self.proxy.log().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What must be true where a fault is none of the clients' business.
    pub(crate) async fn nobody_was_severed(&self) {
        let severed = self.severed().await;
        assert_eq!(severed, 0, "sessions were severed for nothing\n{}", self.proxy.log().unwrap());
    }

    /// How many sessions of the write route the proxy has severed so far.
    pub(crate) async fn severed(&self) -> u64 {
        let metrics = self.proxy.get("/metrics").await.unwrap().body;
        let line =
            metrics.lines().find(|line| line.starts_with("proxy_sessions_severed_total{route=\"write\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no count in\n{metrics}"))
    }

    /// Asks what must be true after every fault: the laws as a client sees them.
    pub(crate) async fn end(self, leader: &str, kept: Kept) {
        self.writes_flow().await;
        self.new_clients.wait_for(MIN_NEW_CLIENTS, SOON).await.unwrap();
        let log = self.proxy.log().unwrap();
        let clients = self.new_clients.stop().await;
        let history = self.writers.stop().await;
        let errors = history.errors_by_kind();
        eprintln!(
            "{} writes, {} new clients, longest write downtime {:?}, errors {errors:?}",
            history.acknowledged.len(),
            clients.len(),
            history.longest_write_downtime().length(),
        );
        assert!(!history.full, "the history is not whole");
        assert_eq!(history.hung(), 0, "a session was left hanging: {errors:?}\n{log}");
        assert_eq!(history.read_only_errors(), 0, "a write went to a server in recovery\n{log}");
        let stale = history.stale_leader_writes(&self.keys.history(), TOLERANCE);
        assert!(stale.is_empty(), "acknowledged by a member after another held the key: {stale:?}\n{log}");

        for client in &clients {
            if let Err((failure, words)) = &client.result {
                let at = client.began + client.took;
                assert!(
                    cut_with_the_others(failure, at, &history),
                    "turned away {:?} ago after {:?}: {words}, {failure:?}\n{log}",
                    at.elapsed(),
                    client.took
                );
            }
        }

        let lost = history.lost(&self.cluster, leader).await.unwrap();
        let forgiven = |id: &i64| match kept {
            Kept::All => false,
            Kept::ButTheLastBefore(fault) => history.acknowledged.iter().any(|write| {
                write.id == *id
                    && write.acknowledged <= fault + TOLERANCE
                    && write.acknowledged + Duration::from_secs(1) > fault
            }),
        };
        let unforgiven: Vec<_> = lost.iter().filter(|id| !forgiven(id)).collect();
        assert!(
            unforgiven.is_empty(),
            "{} acknowledged writes are gone: {unforgiven:?}\n{log}",
            unforgiven.len()
        );
    }
}

/// Whether a newcomer was inside a session, or logging in, at the moment when everybody's sessions were cut.
///
/// One that arrived in the gap must wait instead, so a refusal is never forgiven.
fn cut_with_the_others(failure: &Failure, at: Instant, history: &History) -> bool {
    let may_be = match failure {
        Failure::NoSession | Failure::Broken => true,
        Failure::Sqlstate(code) => code == "57P01",
        Failure::Refused | Failure::ReadOnly | Failure::Hung => false,
    };
    may_be
        && history
            .failed
            .iter()
            .any(|failed| failed.ended.max(at).duration_since(failed.ended.min(at)) < TOGETHER)
}
