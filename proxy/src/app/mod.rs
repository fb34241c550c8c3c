//! The process: starts all tasks and workers, reloads, drains, and stops.

mod commands;
mod descriptors;
mod drain;
mod essential;
mod listeners;
mod reload;
mod service_manager;
mod settings;
mod source_tasks;
mod supervisor_link;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pg_leader_proxy_core::Observation;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use self::commands::{Command, Commands};
pub(crate) use self::descriptors::SET_ASIDE;
use self::descriptors::{Descriptors, raise_limit, warn_if_scarce};
use self::essential::Essential;
use self::listeners::{listen, listeners};
pub use self::reload::Reload;
pub use self::service_manager::ServiceManager;
pub(crate) use self::settings::static_member;
use self::settings::{check_reloadable, etcd_config, gate_limits, listening, routes, settings};
use self::source_tasks::{ask_servers, follow_etcd};
pub use self::supervisor_link::{SupervisorCommand, SupervisorLink};
use crate::admin::{self, Admin};
use crate::admission::Gate;
use crate::clock;
use crate::config::{self, Config, LeaderSource};
use crate::control::{Control, ControlHandle, OBSERVATIONS, Outputs};
use crate::control_socket::{Actions, ControlSocket, ReloadRequest};
use crate::counters::Counters;
pub use crate::events::EventRecord;
use crate::events::Outbox;
use crate::logging::Logging;
use crate::phase::Phase;
use crate::route::RouteKind;
use crate::session::{SessionSettings, Shared};
use crate::sources::clock::ClockWatcher;
use crate::worker::{Listener, Workers};

/// The size of the queue of recheck requests. When it is full, the probes already have enough to do.
const RECHECKS: usize = 64;
/// The size of the queue of reloads that the control socket asks for.
const RELOADS: usize = 4;

/// Runs the proxy until a signal or its supervisor stops it.
///
/// # Errors
/// If an address cannot be listened on, an inherited socket has an address that no route listens on, a thread cannot be
/// started, or one that the process needs has panicked.
pub fn run(config: Config, reload: Reload, link: SupervisorLink) -> Result<()> {
    raise_limit();
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let ran = runtime.block_on(serve(config, reload, link));
    // Not by dropping it, which would wait for a name server that does not answer.
    runtime.shutdown_background();
    ran
}

async fn serve(config: Config, reload: Reload, link: SupervisorLink) -> Result<()> {
    let SupervisorLink { listeners, commands, events, ready, service_manager } = link;
    let inherited = Inherited {
        listeners,
        events,
        supervised: commands.is_some(),
        service_manager: service_manager.clone(),
    };
    let (reload_requests, requested) = mpsc::channel(RELOADS);
    let mut commands = Commands::new(commands, requested).context("cannot watch for signals")?;
    let (mut app, mut essential) =
        App::start(config, inherited, (reload.logging.clone(), reload_requests)).await?;
    if let Some(ready) = ready {
        // If the supervisor is gone, the commands will say so.
        let _ = ready.send(());
    }
    service_manager.ready().await;
    tokio::select! {
        biased;
        failed = essential.failed() => Err(failed),
        () = app.serve(reload, &mut commands) => Ok(()),
    }
}

/// What the process has from its supervisor.
struct Inherited {
    listeners: Vec<std::net::TcpListener>,
    events: Option<mpsc::Sender<EventRecord>>,
    supervised: bool,
    service_manager: ServiceManager,
}

