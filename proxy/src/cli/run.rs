//! `run`: the proxy itself.

use anyhow::Context as _;

use super::Exit;
use crate::app::{self, Reload, SupervisorLink};
use crate::config::{Config, ConfigErrors, Origins};
use crate::logging::{self, Logging};

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
    let logging = logging::start(&config.log).context("logging cannot be started")?;
    app::run(config, Reload::new(move || reload(&origins, &logging)), SupervisorLink::default())?;
    Ok(Exit::Fine)
}

/// Reads the configuration again. What is logged changes at once; all else is up to who asked.
fn reload(origins: &Origins, logging: &Logging) -> Result<Config, ConfigErrors> {
    let config = Config::load(origins)?;
    logging.set_filter(&config.log);
    Ok(config)
}
