//! What a task is started with, and why a start fails.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pg_leader_proxy::config::Given;
use serde::{Deserialize, Serialize};

use crate::resources::Cgroups;
use crate::user::Account;

/// Names one run of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskName {
    /// Nomad's id of this run. It contains slashes and is new at every restart.
    pub id: String,
    /// The allocation.
    pub alloc_id: String,
    /// The name of the task in its job.
    pub name: String,
}

/// Names the job of a task. Two jobs with the same id are different ones in different namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobName {
    /// The job's namespace.
    pub namespace: String,
    /// The job's id in its namespace.
    pub id: String,
}

/// Everything a task is started with. It is held in the supervisor's memory only, because it contains secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The task.
    pub task: TaskName,
    /// Its job.
    #[serde(default)]
    pub job: JobName,
    /// The settings of its `config` block.
    pub settings: Vec<Given>,
    /// The whole environment of the proxy process.
    pub environment: BTreeMap<String, String>,
    /// The allocation's directory. Only root can write it and its parents, unlike what is in it. An older supervisor does
    /// not tell it.
    #[serde(default)]
    pub alloc_dir: PathBuf,
    /// The working directory: the task's directory.
    pub directory: PathBuf,
    /// Standard output: a FIFO of Nomad's log collector, a file, or `/dev/null`.
    pub stdout: PathBuf,
    /// Standard error, which is the proxy's log.
    pub stderr: PathBuf,
    /// The user of the proxy process and of commands in the task. Without one, the supervisor's, which is not root
    /// then.
    pub account: Option<Account>,
    /// The name of the account, for an older plugin, and from an older supervisor.
    #[serde(default)]
    pub user: Option<String>,
    /// The task's cgroups.
    pub cgroups: Cgroups,
    /// -1000 to 1000 (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: i32,
    /// How long the listening sockets are kept for a successor after the task has exited.
    pub keep_listening: Duration,
    /// Other directories of supervisors: those that an earlier configuration of the agent named.
    #[serde(default)]
    pub earlier_state_dirs: Vec<PathBuf>,
}

impl LaunchSpec {
    /// The job of the task. An older supervisor knows it by the environment that Nomad sets.
    #[must_use]
    pub fn job(&self) -> JobName {
        if !self.job.id.is_empty() {
            return self.job.clone();
        }
        let variable = |name: &str| self.environment.get(name).cloned().unwrap_or_default();
        JobName { namespace: variable("NOMAD_NAMESPACE"), id: variable("NOMAD_JOB_ID") }
    }
}

/// Shows the names of settings and environment variables, but not their values.
impl fmt::Debug for LaunchSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<&str> = self.settings.iter().map(|given| given.path.as_str()).collect();
        f.debug_struct("LaunchSpec")
            .field("task", &self.task)
            .field("job", &self.job)
            .field("settings", &settings)
            .field("environment", &self.environment.keys())
            .field("alloc_dir", &self.alloc_dir)
            .field("directory", &self.directory)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("account", &self.account)
            .field("cgroups", &self.cgroups)
            .field("oom_score_adj", &self.oom_score_adj)
            .field("keep_listening", &self.keep_listening)
            .field("earlier_state_dirs", &self.earlier_state_dirs)
            .finish()
    }
}

/// Why a task did not start, by what helps against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid: the job has to be changed. One text per fault.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
    /// Another attempt may succeed, for example when an address is in use.
    #[error("{0}")]
    Transient(String),
    /// Another task of this driver accepts clients there. An attempt after its end may succeed.
    #[error("{0}")]
    Occupied(Box<Occupant>),
    /// Another attempt on this machine does not help.
    #[error("{0}")]
    Fatal(String),
}

/// A task that accepts clients on an address that another one wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "cannot listen on {wanted}: the task `{}` of the job `{}` (namespace `{}`, allocation {}) accepts clients on {held}",
    .task.name, .job.id, .job.namespace, .task.alloc_id
)]
pub struct Occupant {
    /// The address that is wanted.
    pub wanted: SocketAddr,
    /// The address on which the task accepts clients.
    pub held: SocketAddr,
    /// The task.
    pub task: TaskName,
    /// Its job.
    pub job: JobName,
    /// The directory of its allocation.
    pub alloc_dir: PathBuf,
    /// The directory of its supervisor.
    pub directory: PathBuf,
}

/// Whether two different addresses cover a common one.
pub(crate) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use pg_leader_proxy::config::Raw;

    use super::*;

    fn launch() -> LaunchSpec {
        LaunchSpec {
            task: TaskName { id: "a/proxy/1".to_owned(), alloc_id: "a".to_owned(), name: "proxy".to_owned() },
            job: JobName { namespace: "default".to_owned(), id: "proxy".to_owned() },
            settings: vec![Given { path: "probe.user".to_owned(), raw: Raw::Text("monitor".to_owned()) }],
            environment: BTreeMap::from([("PGLP_PROBE_PASSWORD".to_owned(), "a secret".to_owned())]),
            alloc_dir: PathBuf::from("/"),
            directory: PathBuf::from("/"),
            stdout: PathBuf::from("/dev/null"),
            stderr: PathBuf::from("/dev/null"),
            account: None,
            user: None,
            cgroups: Cgroups::default(),
            oom_score_adj: 0,
            keep_listening: Duration::from_secs(10),
            earlier_state_dirs: Vec::new(),
        }
    }

    #[test]
    fn debug_output_shows_no_values_that_may_be_secret() {
        let shown = format!("{:?}", launch());
        assert!(shown.contains("PGLP_PROBE_PASSWORD") && shown.contains("probe.user"), "{shown}");
        assert!(!shown.contains("a secret") && !shown.contains("monitor"), "{shown}");
    }

    #[test]
    fn a_launch_spec_survives_json() {
        let text = serde_json::to_string(&launch()).unwrap();
        assert_eq!(serde_json::from_str::<LaunchSpec>(&text).unwrap(), launch());
    }
}
