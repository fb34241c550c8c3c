//! Where a running proxy answers: as the command line says, or else as its configuration does.

use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::Start;
use super::arguments::origins;
use crate::config::{ConfigError, Origins, Settings};

/// Where the packages put configurations, one for each proxy of the machine.
pub(super) const CONFIGURATIONS: &str = "/etc/pg-leader-proxy";
/// The configuration of the one proxy of a machine.
const USUAL_CONFIGURATION: &str = "/etc/pg-leader-proxy/proxy.toml";

/// Where a command that talks to a running proxy finds its configuration: the usual file, if none is named and there is one.
pub(super) fn origins_of_running(matches: &ArgMatches, start: &Start) -> Origins {
    let mut origins = origins(matches, start);
    if origins.file.is_none() && Path::new(USUAL_CONFIGURATION).exists() {
        origins.file = Some(USUAL_CONFIGURATION.into());
    }
    origins
}

/// The admin address: as given by itself, or else that of the configuration.
///
/// # Errors
/// Those of the configuration.
pub(super) fn admin_address(given: Option<&String>, origins: &Origins) -> Result<String, Vec<ConfigError>> {
    if let Some(admin) = given {
        return Ok(admin.clone());
    }
    Ok(setting("admin.listen", origins)?.unwrap_or_default())
}

/// A control socket, and what the proxy behind it must be.
#[derive(Debug)]
pub(super) struct RunningProxy {
    /// The path of its control socket.
    pub(super) socket: PathBuf,
    /// The cluster that it must be a proxy of, if that is known.
    pub(super) cluster: Option<String>,
}

/// The control socket: as given by itself, or else that of the configuration; `None` if it has none. The cluster is that of
/// the configuration; beside a socket that is given by itself, only a configuration counts that is named as well.
///
/// # Errors
/// Those of the configuration.
pub(super) fn running_proxy(
    matches: &ArgMatches,
    start: &Start,
) -> Result<Option<RunningProxy>, Vec<ConfigError>> {
    let mut errors = Vec::new();
    if let Some(socket) = matches.get_one::<PathBuf>("socket") {
        // Its errors do not matter, because it need not be read for the socket.
        let cluster = Settings::gather(&origins(matches, start), &mut errors).cluster();
        return Ok(Some(RunningProxy { socket: socket.clone(), cluster }));
    }
    let settings = Settings::gather(&origins_of_running(matches, start), &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let socket = settings.find("control.socket").map(|setting| setting.raw.to_string().into());
    Ok(socket.map(|socket| RunningProxy { socket, cluster: settings.cluster() }))
}

fn setting(path: &str, origins: &Origins) -> Result<Option<String>, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let settings = Settings::gather(origins, &mut errors);
    match errors.is_empty() {
        true => Ok(settings.find(path).map(|setting| setting.raw.to_string())),
        false => Err(errors),
    }
}
