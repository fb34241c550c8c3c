//! What the agent has configured, shared by all rpcs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::plugin_config::PluginConfig;

/// The agent's configuration, as far as it was received. An agent that reattaches sends none; the earlier one stays
/// in force.
#[derive(Debug, Default)]
pub struct SharedConfig(Mutex<Values>);

#[derive(Clone, Debug, Default)]
struct Values {
    plugin: PluginConfig,
    mhz_per_core: Option<f64>,
}

impl SharedConfig {
    /// Stores a configuration. An agent that only validates sends no topology, and the known speed stays.
    pub fn set(&self, plugin: PluginConfig, mhz_per_core: Option<f64>) {
        let mut values = self.values();
        values.plugin = plugin;
        values.mhz_per_core = mhz_per_core.or(values.mhz_per_core);
    }

    /// The driver's `plugin` block.
    pub fn plugin(&self) -> PluginConfig {
        self.values().plugin.clone()
    }

    /// The speed of a core in MHz, if the agent knows it.
    pub fn mhz_per_core(&self) -> Option<f64> {
        self.values().mhz_per_core
    }

    fn values(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pitfall_08_a_configuration_without_topology_keeps_the_known_speed() {
        let config = SharedConfig::default();
        config.set(PluginConfig::default(), Some(2600.0));
        let plugin = PluginConfig { state_dir: "/x".into(), ..PluginConfig::default() };
        config.set(plugin.clone(), None);
        assert_eq!((config.plugin(), config.mhz_per_core()), (plugin, Some(2600.0)));
    }
}
