//! The process: starts every part, reloads, drains, and stops.

mod feeds;
mod plan;
mod signals;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pg_leader_proxy_core::Observation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use self::feeds::{ask_servers, follow_etcd};
use self::plan::{addresses, bind, check_reloadable, etcd_config, gate_limits, settings, static_member};
use self::signals::{Asked, Signals};
use crate::admin::{self, Admin};
use crate::clock;
use crate::config::{self, Config, ConfigErrors, Witnesses};
use crate::control::{Control, ControlHandle, OBSERVATIONS, Outlets};
use crate::gate::Gate;
use crate::net;
use crate::session::{Settings, Shared};
use crate::tally::Tally;
use crate::worker::{Listener, Worker};

/// How many broken connections may wait to be told to the probes; more tell nothing new.
const SUSPECTS: usize = 64;
/// How long severed sessions may take to be gone before the process ends anyway.
const SEVER_TIME: Duration = Duration::from_secs(1);
/// How often the drain looks whether the last session has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Reads the configuration again, as it was read at the start.
pub struct Reload(Box<dyn FnMut() -> Result<Config, ConfigErrors> + Send>);

impl Reload {
    /// Reloads by calling `read`.
    pub fn new(read: impl FnMut() -> Result<Config, ConfigErrors> + Send + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// What the process as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Accepting clients.
    Serving,
    /// Waiting for the open sessions to end.
    Draining,
}

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// When an address cannot be listened on, or the operating system refuses a thread.
pub fn run(config: Config, reload: Reload) -> Result<()> {
    raise_descriptor_limit();
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut app = App::start(config).await?;
        app.serve(reload).await
    })
}

/// Each session takes two descriptors; the usual limit of 1,024 is made for programs that wait in `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// The running parts.
struct App {
    config: Config,
    control: ControlHandle,
    observations: mpsc::Sender<Observation>,
    etcd: watch::Sender<Option<config::Etcd>>,
    probe: watch::Sender<config::Probe>,
    settings: watch::Sender<Settings>,
    gates: [Gate; 2],
    tally: Arc<Tally>,
    workers: Vec<Worker>,
    phase: watch::Sender<Phase>,
    parts: JoinSet<Infallible>,
}

impl App {
    async fn start(config: Config) -> Result<Self> {
        let listeners = bind(&config, &[])?;
        let tally = Arc::new(Tally::default());
        let gates = gate_limits(&config).map(Gate::new);
        let [write_gate, read_gate] = gates.clone();
        let (observations, observed) = mpsc::channel(OBSERVATIONS);
        let (outlets, targets, inquiry) =
            Outlets::new(write_gate.clone(), read_gate.clone(), Arc::clone(&tally));
        let (control, handle) = Control::new(config.policy, observed, outlets);
        let (settings, settings_seen) = watch::channel(settings(&config));
        let (suspect, suspects) = mpsc::channel(SUSPECTS);
        let shared = Shared {
            targets,
            settings: settings_seen,
            write_gate,
            read_gate,
            tally: Arc::clone(&tally),
            suspect,
        };
        let workers = (0..config.session.workers)
            .map(|index| Worker::start(index, shared.clone()).context("cannot start a worker"))
            .collect::<Result<Vec<Worker>>>()?;
        let (etcd, etcd_seen) = watch::channel(etcd_config(&config));
        let (probe, probe_seen) = watch::channel(config.probe.clone());
        let mut parts = JoinSet::new();
        parts.spawn(control.run());
        parts.spawn(follow_etcd(etcd_seen, observations.clone()));
        parts.spawn(ask_servers(probe_seen, inquiry, observations.clone(), suspects));
        let app = Self {
            control: handle,
            observations,
            etcd,
            probe,
            settings,
            gates,
            tally,
            workers,
            phase: watch::Sender::new(Phase::Serving),
            parts,
            config,
        };
        app.tell_members().await;
        app.listen(listeners).await;
        Ok(app)
    }