/// Every address that the routes of `config` listen on.
pub fn addresses(config: &Config) -> Vec<SocketAddr> {
    routes(config).into_iter().map(|(_, addr)| addr).collect()
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
    admin_access: watch::Sender<config::AdminAccess>,
    settings: watch::Sender<SessionSettings>,
    gates: [Gate; 2],
    counters: Arc<Counters>,
    workers: Workers,
    phase: watch::Sender<Phase>,
    /// The addresses that the process listens on, each with its block of the configuration.
    listening: watch::Sender<Vec<(&'static str, SocketAddr)>>,
    descriptors: Descriptors,
    logging: Option<Logging>,
    service_manager: ServiceManager,
}

impl App {
    async fn start(
        config: Config,
        inherited: Inherited,
        (logging, reloads): (Option<Logging>, mpsc::Sender<ReloadRequest>),
    ) -> Result<(Self, Essential)> {
        warn_of_old_names(&config);
        let Inherited { listeners: inherited, events, supervised, service_manager } = inherited;
        let inherited_addrs = inherited.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let listeners = listeners(&config, &[], inherited)?;
        let counters = Arc::new(Counters::default());
        // An earlier process had fewer than a thousand sessions a second, and none of its numbers is given again.
        let (_, wall) = clock::of_this_machine();
        counters.number_sessions_after(u64::try_from(wall.as_millis()).unwrap_or_default());
        let gates = gate_limits(&config).map(Gate::new);
        let [write_gate, read_gate] = gates.clone();
        let (observations, observed) = mpsc::channel(OBSERVATIONS);
        let (mut outputs, targets, probe_plan) =
            Outputs::new(write_gate.clone(), read_gate.clone(), Arc::clone(&counters));
        outputs.events = Outbox::new(events);
        let hold_terms = outputs.hold_terms.subscribe();
        let (control, handle) = Control::new(config.policy, observed, outputs);
        let limits = Descriptors::of_this_process().client_limits(&config);
        let (session_settings, settings_receiver) = watch::channel(settings(&config, limits));
        let (recheck, rechecks) = mpsc::channel(RECHECKS);
        let shared = Shared {
            targets,
            hold_terms,
            settings: settings_receiver,
            write_gate,
            read_gate,
            addresses: Arc::default(),
            counters: Arc::clone(&counters),
            recheck,
        };
        let workers = Workers::start(config.session.workers, shared).context("cannot start the workers")?;
        let (etcd, etcd_receiver) = watch::channel(etcd_config(&config));
        let (probe, probe_receiver) = watch::channel(config.probe.clone());
        let phase = watch::Sender::new(Phase::Serving);
        let mut essential = Essential::new(workers.panicked());
        essential.spawn("control", control.run());
        let clock_watcher = ClockWatcher::new(clock::of_this_machine, observations.clone());
        essential.spawn("etcd", follow_etcd(etcd_receiver, observations.clone(), clock_watcher.steps()));
        essential.spawn("clock", clock_watcher.run());
        let following = service_manager.clone().follow(handle.viewer(), phase.subscribe());
        essential.spawn("service manager", following);
        essential.spawn("probes", ask_servers(probe_receiver, probe_plan, observations.clone(), rechecks));
        let app = Self {
            inherited_addrs,
            control: handle,
            observations,
            etcd,
            probe,
            admin_access: watch::Sender::new(config.admin_access.clone()),
            settings: session_settings,
            gates,
            counters,
            workers,
            phase,
            listening: watch::Sender::new(listening(&config)),
            // Now that those of the workers are open.
            descriptors: Descriptors::of_this_process(),
            logging,
            service_manager,
            config,
        };
        app.limit_clients();
        app.tell_members().await;
        // Listening comes last, because it cannot fail: if the start failed after accepting a client, that client would be
        // lost, while an inherited backlog would have kept it for the next process.
        app.serve_admin(supervised, &mut essential)?;
        app.serve_control_socket(supervised, reloads, &mut essential).await?;
        app.listen(listeners).await;
        app.count_addresses();
        for (route, addr) in routes(&app.config) {
            info!(route = route.code(), %addr, inherited = app.inherited_addrs.contains(&addr), "listening");
        }
        Ok((app, essential))
    }

    async fn serve(&mut self, mut reload: Reload, commands: &mut Commands) {
        let patience = loop {
            tokio::select! {
                biased;
                command = commands.next() => match command {
                    Command::Reload(request) => {
                        self.service_manager.reloading().await;
                        reload.request(request);
                    }
                    Command::Stop => break self.config.session.drain_timeout,
                    Command::Drain(patience) => break patience,
                    Command::SupervisorGone => {
                        error!("the supervisor is gone, so nothing else could stop this process: stopping");
                        break Duration::ZERO;
                    }
                },
                (read, requests) = reload.next() => self.reload(read, requests).await,
            }
        };
        self.drain(patience, commands).await;
    }

    async fn reload(&mut self, read: Result<Config>, requests: Vec<ReloadRequest>) {
        let applied = match read {
            Ok(config) => self.apply(config).await,
            Err(error) => Err(error),
        };
        self.counters.reloads.record(applied.is_ok(), clock::now());
        let answer = applied.as_ref().map_err(|error| format!("{error:#}")).copied();
        match applied {
            Ok(()) => {
                // The filter was parsed when the configuration was read.
                self.logging.iter().for_each(|logging| drop(logging.set_filter(&self.config.log.filter)));
                info!("configuration reloaded");
            }
            Err(error) => error!("configuration not reloaded, the old one stays: {error:#}"),
        }
        requests.into_iter().for_each(|request| request.answer(answer.clone()));
        self.service_manager.ready().await;
    }

    fn serve_admin(&self, supervised: bool, essential: &mut Essential) -> Result<()> {
        let Some(addr) = self.config.admin else { return Ok(()) };
        // A supervisor starts a successor while this process drains, and passes on no socket of this address. While both
        // run, either may answer.
        let shared = supervised || self.config.session.so_reuseport;
        let listener = TcpListener::from_std(listen("admin", addr, shared)?)?;
        info!(%addr, "admin page");
        let admin = Admin {
            cluster: self.config.cluster.as_str().into(),
            view: self.control.viewer(),
            counters: Arc::clone(&self.counters),
            phase: self.phase.subscribe(),
            started: clock::now(),
            listening: self.listening.subscribe(),
            access: self.admin_access.subscribe(),
            logging: self.logging.clone(),
        };
        essential.spawn("admin", admin::serve(listener, admin, self.descriptors.admin_connections()));
        Ok(())
    }

    async fn serve_control_socket(
        &self,
        supervised: bool,
        reloads: mpsc::Sender<ReloadRequest>,
        essential: &mut Essential,
    ) -> Result<()> {
        let Some(config) = &self.config.control else { return Ok(()) };
        let shared = supervised || self.config.session.so_reuseport;
        let socket = ControlSocket::bind(config, &self.config.cluster, shared).await?;
        info!(path = %config.path.display(), "control socket");
        let actions = Actions {
            cluster: self.config.cluster.as_str().into(),
            control: self.control.clone(),
            sessions: self.workers.sessions_handle(),
            reloads,
            logging: self.logging.clone(),
        };
        essential.spawn("control socket", socket.serve(actions, self.descriptors.control_connections()));
        Ok(())
    }

    /// Puts the limits of clients in force, as far as there are descriptors.
    fn limit_clients(&self) {
        let limits = self.descriptors.client_limits(&self.config);
        warn_if_scarce(limits, &self.config);
        self.counters.max_sessions.set(limits.sessions as u64);
        self.settings.send_replace(settings(&self.config, limits));
    }

    /// Counts the addresses that the routes listen on.
    fn count_addresses(&self) {
        let addresses = routes(&self.config);
        for route in RouteKind::ALL {
            let listening = addresses.iter().filter(|(of, _)| *of == route).count();
            self.counters.route(route).listening.set(listening as u64);
        }
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
        self.control.set_policy(config.policy).await;
        self.etcd.send_if_modified(|known| replace(known, etcd_config(&config)));
        self.probe.send_if_modified(|known| replace(known, config.probe.clone()));
        self.admin_access.send_if_modified(|known| replace(known, config.admin_access.clone()));
        self.config = config;
        self.listening.send_replace(listening(&self.config));
        self.limit_clients();
        self.count_addresses();
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
