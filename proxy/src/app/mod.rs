//! The process: starts all tasks and workers, reloads, drains, and stops.

mod commands;
mod drain;
mod listeners;
mod settings;
mod source_tasks;
mod supervisor_link;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pg_leader_proxy_core::Observation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use self::commands::{Command, Commands};
use self::listeners::listeners;
pub(crate) use self::settings::static_member;
use self::settings::{check_reloadable, etcd_config, gate_limits, routes, settings};
use self::source_tasks::{ask_servers, follow_etcd};
pub use self::supervisor_link::{SupervisorCommand, SupervisorLink};
use crate::admin::{self, Admin};
use crate::admission::Gate;
use crate::clock;
use crate::config::{self, Config, ConfigErrors, LeaderSource, Origins};
use crate::control::{Control, ControlHandle, OBSERVATIONS, Outputs};
use crate::counters::Counters;
pub use crate::events::EventRecord;
use crate::events::Outbox;
use crate::logging::Logging;
use crate::net;
use crate::phase::Phase;
use crate::session::{SessionSettings, Shared};
use crate::sources::clock::ClockWatcher;
use crate::worker::{Listener, Workers};

/// The size of the queue of recheck requests. When it is full, the probes already have enough to do.
const RECHECKS: usize = 64;

/// How the configuration is read again.
pub struct Reload {
    read: Box<dyn FnMut() -> Result<Config, ConfigErrors> + Send>,
    logging: Option<Logging>,
}

impl Reload {
    /// Reloads by calling `read`. What is logged stays as it is.
    pub fn new(read: impl FnMut() -> Result<Config, ConfigErrors> + Send + 'static) -> Self {
        Self { read: Box::new(read), logging: None }
    }

    /// Reads the same origins again, and lets `logging` follow the configuration in force.
    pub fn from_origins(origins: Origins, logging: Logging) -> Self {
        Self { read: Box::new(move || Config::load(&origins)), logging: Some(logging) }
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// Runs the proxy until a signal or its supervisor stops it.
///
/// # Errors
/// If an address cannot be listened on, an inherited socket has an address that no route listens on, or a thread cannot
/// be started.
pub fn run(config: Config, reload: Reload, link: SupervisorLink) -> Result<()> {
    raise_descriptor_limit();
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let SupervisorLink { listeners, commands, events, ready } = link;
        let mut commands = Commands::new(commands).context("cannot watch for signals")?;
        let mut app = App::start(config, listeners, events).await?;
        if let Some(ready) = ready {
            // If the supervisor is gone, the commands will say so.
            let _ = ready.send(());
        }
        app.serve(reload, &mut commands).await
    })
}

/// Every address that the routes of `config` listen on.
pub fn addresses(config: &Config) -> Vec<SocketAddr> {
    routes(config).into_iter().map(|(_, addr)| addr).collect()
}

/// Raises the soft limit to the hard one. Each session takes two descriptors, and the usual soft limit of 1,024 exists
/// only for programs that use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// The running process.
struct App {
    config: Config,
    /// The addresses of inherited sockets, which the supervisor keeps open too.
    inherited_addrs: Vec<SocketAddr>,
    control: ControlHandle,
    observations: mpsc::Sender<Observation>,
    etcd: watch::Sender<Option<config::Etcd>>,
    probe: watch::Sender<config::Probe>,
    settings: watch::Sender<SessionSettings>,
    gates: [Gate; 2],
    counters: Arc<Counters>,
    workers: Workers,
    phase: watch::Sender<Phase>,
    parts: JoinSet<Infallible>,
}

