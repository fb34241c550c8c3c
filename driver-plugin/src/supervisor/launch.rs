//! What a task is started with, and why a start fails.

use std::collections::BTreeMap;
use std::fmt;
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

/// Everything a task is started with. It is held in the supervisor's memory only, because it contains secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The task.
    pub task: TaskName,
    /// The settings of its `config` block.
    pub settings: Vec<Given>,
    /// The whole environment of the proxy process.
    pub environment: BTreeMap<String, String>,
    /// The allocation's directory. Only root can write it and its parents, unlike what is in it.
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
    /// The task's cgroups.
    pub cgroups: Cgroups,
    /// -1000 to 1000 (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: i32,
    /// How long the listening sockets are kept for a successor after the task has exited.
    pub keep_listening: Duration,
}

/// Shows the names of settings and environment variables, but not their values.
impl fmt::Debug for LaunchSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<&str> = self.settings.iter().map(|given| given.path.as_str()).collect();
        f.debug_struct("LaunchSpec")
            .field("task", &self.task)
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
    /// Another attempt on this machine does not help.
    #[error("{0}")]
    Fatal(String),
}

#[cfg(test)]
mod tests {
    use pg_leader_proxy::config::Raw;

    use super::*;

    fn launch() -> LaunchSpec {
        LaunchSpec {
            task: TaskName { id: "a/proxy/1".to_owned(), alloc_id: "a".to_owned(), name: "proxy".to_owned() },
            settings: vec![Given { path: "probe.user".to_owned(), raw: Raw::Text("monitor".to_owned()) }],
            environment: BTreeMap::from([("PGLP_PROBE_PASSWORD".to_owned(), "a secret".to_owned())]),
            alloc_dir: PathBuf::from("/"),
            directory: PathBuf::from("/"),
            stdout: PathBuf::from("/dev/null"),
            stderr: PathBuf::from("/dev/null"),
            account: None,
            cgroups: Cgroups::default(),
            oom_score_adj: 0,
            keep_listening: Duration::from_secs(10),
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
