//! What is known of the driver before anything happens: name, versions, capabilities.

use nomad_plugin_proto::base::{PluginInfoResponse, PluginType};
use nomad_plugin_proto::driver::{DriverCapabilities, driver_capabilities, network_isolation_spec};

use crate::agent;

/// The name of the driver in jobs.
pub const NAME: &str = "pg-leader-proxy";

/// The name of the program, and of the label of the agent's `plugin` block.
pub const PROGRAM: &str = "nomad-driver-pg-leader-proxy";

/// The version of driver and proxy, which are one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The only version of the plugin protocol's content that Nomad has (`helper/pluginutils/loader`).
const API_VERSION: &str = "v0.1.0";

/// What the plugin says of itself.
#[must_use]
pub fn info() -> PluginInfoResponse {
    PluginInfoResponse {
        r#type: PluginType::Driver.into(),
        plugin_api_versions: vec![API_VERSION.to_owned()],
        plugin_version: VERSION.to_owned(),
        name: NAME.to_owned(),
    }
}

/// What the driver can do: signals and commands; the host's files and network, and nothing mounted into either.
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
    let keys = agent::KEYS.map(|key| format!("  {} = {:?}\n      {}\n", key.name, key.default, key.doc));
    format!("{USE}{}", keys.concat())
}

const USE: &str = "\
The Nomad task driver `pg-leader-proxy`. A Nomad client starts this program; nobody else needs to.

Copy it into the client's plugin_dir, add a block `plugin \"nomad-driver-pg-leader-proxy\" {}` to the
client's configuration, and restart the client. Then a task with `driver = \"pg-leader-proxy\"` runs.

Options:
  --version  Say which version this is
  --help     Say this

The block's `config` may set, here with the defaults:
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_one_that_nomad_can_parse() {
        let parts: Vec<Option<u32>> = VERSION.split('.').map(|part| part.parse().ok()).collect();
        assert!(parts.len() == 3 && parts.iter().all(Option::is_some), "{VERSION}");
    }

    #[test]
    fn the_help_explains_every_key_of_the_agents_block() {
        for key in agent::KEYS {
            assert!(help().contains(key.name) && help().contains(key.default) && help().contains(key.doc));
        }
    }

    #[test]
    fn the_program_is_named_as_its_crate_and_its_help() {
        assert_eq!(PROGRAM, env!("CARGO_PKG_NAME"));
        assert!(help().contains(PROGRAM) && help().contains(NAME));
    }
}
