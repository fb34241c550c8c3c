//! Turns Nomad's description of a task into what its supervisor is started with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nomad_plugin_proto::driver::network_isolation_spec::NetworkIsolationMode;
use nomad_plugin_proto::driver::{Resources, TaskConfig};

use crate::job_config::{self, JobConfigErrors};
use crate::plugin_config::PluginConfig;
use crate::resources::{Cgroups, Limits};
use crate::supervisor::{JobName, LaunchSpec, TaskName};
use crate::user::{Account, UnknownUser};

/// Where the task's output goes when Nomad does not collect logs.
const DEV_NULL: &str = "/dev/null";

/// A task that can be started.
#[derive(Debug)]
pub struct Prepared {
    /// For the supervisor.
    pub launch: LaunchSpec,
    /// What the job asks for and the task does not get, although it can run without.
    pub warnings: Vec<String>,
}

/// Why a task cannot be started as it is described.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Its `config` block is invalid.
    #[error(transparent)]
    Config(#[from] JobConfigErrors),
    /// It asks for something that this driver does not support.
    #[error("the driver pg-leader-proxy does not support {0}")]
    Unsupported(String),
    /// Nomad's description lacks something.
    #[error("Nomad's description of the task has no {0}")]
    Incomplete(&'static str),
    /// Its user does not exist.
    #[error(transparent)]
    User(#[from] UnknownUser),
    /// Its user is root.
    #[error(
        "user = {0:?}: the proxy faces the network and does not run as root; name another user, or none for `nobody`"
    )]
    Root(String),
    /// The system does not say in time who its user is.
    #[error(
        "the user `{user}` could not be looked up within {limit:?}: see whether `getent passwd {user}` answers on this \
         machine"
    )]
    UserDatabase {
        /// The user.
        user: String,
        /// How long the look-up was waited for.
        limit: Duration,
    },
    /// Nomad did not create its cgroup.
    #[error("cannot use the task's cgroup: {0}")]
    Cgroups(#[from] std::io::Error),
}

/// Prepares a task that runs as `account`, and sets the limits of its cgroups. Tasks that were started with one of
/// `earlier_state_dirs` are its neighbours, too.
///
/// # Errors
/// When it cannot be started as it is described.
pub fn prepare(
    config: &TaskConfig,
    account: Option<Account>,
    plugin: &PluginConfig,
    earlier_state_dirs: Vec<PathBuf>,
) -> Result<Prepared, PrepareError> {
    reject_unsupported(config)?;
    let task = TaskName {
        id: required(&config.id, "id")?,
        alloc_id: required(&config.alloc_id, "allocation")?,
        name: required(&config.name, "name")?,
    };
    let alloc_dir = required(&config.alloc_dir, "allocation directory")?;
    let settings = job_config::read(&config.msgpack_driver_config, config.resources.as_ref())?;
    let none = Resources::default();
    let resources = config.resources.as_ref().unwrap_or(&none);
    let linux = resources.linux_resources.clone().unwrap_or_default();
    let cgroups = Cgroups::of(&task.alloc_id, &task.name, &linux)?;
    let mut warnings = cgroups.limit(&Limits::of(resources));
    if config.dns.as_ref().is_some_and(|dns| !dns.servers.is_empty()) {
        warnings.push("the dns block has no effect: the task uses the host's resolver".to_owned());
    }
    let launch = LaunchSpec {
        settings,
        environment: environment(config),
        directory: Path::new(&alloc_dir).join(&config.name),
        alloc_dir: alloc_dir.into(),
        job: JobName { namespace: config.namespace.clone(), id: config.job_id.clone() },
        stdout: output(&config.stdout_path),
        stderr: output(&config.stderr_path),
        user: account.as_ref().map(Account::label),
        account,
        cgroups,
        oom_score_adj: i32::try_from(linux.oom_score_adj).unwrap_or_default(),
        keep_listening: plugin.keep_listening,
        earlier_state_dirs,
        task,
    };
    Ok(Prepared { launch, warnings })
}

/// What the driver cannot provide is rejected instead of ignored: the job relies on it.
fn reject_unsupported(config: &TaskConfig) -> Result<(), PrepareError> {
    let unsupported = |what: String| Err(PrepareError::Unsupported(what));
    if let Some(mount) = config.mounts.first() {
        return unsupported(format!("volumes: it cannot mount {} at {}", mount.host_path, mount.task_path));
    }
    if let Some(device) = config.devices.first() {
        return unsupported(format!("devices: it cannot give {} to a task", device.host_path));
    }
    let mode = config.network_isolation_spec.as_ref().map_or(NetworkIsolationMode::Host, |spec| spec.mode());
    if mode != NetworkIsolationMode::Host {
        let reason = "network isolation: the group's network must have the mode \"host\"";
        return unsupported(reason.to_owned());
    }
    Ok(())
}

fn required(text: &str, what: &'static str) -> Result<String, PrepareError> {
    if text.is_empty() { Err(PrepareError::Incomplete(what)) } else { Ok(text.to_owned()) }
}

/// The task's environment without the variables by which the dynamic loader would load foreign code into a program.
fn environment(config: &TaskConfig) -> BTreeMap<String, String> {
    let all = config.env.iter().chain(&config.device_env);
    let harmless = all.filter(|(name, _)| !name.starts_with("LD_"));
    harmless.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn output(path: &str) -> PathBuf {
    PathBuf::from(if path.is_empty() { DEV_NULL } else { path })
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

    fn error(config: &TaskConfig) -> String {
        prepare(config, None, &PluginConfig::default(), Vec::new()).unwrap_err().to_string()
    }

    #[test]
    fn a_task_has_its_directory_output_and_environment() {
        let launch = prepare(&config(), None, &PluginConfig::default(), Vec::new()).unwrap().launch;
        assert_eq!(launch.task.id, "a/t/1");
        assert_eq!((launch.alloc_dir, launch.directory), ("/alloc/a".into(), "/alloc/a/t".into()));
        assert_eq!(launch.stdout, Path::new("/alloc/a/alloc/logs/.t.stdout.fifo"));
        assert_eq!((launch.stderr.as_path(), launch.account), (Path::new("/dev/null"), None));
        let environment: Vec<(&str, &str)> =
            launch.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(environment, [("A", "1"), ("B", "2")]);
    }

    #[test]
    fn pitfall_15_the_agents_protection_from_oom_is_not_inherited() {
        assert_eq!(
            prepare(&config(), None, &PluginConfig::default(), Vec::new()).unwrap().launch.oom_score_adj,
            0
        );
    }

    #[test]
    fn what_the_driver_does_not_support_is_named() {
        let mount = Mount { host_path: "/host".into(), task_path: "/task".into(), ..Mount::default() };
        assert!(error(&TaskConfig { mounts: vec![mount], ..config() }).contains("/host"));
        let device = Device { host_path: "/dev/sda".into(), ..Device::default() };
        assert!(error(&TaskConfig { devices: vec![device], ..config() }).contains("/dev/sda"));
        let spec = NetworkIsolationSpec { mode: NetworkIsolationMode::Group.into(), ..Default::default() };
        let bridged = TaskConfig { network_isolation_spec: Some(spec), ..config() };
        assert!(error(&bridged).contains("\"host\""));
        assert!(error(&TaskConfig { id: String::new(), ..config() }).contains("no id"));
    }
}
