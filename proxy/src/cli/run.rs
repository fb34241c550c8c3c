//! `run`: the proxy itself.

use std::net::TcpListener;

use anyhow::Context as _;
use listenfd::ListenFd;

use super::exit::Exit;
use crate::app::{self, Reload, ServiceManager, SupervisorLink};
use crate::config::{Config, Origins};
use crate::logging;

/// Runs the proxy until it is told to stop.
pub(super) fn run(origins: Origins) -> anyhow::Result<Exit> {
    let temporary = logging::temporary();
    let config = match Config::load_in_time(&origins) {
        Ok(Ok(config)) => config,
        // Not as an error of the configuration, after which a service manager would not try again.
        Err(hangs) => {
            tracing::error!("stopped: {hangs}");
            return Ok(Exit::Failure);
        }
        Ok(Err(errors)) => {
            for error in errors.iter() {
                tracing::error!("configuration: {error}");
            }
            return Ok(Exit::Configuration);
        }
    };
    drop(temporary);
    let (logging, _flush) = logging::start(&config).context("logging cannot be started")?;
    let link = SupervisorLink {
        listeners: activated_listeners()?,
        service_manager: ServiceManager::of_this_process(),
        ..SupervisorLink::default()
    };
    match app::run(config, Reload::from_origins(origins, logging), link) {
        Ok(()) => Ok(Exit::Success),
        // Through the log, whose queue nobody waits for.
        Err(error) => {
            tracing::error!("stopped: {error:#}");
            Ok(Exit::Failure)
        }
    }
}

/// The sockets of a systemd socket unit (`LISTEN_FDS`, `sd_listen_fds(3)`).
fn activated_listeners() -> anyhow::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let listeners = (0..passed.len()).map(|index| {
        let listener = passed.take_tcp_listener(index);
        let listener = listener
            .with_context(|| format!("socket {index} of LISTEN_FDS is not a listening TCP socket"))?;
        listener.with_context(|| format!("socket {index} of LISTEN_FDS was already taken"))
    });
    listeners.collect()
}
