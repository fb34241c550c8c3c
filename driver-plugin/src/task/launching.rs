//! From what Nomad says of a task to what its supervisor is told.

use std::path::{Path, PathBuf};

use nomad_plugin_proto::driver::network_isolation_spec::NetworkIsolationMode;
use nomad_plugin_proto::driver::{LinuxResources, Resources, TaskConfig};

use crate::agent::Agent;
use crate::resources::{Cgroups, Limits};
use crate::settings::{self, Faults};
use crate::supervisor::{Launch, TaskName};

/// Where the task's output goes when Nomad collects none.
const NOWHERE: &str = "/dev/null";

/// What a task is started with, and what its owner should know of it.
#[derive(Debug)]
pub struct Prepared {
    /// For the supervisor.
    pub launch: Launch,
    /// What the task asks for and does not get, though it can run without.
    pub warnings: Vec<String>,
}

/// Why a task cannot be started, whatever else happens.
#[derive(Debug, thiserror::Error)]
pub enum Unlaunchable {
    /// The configuration is at fault.
    #[error(transparent)]
    Settings(#[from] Faults),
    /// The task asks for what this driver does not have.
    #[error("the driver pg-leader-proxy has no {0}")]
    Unsupported(String),
    /// Nomad's description lacks something.
    #[error("Nomad's description of the task has no {0}")]
    Incomplete(&'static str),
    /// The task's cgroup cannot be had.
    #[error("the task's cgroup: {0}")]
    Cgroups(#[from] std::io::Error),
}

/// What to start for `config`, with its cgroup made and limited.
///
/// # Errors
/// When it cannot be started as it is described.
pub fn prepare(config: &TaskConfig, agent: &Agent) -> Result<Prepared, Unlaunchable> {
    refuse_unsupported(config)?;
    let name = TaskName {
        id: required(&config.id, "id")?,
        alloc_id: required(&config.alloc_id, "allocation")?,
        name: required(&config.name, "name")?,
    };
    let settings = settings::read(&config.msgpack_driver_config, config.resources.as_ref())?;
    let linux = config.resources.as_ref().and_then(|resources| resources.linux_resources.clone());
    let linux = linux.unwrap_or_default();
    let (cgroups, mut warnings) = cgroups(&name, config.resources.as_ref(), &linux)?;
    if config.dns.as_ref().is_some_and(|dns| !dns.servers.is_empty()) {
        warnings.push("the dns block has no effect: the task uses the host's own resolver".to_owned());
    }
    let launch = Launch {
        settings,
        environment: environment(config),
        directory: Path::new(&config.alloc_dir).join(&config.name),
        stdout: output(&config.stdout_path),
        stderr: output(&config.stderr_path),
        user: Some(config.user.clone()).filter(|user| !user.is_empty()),
        cgroups,
        oom_score_adj: i32::try_from(linux.oom_score_adj).unwrap_or_default(),
        keep_listening: agent.keep_listening,
        task: name,
    };
    Ok(Prepared { launch, warnings })
}

/// A request that cannot be met is refused, not passed over: somebody relies on it.
fn refuse_unsupported(config: &TaskConfig) -> Result<(), Unlaunchable> {
    let unsupported = |what: String| Err(Unlaunchable::Unsupported(what));
    if let Some(mount) = config.mounts.first() {
        return unsupported(format!("volumes: it cannot mount {} at {}", mount.host_path, mount.task_path));
    }
    if let Some(device) = config.devices.first() {
        return unsupported(format!("devices: it cannot give {} to a task", device.host_path));
    }
    let mode = config.network_isolation_spec.as_ref().map_or(NetworkIsolationMode::Host, |spec| spec.mode());
    if mode != NetworkIsolationMode::Host {
        return unsupported("network of its own: the group's network must have the mode \"host\"".to_owned());
    }
    Ok(())
}

fn required(text: &str, what: &'static str) -> Result<String, Unlaunchable> {
    if text.is_empty() { Err(Unlaunchable::Incomplete(what)) } else { Ok(text.to_owned()) }
}

fn cgroups(
    name: &TaskName,
    resources: Option<&Resources>,
    linux: &LinuxResources,
) -> Result<(Cgroups, Vec<String>), Unlaunchable> {
    let mut cgroups = Cgroups::of(&name.alloc_id, &name.name, linux)?;
    cgroups.make()?;
    let warnings = resources.map(|resources| cgroups.limit(&Limits::of(resources))).unwrap_or_default();
    Ok((cgroups, warnings))
}

/// The task's environment, without what would make the loader of programs run somebody else's code in ours.
fn environment(config: &TaskConfig) -> std::collections::BTreeMap<String, String> {
    let all = config.env.iter().chain(&config.device_env);
    let harmless = all.filter(|(name, _)| !name.starts_with("LD_"));
    harmless.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn output(path: &str) -> PathBuf {
    PathBuf::from(if path.is_empty() { NOWHERE } else { path })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use nomad_plugin_proto::driver::{Device, Mount, NetworkIsolationSpec};

    use super::*;

    fn config() -> TaskConfig {
        let map = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        TaskConfig {
            id: "a/t/1".into(),
            name: "t".into(),
            alloc_id: "a".into(),
            alloc_dir: "/alloc/a".into(),
            env: map(&[("A", "1"), ("B", "1"), ("LD_PRELOAD", "/evil.so")]),
            device_env: map(&[("B", "2")]),
            stdout_path: "/alloc/a/alloc/logs/.t.stdout.fifo".into(),
            ..TaskConfig::default()
        }
    }

    fn refusal(config: &TaskConfig) -> String {
        prepare(config, &Agent::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_task_gets_its_directory_output_and_environment() {
        let launch = prepare(&config(), &Agent::default()).unwrap().launch;
        assert_eq!(launch.task.id, "a/t/1");
        assert_eq!(launch.directory, Path::new("/alloc/a/t"));
        assert_eq!(launch.stdout, Path::new("/alloc/a/alloc/logs/.t.stdout.fifo"));
        assert_eq!((launch.stderr.as_path(), launch.user), (Path::new("/dev/null"), None));
        let environment: Vec<(&str, &str)> =
            launch.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(environment, [("A", "1"), ("B", "2")]);
    }

    #[test]
    fn pitfall_15_the_agents_protection_from_oom_is_not_inherited() {
        assert_eq!(prepare(&config(), &Agent::default()).unwrap().launch.oom_score_adj, 0);
    }

    #[test]
    fn what_the_driver_does_not_have_is_refused_by_name() {
        let mount = Mount { host_path: "/host".into(), task_path: "/task".into(), ..Mount::default() };
        assert!(refusal(&TaskConfig { mounts: vec![mount], ..config() }).contains("/host"));
        let device = Device { host_path: "/dev/sda".into(), ..Device::default() };
        assert!(refusal(&TaskConfig { devices: vec![device], ..config() }).contains("/dev/sda"));
        let spec = NetworkIsolationSpec { mode: NetworkIsolationMode::Group.into(), ..Default::default() };
        let bridged = TaskConfig { network_isolation_spec: Some(spec), ..config() };
        assert!(refusal(&bridged).contains("\"host\""));
        assert!(refusal(&TaskConfig { id: String::new(), ..config() }).contains("no id"));
    }
}