impl App {
    async fn start(
        config: Config,
        inherited: Vec<std::net::TcpListener>,
        events: Option<mpsc::Sender<EventRecord>>,
    ) -> Result<Self> {
        warn_of_old_names(&config);
        let inherited_addrs = inherited.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let listeners = listeners(&config, &[], inherited)?;
        let counters = Arc::new(Counters::default());
        let gates = gate_limits(&config).map(Gate::new);
        let [write_gate, read_gate] = gates.clone();
        let (observations, observed) = mpsc::channel(OBSERVATIONS);
        let (mut outputs, targets, probe_plan) =
            Outputs::new(write_gate.clone(), read_gate.clone(), Arc::clone(&counters));
        outputs.events = Outbox::new(events);
        let (control, handle) = Control::new(config.policy, observed, outputs);
        let (settings, settings_receiver) = watch::channel(settings(&config));
        let (recheck, rechecks) = mpsc::channel(RECHECKS);
        let shared = Shared {
            targets,
            settings: settings_receiver,
            write_gate,
            read_gate,
            counters: Arc::clone(&counters),
            recheck,
        };
        let workers = Workers::start(config.session.workers, shared).context("cannot start the workers")?;
        let (etcd, etcd_receiver) = watch::channel(etcd_config(&config));
        let (probe, probe_receiver) = watch::channel(config.probe.clone());
        let mut parts = JoinSet::new();
        parts.spawn(control.run());
        let clock_watcher = ClockWatcher::new(clock::of_this_machine, observations.clone());
        parts.spawn(follow_etcd(etcd_receiver, observations.clone(), clock_watcher.steps()));
        parts.spawn(clock_watcher.run());
        parts.spawn(ask_servers(probe_receiver, probe_plan, observations.clone(), rechecks));
        let mut app = Self {
            inherited_addrs,
            control: handle,
            observations,
            etcd,
            probe,
            settings,
            gates,
            counters,
            workers,
            phase: watch::Sender::new(Phase::Serving),
            parts,
            config,
        };
        app.tell_members().await;
        // Listening comes last, because it cannot fail: if the start failed after accepting a client, that client would be
        // lost, while an inherited backlog would have kept it for the next process.
        app.serve_admin()?;
        app.listen(listeners).await;
        for (route, addr) in routes(&app.config) {
            info!(route = route.code(), %addr, inherited = app.inherited_addrs.contains(&addr), "listening");
        }
        Ok(app)
    }

    async fn serve(&mut self, reload: Reload, commands: &mut Commands) -> Result<()> {
        let Reload { mut read, logging } = reload;
        let patience = loop {
            tokio::select! {
                Some(ended) = self.parts.join_next() => {
                    // A task never finishes, so it panicked. A restart is better than running without it.
                    return Err(ended.err().map_or_else(|| anyhow::anyhow!("a part ended"), Into::into));
                }
                command = commands.next() => match command {
                    Command::Reload => self.reload(read(), logging.as_ref()).await,
                    Command::Stop => break self.config.session.drain_timeout,
                    Command::Drain(patience) => break patience,
                    Command::SupervisorGone => {
                        error!("the supervisor is gone, so nothing else could stop this process: stopping");
                        break Duration::ZERO;
                    }
                },
            }
        };
        self.drain(patience, commands).await;
        Ok(())
    }

    async fn reload(&mut self, read: Result<Config, ConfigErrors>, logging: Option<&Logging>) {
        let applied = match read {
            Ok(config) => self.apply(config).await,
            Err(errors) => Err(errors.into()),
        };
        match applied {
            Ok(()) => {
                if let Some(logging) = logging {
                    logging.set_filter(&self.config.log);
                }
                info!("configuration reloaded");
            }
            Err(error) => error!("configuration not reloaded, the old one stays: {error:#}"),
        }
    }

    fn serve_admin(&mut self) -> Result<()> {
        let Some(addr) = self.config.admin else { return Ok(()) };
        // Bound with SO_REUSEPORT like the others, so that a successor can start. While both run, either may answer.
        let listener = net::listen(addr)
            .and_then(TcpListener::from_std)
            .with_context(|| format!("admin.listen: cannot listen on {addr}"))?;
        info!(%addr, "admin page");
        let admin = Admin {
            cluster: self.config.cluster.as_str().into(),
            view: self.control.viewer(),
            counters: Arc::clone(&self.counters),
            phase: self.phase.subscribe(),
            started: clock::now(),
        };
        self.parts.spawn(admin::serve(listener, admin));
        Ok(())
    }

    /// Applies another configuration without affecting open sessions. Everything that can fail comes first, so that it
    /// is applied completely or not at all.
    async fn apply(&mut self, config: Config) -> Result<()> {
        warn_of_old_names(&config);
        check_reloadable(&self.config, &config, &self.inherited_addrs)?;
        let before = routes(&self.config);
        let listeners = listeners(&config, &before, Vec::new())?;
        let after = routes(&config);
        self.listen(listeners).await;
        for (route, addr) in before.iter().filter(|known| !after.contains(known)) {
            self.workers.unlisten(*route, *addr).await;
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

    /// Sends the configured list of members, which is the only one without a DCS.
    async fn tell_members(&self) {
        if let LeaderSource::Members(addrs) = &self.config.leader_source {
            // Control runs until the process exits.
            let _ =
                self.observations.send(Observation::Members(addrs.iter().map(static_member).collect())).await;
        }
    }

    async fn listen(&self, listeners: Vec<Listener>) {
        for listener in listeners {
            self.workers.listen(listener).await;
        }
    }
}

fn warn_of_old_names(config: &Config) {
    for renamed in &config.renamed {
        warn!("configuration: {renamed}");
    }
}

fn replace<T: PartialEq>(known: &mut T, new: T) -> bool {
    let other = *known != new;
    *known = new;
    other
}