    async fn serve(&mut self, reload: Reload) -> Result<()> {
        let Reload(mut reload) = reload;
        self.serve_admin()?;
        let mut signals = Signals::new().context("cannot watch for signals")?;
        for (route, addr) in addresses(&self.config) {
            info!(route = route.code(), %addr, "listening");
        }
        loop {
            tokio::select! {
                Some(ended) = self.parts.join_next() => {
                    // A part never ends of itself, so it panicked: better to be started anew than to go on half alive.
                    return Err(ended.err().map_or_else(|| anyhow::anyhow!("a part ended"), Into::into));
                }
                asked = signals.next() => match asked {
                    Asked::Reload => self.reload(reload()).await,
                    Asked::Stop => break,
                },
            }
        }
        self.drain(signals).await;
        Ok(())
    }

    async fn reload(&mut self, read: Result<Config, ConfigErrors>) {
        let applied = match read {
            Ok(config) => self.apply(config).await,
            Err(errors) => Err(errors.into()),
        };
        match applied {
            Ok(()) => info!("configuration reloaded"),
            Err(error) => error!("configuration not reloaded, the old one stays: {error:#}"),
        }
    }

    fn serve_admin(&mut self) -> Result<()> {
        let Some(addr) = self.config.admin else { return Ok(()) };
        // Shared like the others, so that a successor can start; while both run, either may answer.
        let listener = net::listen(addr)
            .and_then(TcpListener::from_std)
            .with_context(|| format!("admin.listen: cannot listen on {addr}"))?;
        info!(%addr, "admin page");
        let admin = Admin {
            view: self.control.viewer(),
            tally: Arc::clone(&self.tally),
            phase: self.phase.subscribe(),
            started: clock::now(),
        };
        self.parts.spawn(admin::serve(listener, admin));
        Ok(())
    }

    /// Puts another configuration in force. Everything that can fail comes first, so that it is taken whole or not at
    /// all, and no open session notices.
    async fn apply(&mut self, config: Config) -> Result<()> {
        check_reloadable(&self.config, &config)?;
        let before = addresses(&self.config);
        let listeners = bind(&config, &before)?;
        let after = addresses(&config);
        self.listen(listeners).await;
        for (route, addr) in before.iter().filter(|known| !after.contains(known)) {
            for worker in &self.workers {
                worker.unlisten(*route, *addr).await;
            }
        }
        for (gate, limits) in self.gates.iter().zip(gate_limits(&config)) {
            gate.set_limits(limits);
        }
        self.settings.send_replace(settings(&config));
        self.control.set_policy(config.policy).await;
        self.etcd.send_if_modified(|known| replace(known, etcd_config(&config)));
        self.probe.send_if_modified(|known| replace(known, config.probe.clone()));
        self.config = config;
        self.tell_members().await;
        Ok(())
    }

    /// Without a DCS the members are what the configuration says.
    async fn tell_members(&self) {
        if let Witnesses::Members(addrs) = &self.config.witnesses {
            // Control ends only with the process.
            let _ =
                self.observations.send(Observation::Members(addrs.iter().map(static_member).collect())).await;
        }
    }

    async fn listen(&self, listeners: Vec<Vec<Listener>>) {
        for (worker, listeners) in self.workers.iter().zip(listeners) {
            for listener in listeners {
                worker.listen(listener).await;
            }
        }
    }

    /// Accepts nobody any more, lets the sessions go on for a while, and severs what is left.
    async fn drain(&self, mut signals: Signals) {
        self.phase.send_replace(Phase::Draining);
        let drain = self.config.session.drain;
        info!(sessions = self.tally.open_sessions(), ?drain, "draining; a second signal ends the sessions");
        for (route, addr) in addresses(&self.config) {
            for worker in &self.workers {
                worker.unlisten(route, addr).await;
            }
        }
        tokio::select! {
            _ = timeout(drain, self.sessions_ended()) => {}
            () = signals.stop() => {}
        }
        info!(sessions = self.tally.open_sessions(), "stopping");
        self.control.stop().await;
        // What is still there then is blocked in a write of its last words.
        let _ = timeout(SEVER_TIME, self.sessions_ended()).await;
    }

    async fn sessions_ended(&self) {
        // A client that was accepted a moment ago may not be counted yet.
        sleep(DRAIN_LOOK).await;
        while self.tally.open_sessions() > 0 {
            sleep(DRAIN_LOOK).await;
        }
    }
}

fn replace<T: PartialEq>(known: &mut T, new: T) -> bool {
    let other = *known != new;
    *known = new;
    other
}
