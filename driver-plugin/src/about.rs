//! The static facts about the driver: name, versions, capabilities.

use nomad_plugin_proto::base::{PluginInfoResponse, PluginType};
use nomad_plugin_proto::driver::{DriverCapabilities, driver_capabilities, network_isolation_spec};

use crate::plugin_config;

/// The name of the driver in jobs.
pub const NAME: &str = "pg-leader-proxy";

/// The name of the executable, and the label of the agent's `plugin` block.
pub const PROGRAM: &str = "nomad-driver-pg-leader-proxy";

/// The version of driver and proxy.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The only version of the plugin API that Nomad has (`helper/pluginutils/loader`).
const API_VERSION: &str = "v0.1.0";

/// The answer to `PluginInfo`.
#[must_use]
pub fn info() -> PluginInfoResponse {
    PluginInfoResponse {
        r#type: PluginType::Driver.into(),
        plugin_api_versions: vec![API_VERSION.to_owned()],
        plugin_version: VERSION.to_owned(),
        name: NAME.to_owned(),
    }
}

/// What the driver supports: signals and commands. Tasks use the host's files and network, and nothing is mounted for
/// them.
#[must_use]
pub fn capabilities() -> DriverCapabilities {
    DriverCapabilities {
        send_signals: true,
        exec: true,
        fs_isolation: driver_capabilities::FsIsolation::None.into(),
        network_isolation_modes: vec![network_isolation_spec::NetworkIsolationMode::Host.into()],
        must_create_network: false,
        mount_configs: driver_capabilities::MountConfigs::NoMounts.into(),
        disable_log_collection: false,
        dynamic_workload_users: false,
    }
}

/// The answer to `--help`.
#[must_use]
pub fn help() -> String {
    let keys =
        plugin_config::KEYS.map(|key| format!("  {} = {:?}\n      {}\n", key.name, key.default, key.doc));
    format!("{USAGE}{}", keys.concat())
}

const USAGE: &str = "\
The Nomad task driver `pg-leader-proxy`. It is started by a Nomad client, version 1.7 or newer.

Copy it into the client's plugin_dir, add a block `plugin \"nomad-driver-pg-leader-proxy\" {}` to the
client's configuration, and restart the client. Then a task with `driver = \"pg-leader-proxy\"` runs.

Commands:
  release [--state-dir DIRECTORY] ADDRESS|JOB
             Close the listening sockets that are kept for the next task of a job that has ended

Options:
  --version  Print the version
  --help     Print this help

The block's `config` may set these keys, here with their defaults:
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nomad_can_parse_the_version() {
        let parts: Vec<Option<u32>> = VERSION.split('.').map(|part| part.parse().ok()).collect();
        assert!(parts.len() == 3 && parts.iter().all(Option::is_some), "{VERSION}");
    }

    #[test]
    fn the_help_explains_every_key_of_the_plugin_block() {
        for key in plugin_config::KEYS {
            assert!(help().contains(key.name) && help().contains(key.default) && help().contains(key.doc));
        }
    }

    #[test]
    fn the_executable_has_the_name_of_its_crate() {
        assert_eq!(PROGRAM, env!("CARGO_PKG_NAME"));
        assert!(help().contains(PROGRAM) && help().contains(NAME));
    }
}
