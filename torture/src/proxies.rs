//! The two proxies under test: killed, frozen, reloaded, replaced, and asked for what they decide.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::{Cluster, Proxy, ProxyArguments, ProxyCommand};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::sleep;

use crate::story::Story;

/// The names of the proxies, as the lab knows them.
pub(crate) const NAMES: [&str; 2] = ["proxy-1", "proxy-2"];
/// How long a successor may take until it is ready. etcd may be gone meanwhile.
const SUCCESSOR: Duration = Duration::from_secs(10);
/// Between two looks at a proxy's decision.
const LOOK: Duration = Duration::from_millis(100);

/// The proxies of a run.
#[derive(Debug)]
pub(crate) struct Proxies {
    by_name: BTreeMap<&'static str, Mutex<Running>>,
}

/// A proxy and those that it has replaced.
#[derive(Debug)]
struct Running {
    command: ProxyCommand,
    current: Arc<Proxy>,
    /// They drain, or are dead. Kept for their logs.
    former: Vec<Arc<Proxy>>,
    reloads: u32,
}

impl Proxies {
    /// Starts both and waits until they are ready.
    pub(crate) async fn start(cluster: &Cluster) -> Result<Self> {
        let mut by_name = BTreeMap::new();
        for name in NAMES {
            let mut command = cluster.proxy_command(name)?;
            // Without it no successor could listen while the former proxy drains.
            command.environment.push(("PGLP_SESSION_SO_REUSEPORT".to_owned(), "true".to_owned()));
            let current = Arc::new(Proxy::start(&command).await?);
            let running = Running { command, current, former: Vec::new(), reloads: 0 };
            by_name.insert(name, Mutex::new(running));
        }
        Ok(Self { by_name })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.keys().copied()
    }

    fn running(&self, name: &str) -> Result<&Mutex<Running>> {
        self.by_name.get(name).with_context(|| format!("there is no proxy {name}"))
    }

    fn current(&self, name: &str) -> Result<Arc<Proxy>> {
        Ok(Arc::clone(&self.running(name)?.lock().current))
    }

    pub(crate) fn kill(&self, name: &str) -> Result<()> {
        self.current(name)?.kill()
    }

    pub(crate) fn freeze(&self, name: &str) -> Result<()> {
        self.current(name)?.freeze();
        Ok(())
    }

    pub(crate) fn thaw(&self, name: &str) -> Result<()> {
        self.current(name)?.thaw();
        Ok(())
    }

    /// Starts it with another, empty directory.
    pub(crate) fn start_again(&self, name: &str) -> Result<()> {
        self.running(name)?.lock().launch()
    }

    /// SIGHUP, with a hold that is one second longer than before.
    pub(crate) fn reload(&self, name: &str) -> Result<()> {
        let mut running = self.running(name)?.lock();
        running.reloads += 1;
        let ProxyArguments::Config(text) = &running.command.arguments else { bail!("no file to reload") };
        let hold = format!("hold_timeout = \"{}s\"", 30 + running.reloads % 5);
        running.current.write_config(&text.replace("hold_timeout = \"30s\"", &hold))?;
        running.current.reload();
        Ok(())
    }

    /// Starts a second process on the same addresses; when it is ready, or has had the time, the first one drains.
    pub(crate) async fn replace(&self, name: &str) -> Result<()> {
        let former = {
            let mut running = self.running(name)?.lock();
            running.launch()?;
            Arc::clone(running.former.last().context("the former proxy was just put there")?)
        };
        // `/ready` may be answered by either of the two. The time decides.
        let ready = self.current(name)?.wait_for_ok("/ready", SUCCESSOR).await;
        former.terminate();
        ready
    }

    /// Thaws what is frozen and starts what is dead.
    pub(crate) fn heal(&self) -> Result<()> {
        for running in self.by_name.values() {
            let mut running = running.lock();
            running.current.thaw();
            running.former.iter().for_each(|former| former.thaw());
            if running.current.has_ended() {
                running.launch()?;
            }
        }
        Ok(())
    }

    /// Waits until each proxy forwards to this member, and returns how long the slowest took.
    pub(crate) async fn wait_until_forwarding(&self, leader: &str, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        for name in self.names() {
            loop {
                let decision = self.decision(name).await?;
                if decision == format!("forwards to {leader}") {
                    break;
                }
                if began.elapsed() > within {
                    bail!(
                        "{name} does not forward to {leader} {within:?} after the cluster had it: {decision}"
                    );
                }
                sleep(LOOK).await;
            }
        }
        Ok(began.elapsed())
    }

    /// Tells the story of each proxy's decisions, until it is dropped.
    pub(crate) async fn watch(&self, name: &'static str, story: &Story) -> Result<()> {
        let mut known = String::new();
        loop {
            let decision = self.decision(name).await?;
            if decision != known {
                story.tell(name, decision.clone());
                known = decision;
            }
            sleep(LOOK).await;
        }
    }

    /// What a proxy does with a new client for the leader, in words.
    async fn decision(&self, name: &str) -> Result<String> {
        let Ok(answer) = self.current(name)?.get("/leader").await else {
            return Ok("does not answer".to_owned());
        };
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        Ok(match body.get("member").and_then(Value::as_str) {
            Some(member) if answer.status == 200 => format!("forwards to {member}"),
            _ => format!("holds new clients: {}", reason(&body)),
        })
    }

    /// Copies the log of every process, also of those that were replaced.
    pub(crate) fn copy_logs(&self, to: &Path) -> Result<()> {
        for (name, running) in &self.by_name {
            let running = running.lock();
            for (number, proxy) in running.former.iter().chain([&running.current]).enumerate() {
                let file = to.join(format!("{name}.{number}.log"));
                fs::write(&file, proxy.log()?).with_context(|| format!("writing {}", file.display()))?;
            }
        }
        Ok(())
    }
}

impl Running {
    fn launch(&mut self) -> Result<()> {
        let started = Arc::new(Proxy::launch(&self.command)?);
        self.former.push(std::mem::replace(&mut self.current, started));
        Ok(())
    }
}

fn reason(body: &Value) -> &str {
    body.get("code").and_then(Value::as_str).unwrap_or("it gives no reason")
}
