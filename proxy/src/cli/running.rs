//! Where a running proxy answers: as the command line says, or else as its configuration does.

use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::Start;
use super::arguments::origins;
use super::http::AdminAddress;
use crate::config::{ConfigError, Origins, Secret, Settings};

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

/// An admin address, and the token that its answers may need.
#[derive(Debug)]
pub(super) struct RunningAdmin {
    address: String,
    token: Option<Secret>,
}

impl RunningAdmin {
    /// The address as it is given by itself, or else that of the configuration. The token is in the file that is given by
    /// itself, or else in that of the configuration, which counts only for its own address.
    ///
    /// # Errors
    /// Those of the configuration, or that the token cannot be read.
    pub(super) fn find(matches: &ArgMatches, origins: &Origins) -> Result<Self, Vec<ConfigError>> {
        let given = matches.get_one::<String>("admin");
        let address = match given {
            Some(address) => address.clone(),
            None => setting("admin.listen", origins)?.unwrap_or_default(),
        };
        let file = match (matches.get_one::<PathBuf>("token-file"), given) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(_)) => None,
            (None, None) => setting("admin.token_file", origins)?.map(PathBuf::from),
        };
        let token = file.map(|file| {
            Secret::read(&origins.files, &file).map_err(|problem| {
                let (subject, value) = ("admin.token_file".to_owned(), Some(file.display().to_string()));
                vec![ConfigError { subject, value, source: None, problem }]
            })
        });
        Ok(Self { address, token: token.transpose()? })
    }

    /// The body of the answer to `GET path`.
    ///
    /// # Errors
    /// If the address is none, no proxy answers there, or the answer is an error.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<String> {
        AdminAddress::parse(&self.address)?.get(path, self.token.as_ref())
    }
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
