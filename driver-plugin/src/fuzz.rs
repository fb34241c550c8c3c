//! Fuzz targets: what this crate's parsers promise, judged on any bytes.
//!
//! `fuzz/` feeds them with libFuzzer, and the tests below with what it has kept. Only these two are built with this module.

#![allow(clippy::unwrap_used, reason = "a panic is the verdict")]

use nomad_plugin_proto::driver::{PortMapping, Resources};
use pg_leader_proxy::config::{Config, Origins};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exec::ExecRequest;
use crate::plugin_config::PluginConfig;
use crate::supervisor::protocol::{ProxyCommand, ProxyReport, Reply, Request};
use crate::supervisor::record::{Holder, TaskExit};
use crate::{job_config, msgpack, tasks};

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

/// What Nomad sends as a job's `config` is a configuration, or each fault has a text; the same for the agent's block.
///
/// # Panics
/// If that is not so.
pub fn task_config(data: &[u8]) {
    // Passwords are read from the files that are named: what does not end is not for here.
    if [&b"/dev"[..], b"/proc", b"/sys"].iter().any(|name| data.windows(name.len()).any(|part| part == *name))
    {
        return;
    }
    if let Ok(block) = msgpack::decode(data)
        && let Err(error) = PluginConfig::read(&block)
    {
        assert!(error.to_string().contains("(the agent's plugin block): "), "{error}");
    }
    let port = |label: &str, value, host_ip: &str| PortMapping {
        label: label.to_owned(),
        value,
        to: 0,
        host_ip: host_ip.to_owned(),
    };
    let ports = vec![port("pg", 5433, "10.0.0.1"), port("ro", 0, ""), port("x", 1, "y")];
    match job_config::read(data, Some(&Resources { ports, ..Resources::default() })) {
        Ok(given) => match Config::load(&Origins { given, ..Origins::default() }) {
            Ok(config) => assert!(!config.write.listen.is_empty()),
            Err(errors) => assert!(errors.iter().all(|error| !error.problem.is_empty())),
        },
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What was read as a message between the driver's processes, or as one of its records, is the same when it is written and
/// read again.
///
/// # Panics
/// If that is not so.
pub fn driver_messages(data: &[u8]) {
    again::<Request>(data);
    again::<Reply>(data);
    again::<ProxyCommand>(data);
    again::<ProxyReport>(data);
    again::<ExecRequest>(data);
    again::<Holder>(data);
    again::<TaskExit>(data);
    if let Ok(record) = tasks::decode(data) {
        assert_eq!(tasks::decode(&tasks::encode(&record).unwrap()).unwrap(), record);
    }
}

fn again<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_vec(&message).unwrap();
        let read: T = serde_json::from_slice(&written).unwrap();
        assert_eq!(serde_json::to_vec(&read).unwrap(), written);
    }
}

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn task_configs() {
        replay("task_config", super::task_config);
    }

    #[test]
    fn driver_messages() {
        replay("driver_messages", super::driver_messages);
    }
}
