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

/// The path of the control socket: as given by itself, or else that of the configuration; `None` if it has none.
///
/// # Errors
/// Those of the configuration.
pub(super) fn control_socket(
    given: Option<&PathBuf>,
    origins: &Origins,
) -> Result<Option<PathBuf>, Vec<ConfigError>> {
    match given {
        Some(path) => Ok(Some(path.clone())),
        None => Ok(setting("control.socket", origins)?.map(PathBuf::from)),
    }
}

fn setting(path: &str, origins: &Origins) -> Result<Option<String>, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let settings = Settings::gather(origins, &mut errors);
    match errors.is_empty() {
        true => Ok(settings.find(path).map(|setting| setting.raw.to_string())),
        false => Err(errors),
    }
}
