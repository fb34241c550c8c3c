//! What a task is started with, and why one could not be.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use pg_leader_proxy::config::Given;
use serde::{Deserialize, Serialize};

use crate::resources::Cgroups;

/// Which of Nomad's tasks something belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskName {
    /// Nomad's id of this run of the task; it has slashes in it and is new at every restart.
    pub id: String,
    /// The allocation.
    pub alloc_id: String,
    /// The name of the task in its job.
    pub name: String,
}

/// Everything that a task is started with. It lives in the memory of the supervisor only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The task.
    pub task: TaskName,
    /// What its `config` block says.
    pub settings: Vec<Given>,
    /// The whole environment of the relay.
    pub environment: BTreeMap<String, String>,
    /// Where the relay works: the task's directory.
    pub directory: PathBuf,
    /// Where its standard output goes: a FIFO of Nomad's log collector, a file, or `/dev/null`.
    pub stdout: PathBuf,
    /// Where its standard error, which is its log, goes.
    pub stderr: PathBuf,
    /// Whom the relay runs as: a name, a number or `nomad-<number>`; as the supervisor without one.
    pub user: Option<String>,
    /// Where the relay belongs.
    pub cgroups: Cgroups,
    /// How readily the kernel kills the relay when memory runs out: -1000 to 1000 (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: i32,
    /// How long the listening sockets are kept for a successor after the relay has ended.
    pub keep_listening: Duration,
}

/// Without what may be secret: of the environment and the settings only the names are shown.
impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<&str> = self.settings.iter().map(|given| given.path.as_str()).collect();
        f.debug_struct("Launch")
            .field("task", &self.task)
            .field("settings", &settings)
            .field("environment", &self.environment.keys())
            .field("directory", &self.directory)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("user", &self.user)
            .field("cgroups", &self.cgroups)
            .field("oom_score_adj", &self.oom_score_adj)
            .field("keep_listening", &self.keep_listening)
            .finish()
    }
}

/// Why a task could not be started, by what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense: another job helps. One text for each fault.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
    /// Another attempt may help, such as when an address is in use.
    #[error("{0}")]
    Transient(String),
    /// Another attempt on this machine does not help.
    #[error("{0}")]
    Fatal(String),
}

#[cfg(test)]
pub(super) mod tests {
    use pg_leader_proxy::config::Raw;

    use super::*;

    pub(in super::super) fn launch() -> Launch {
        Launch {
            task: TaskName { id: "a/proxy/1".to_owned(), alloc_id: "a".to_owned(), name: "proxy".to_owned() },
            settings: vec![Given { path: "probe.user".to_owned(), raw: Raw::Text("monitor".to_owned()) }],
            environment: BTreeMap::from([("PGLP_PROBE_PASSWORD".to_owned(), "a secret".to_owned())]),
            directory: PathBuf::from("/"),
            stdout: PathBuf::from("/dev/null"),
            stderr: PathBuf::from("/dev/null"),
            user: None,
            cgroups: Cgroups::default(),
            oom_score_adj: 0,
            keep_listening: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_launch_shows_no_value_that_may_be_secret() {
        let shown = format!("{:?}", launch());
        assert!(shown.contains("PGLP_PROBE_PASSWORD") && shown.contains("probe.user"), "{shown}");
        assert!(!shown.contains("a secret") && !shown.contains("monitor"), "{shown}");
    }

    #[test]
    fn a_launch_passes_through_json() {
        let text = serde_json::to_string(&launch()).unwrap();
        assert_eq!(serde_json::from_str::<Launch>(&text).unwrap(), launch());
    }
}
