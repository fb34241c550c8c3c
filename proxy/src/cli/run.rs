//! `run`: the proxy itself.

use anyhow::Context as _;

use super::exit::Exit;
use crate::app::{self, Reload, SupervisorLink};
use crate::config::{Config, Origins};
use crate::logging;

/// Runs the proxy until it is told to stop.
pub(super) fn run(origins: Origins) -> anyhow::Result<Exit> {
    let temporary = logging::temporary();
    let config = match Config::load(&origins) {
        Ok(config) => config,
        Err(errors) => {
            for error in errors.iter() {
                tracing::error!("configuration: {error}");
            }
            return Ok(Exit::Configuration);
        }
    };
    drop(temporary);
    let (logging, _flush) = logging::start(&config).context("logging cannot be started")?;
    match app::run(config, Reload::from_origins(origins, logging), SupervisorLink::default()) {
        Ok(()) => Ok(Exit::Success),
        // Through the log, whose queue nobody waits for.
        Err(error) => {
            tracing::error!("stopped: {error:#}");
            Ok(Exit::Failure)
        }
    }
}
