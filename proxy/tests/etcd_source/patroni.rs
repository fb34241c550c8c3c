//! A client that writes keys like Patroni, and a running source with its observations.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{Client, PutOptions};
use pg_leader_proxy::config;
use pg_leader_proxy::sources::clock::ClockSteps;
use pg_leader_proxy::sources::etcd::EtcdSource;
use pg_leader_proxy_core::{LeaderKey, Moment, Observation, Stamped};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) const PREFIX: &str = "/service/test/";

/// Longer than any step of a test takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn config(endpoints: Vec<String>) -> config::Etcd {
    config::Etcd {
        prefix: PREFIX.to_owned(),
        endpoints,
        login: None,
        tls: config::EtcdTls::default(),
        refresh_interval: Duration::from_millis(500),
        lease_margin: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        prefer_proxy_url: false,
        address_map: BTreeMap::new(),
    }
}

/// Writes keys like Patroni.
pub(crate) struct Patroni(pub(crate) Client);

impl Patroni {
    pub(crate) async fn put(&mut self, key: &str, value: &str) {
        self.0.put(format!("{PREFIX}{key}"), value, None).await.unwrap();
    }

    pub(crate) async fn grant(&mut self, ttl: i64) -> i64 {
        self.0.lease_grant(ttl, None).await.unwrap().id()
    }

    pub(crate) async fn put_leader(&mut self, name: &str, lease: i64) {
        let options = PutOptions::new().with_lease(lease);
        self.0.put(format!("{PREFIX}leader"), name, Some(options)).await.unwrap();
    }

    pub(crate) async fn delete(&mut self, key: &str) {
        self.0.delete(format!("{PREFIX}{key}"), None).await.unwrap();
    }

    pub(crate) async fn publish(&mut self, name: &str, host: &str) {
        let value = format!(
            r#"{{"conn_url":"postgres://{host}:5432/postgres","api_url":"http://{host}:8008/patroni","state":"running","role":"replica","version":"4.1.0","timeline":1}}"#
        );
        self.put(&format!("members/{name}"), &value).await;
    }

    /// Writes the keys of a cluster of two members whose leader is `a`.
    pub(crate) async fn bootstrap(&mut self, ttl: i64) -> i64 {
        self.put("config", r#"{"ttl":30,"loop_wait":10,"retry_timeout":10}"#).await;
        self.put("initialize", "7412345678901234567").await;
        self.put("status", r#"{"optime":67419584}"#).await;
        self.publish("a", "10.0.0.1").await;
        self.publish("b", "10.0.0.2").await;
        let lease = self.grant(ttl).await;
        self.put_leader("a", lease).await;
        lease
    }
}

/// A running source and its observations.
pub(crate) struct Source {
    observations: mpsc::Receiver<Observation>,
    pub(crate) received: Vec<Observation>,
    _running: JoinSet<()>,
}

impl Source {
    pub(crate) fn start(config: config::Etcd) -> Self {
        Self::rereading(config, |_| ClockSteps::none())
    }

    /// A source that reads again at the steps of a clock, which is made with the way to the source's listener.
    pub(crate) fn rereading(
        config: config::Etcd,
        steps: impl FnOnce(mpsc::Sender<Observation>) -> ClockSteps,
    ) -> Self {
        let (sender, observations) = mpsc::channel(64);
        let steps = steps(sender.clone());
        let mut running = JoinSet::new();
        running.spawn(async move {
            let source = EtcdSource::new(config, sender).rereading_after(steps);
            let error = source.run().await.unwrap_err();
            panic!("the source ended: {error}");
        });
        Self { observations, received: Vec::new(), _running: running }
    }

    pub(crate) async fn next(&mut self) -> Observation {
        let Ok(observation) = timeout(PATIENCE, self.observations.recv()).await else {
            panic!("no further observation; before: {:#?}", self.received);
        };
        let observation = observation.expect("the source ended");
        self.received.push(observation.clone());
        observation
    }

    /// Waits for an observation for which `wanted` returns something, and returns that.
    pub(crate) async fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&Observation) -> Option<T>) -> T {
        let already = self.received.len();
        let search = async {
            loop {
                if let Some(found) = wanted(&self.next().await) {
                    return found;
                }
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("never received {what}, but: {:#?}", &self.received[already..]),
        }
    }

    /// Waits for a leader key with this holder.
    pub(crate) async fn leader(&mut self, holder: &str) -> (LeaderKey, Option<Stamped<Duration>>, Moment) {
        self.wait_for(holder, |observation| match observation {
            Observation::LeaderKey { key: Some(key), lease, seen } if key.holder.as_str() == holder => {
                Some((key.clone(), *lease, *seen))
            }
            _ => None,
        })
        .await
    }

    /// Waits for a leader key with this holder and a confirmed lease.
    pub(crate) async fn lease(&mut self, holder: &str) -> (LeaderKey, Stamped<Duration>) {
        loop {
            if let (key, Some(lease), _) = self.leader(holder).await {
                return (key, lease);
            }
        }
    }

    pub(crate) async fn wait_for_no_leader(&mut self) {
        self.wait_for("a vacant leader key", |observation| {
            matches!(observation, Observation::LeaderKey { key: None, .. }).then_some(())
        })
        .await;
    }

    pub(crate) async fn wait_for_silence(&mut self) {
        self.wait_for("silence", |observation| {
            matches!(observation, Observation::DcsSilent { .. }).then_some(())
        })
        .await;
    }
}
