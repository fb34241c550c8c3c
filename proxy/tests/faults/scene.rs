//! A scene: a real cluster, a proxy in front of it, writers and new clients, and the checks at the end.

use std::time::{Duration, Instant};

use lab::{
    Cluster, ClusterOptions, Failure, History, KeyWatch, NewClients, Proxy, ProxyArguments, TOLERANCE,
    Writers,
};
use serde_json::Value;

/// Longer than a lease, a promotion and a rewind take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// How often a new client connects.
const NEW_CLIENT_EVERY: Duration = Duration::from_millis(150);
/// How many new clients there must be at least, however short the fault was.
const MIN_NEW_CLIENTS: usize = 20;
/// How far apart two clients may notice on a busy machine that they were disconnected at the same moment.
const TOGETHER: Duration = Duration::from_secs(1);
/// When a leader is confirmed, all clients that waited connect at once.
const MAX_CONNECTIONS: u32 = 500;
/// How long writes must flow before a fault and after it.
const STEADY_WRITES: usize = 200;

/// The scene.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) keys: KeyWatch,
    pub(crate) proxy: Proxy,
    pub(crate) writers: Writers,
    new_clients: NewClients,
}

/// Which acknowledged writes the final leader must have.
pub(crate) enum Retained {
    /// All: the old leader shut down cleanly, or never lost its role.
    All,
    /// All except those of the last second before the fault at this moment: replication is asynchronous, so they may be
    /// lost with the old leader.
    ButTheLastBefore(Instant),
}

impl Scene {
    pub(crate) async fn start(options: ClusterOptions) -> Self {
        Self::start_with(options, "").await
    }

    /// Like [`set`](Self::set), with these lines at the end of the proxy's configuration.
    pub(crate) async fn start_with(options: ClusterOptions, more: &str) -> Self {
        let cluster =
            Cluster::start(ClusterOptions { max_connections: MAX_CONNECTIONS, ..options }).await.unwrap();
        let keys = KeyWatch::start(&cluster).await.unwrap();
        let mut proxy = cluster.proxy_command("proxy").unwrap();
        // Longer than any outage here, so every client that connects meanwhile must be served.
        let config = cluster
            .proxy_config("proxy")
            .unwrap()
            .replace("hold_timeout = \"30s\"", "hold_timeout = \"80s\"");
        proxy.arguments = ProxyArguments::Config(format!("{config}\n{more}"));
        // More than one on any machine, so that every fault affects sessions on several threads.
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

    /// Waits until writes are acknowledged.
    pub(crate) async fn writes_flow(&self) {
        if let Err(error) = self.writers.wait_for_more(STEADY_WRITES, SOON).await {
            panic!("{error:#}\nrouting: {}\nlog: {}", self.routing().await, self.proxy.log().unwrap());
        }
    }

    /// The proxy's answer to `/routing`.
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

    /// Waits until the proxy forwards by this rule, `lease` or `all_members`.
    pub(crate) async fn wait_until_routed_by(&self, rule: &str) {
        self.wait_until(|routing| routing["write"]["leader"]["confirmed_by"] == rule, rule).await;
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

    /// Waits until the proxy raises this alarm.
    pub(crate) async fn wait_for_alarm(&self, code: &str) {
        let raised = |routing: &Value| {
            routing["alarms"]
                .as_array()
                .is_some_and(|alarms| alarms.iter().any(|alarm| alarm["code"] == code))
        };
        self.wait_until(raised, code).await;
    }

    /// Waits until the proxy has logged this.
    pub(crate) async fn wait_for_log(&self, words: &str) {
        let began = Instant::now();
        while !self.proxy.log().unwrap().contains(words) {
            assert!(began.elapsed() < SOON, "never logged {words:?}: {}", self.proxy.log().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Checks that the proxy has told operators something after so many lines, and nothing that they would have to look at.
    pub(crate) fn nothing_is_wrong_by_the_log_after(&self, lines: usize) {
        let log = self.proxy.log().unwrap();
        let later: Vec<&str> = log.lines().skip(lines).collect();
        assert!(later.iter().any(|line| line.contains(" INFO ")), "the log has another form: {log}");
        let wrong: Vec<_> =
            later.iter().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
        assert!(wrong.is_empty(), "{wrong:#?}\nof\n{log}");
    }

    /// Checks that the faults so far affected no session.
    pub(crate) async fn no_session_was_terminated(&self) {
        let (terminated, failed) = (self.terminated().await, self.writers.snapshot().errors_by_kind());
        let log = || self.proxy.log().unwrap();
        assert_eq!(terminated, 0, "sessions were terminated for nothing\n{}", log());
        assert!(failed.is_empty(), "writes failed: {failed:?}\n{}", log());
    }

    /// How many sessions of the write route the proxy has terminated so far.
    pub(crate) async fn terminated(&self) -> u64 {
        let routing = self.routing().await;
        let terminated = routing["sessions"]["write"]["terminated"].as_u64();
        terminated.unwrap_or_else(|| panic!("no count in\n{routing}"))
    }

    /// Checks what must be true after every fault: the laws, as clients see them.
    pub(crate) async fn end(self, leader: &str, retained: Retained) {
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
                    terminated_with_the_others(failure, at, &history),
                    "rejected {:?} ago after {:?}: {words}, {failure:?}\n{log}",
                    at.elapsed(),
                    client.took
                );
            }
        }

        let lost = history.lost(&self.cluster, leader).await.unwrap();
        let forgiven = |id: &i64| match retained {
            Retained::All => false,
            Retained::ButTheLastBefore(fault) => history.acknowledged.iter().any(|write| {
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

/// Whether a new client was in a session, or logging in, at the moment at which all sessions were terminated.
///
/// A client that connects during the outage must wait, so a refused connection is never excused.
fn terminated_with_the_others(failure: &Failure, at: Instant, history: &History) -> bool {
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
