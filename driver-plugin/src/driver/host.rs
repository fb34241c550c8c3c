//! What the agent has told the driver.

use std::sync::{Mutex, PoisonError};

use nomad_plugin_proto::base::ClientTopology;

use crate::agent::Agent;

/// The agent's configuration, as far as it has come. After a reattach none comes, but what came before still holds.
#[derive(Debug, Default)]
pub struct Host {
    said: Mutex<Said>,
}

#[derive(Clone, Debug, Default)]
struct Said {
    agent: Agent,
    topology: Option<ClientTopology>,
}

impl Host {
    /// Takes a configuration. One that only validates has no topology, and does not take away what is known.
    pub fn configure(&self, agent: Agent, topology: Option<ClientTopology>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.agent = agent;
        if topology.is_some() {
            said.topology = topology;
        }
    }

    /// The agent's `plugin` block.
    pub fn agent(&self) -> Agent {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).agent.clone()
    }

    /// The processors that the agent counts; none before Nomad 1.7.
    pub fn topology(&self) -> Option<ClientTopology> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).topology.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pitfall_08_a_validating_configuration_takes_no_topology_away() {
        let host = Host::default();
        let topology = ClientTopology { override_total_compute: 5, ..ClientTopology::default() };
        host.configure(Agent::default(), Some(topology.clone()));
        let agent = Agent { state_dir: "/x".into(), ..Agent::default() };
        host.configure(agent.clone(), None);
        assert_eq!((host.agent(), host.topology()), (agent, Some(topology)));
    }
}
