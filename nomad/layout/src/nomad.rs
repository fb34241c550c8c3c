//! Nomad, by its own command line: address, token and certificates come from the environment, as for every `nomad` command.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::shell::Shell;

/// An allocation, as far as it is looked at.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Allocation {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The node's name.
    pub node_name: String,
    /// The group's name.
    pub task_group: String,
    /// `run` or `stop`.
    pub desired_status: String,
    /// `pending`, `running`, `complete`, `failed`, `lost`, `unknown`.
    pub client_status: String,
    /// When it was made.
    pub create_index: u64,
    /// The tasks' states.
    #[serde(default)]
    pub task_states: Option<BTreeMap<String, TaskState>>,
}

/// A task's state.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskState {
    /// `pending`, `running`, `dead`.
    pub state: String,
    /// Whether it failed.
    pub failed: bool,
    /// How often it was restarted.
    pub restarts: u64,
    /// What happened to it, oldest first.
    #[serde(default)]
    pub events: Option<Vec<TaskEvent>>,
}

/// One thing that happened to a task.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskEvent {
    /// As a person reads it.
    #[serde(default)]
    pub display_message: String,
}

impl Allocation {
    /// Wanted and running.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.desired_status == "run" && self.client_status == "running"
    }

    /// Running or about to.
    #[must_use]
    pub fn is_live(&self) -> bool {
        ["running", "pending", "unknown"].contains(&self.client_status.as_str())
    }

    /// Restarts of all tasks.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.task_states.iter().flatten().map(|(_, state)| state.restarts).sum()
    }

    /// The last event of each task.
    #[must_use]
    pub fn last_words(&self) -> String {
        let words = self.task_states.iter().flatten().filter_map(|(task, state)| {
            let last = state.events.as_ref()?.last()?;
            Some(format!("{task}: {}", last.display_message))
        });
        words.collect::<Vec<_>>().join("; ")
    }
}

/// The cluster.
#[derive(Clone, Copy, Debug)]
pub struct Nomad {
    shell: Shell,
}

impl Nomad {
    /// By this shell.
    #[must_use]
    pub fn new(shell: Shell) -> Self {
        Self { shell }
    }

    /// The answer of the HTTP API to a GET, such as `/v1/nodes`.
    ///
    /// # Errors
    /// When Nomad does not answer or the answer is no JSON.
    pub fn api(&self, path: &str) -> Result<Value> {
        let text = self.shell.look(&["nomad", "operator", "api", path])?;
        serde_json::from_str(&text).with_context(|| format!("{path}: no JSON: {}", text.trim()))
    }

    /// All allocations of a job that Nomad remembers; none of a job that it does not know.
    ///
    /// # Errors
    /// As [`Nomad::api`].
    pub fn allocations(&self, job: &str) -> Result<Vec<Allocation>> {
        serde_json::from_value(self.api(&format!("/v1/job/{job}/allocations"))?)
            .with_context(|| format!("allocations of {job}"))
    }

    /// The job as it is registered; `None` when there is none or it is stopped.
    ///
    /// # Errors
    /// As [`Nomad::api`].
    pub fn job(&self, name: &str) -> Result<Option<Value>> {
        let jobs = self.api(&format!("/v1/jobs?prefix={name}"))?;
        let known = jobs.as_array().into_iter().flatten().any(|job| job["ID"] == name && job["Stop"] != true);
        if known { Ok(Some(self.api(&format!("/v1/job/{name}"))?)) } else { Ok(None) }
    }

    /// The allocation of a group that runs on a node, or of any group with an empty name.
    ///
    /// # Errors
    /// When there is none.
    pub fn running_on(&self, job: &str, node: &str) -> Result<Allocation> {
        self.allocations(job)?
            .into_iter()
            .find(|allocation| allocation.runs() && allocation.node_name == node)
            .with_context(|| format!("{job} does not run on {node}"))
    }

    /// The items of a variable; `None` when there is no such variable.
    ///
    /// # Errors
    /// When Nomad does not answer or refuses.
    pub fn variable(&self, path: &str) -> Result<Option<BTreeMap<String, String>>> {
        let text = match self.shell.look(&["nomad", "var", "get", "-out=json", path]) {
            Ok(text) => text,
            Err(error) if error.to_string().contains("not found") => return Ok(None),
            Err(error) => return Err(error),
        };
        let variable: Value = serde_json::from_str(&text).with_context(|| format!("the variable {path}"))?;
        let items = serde_json::from_value(variable["Items"].clone())
            .with_context(|| format!("the variable {path}"))?;
        Ok(Some(items))
    }

    /// Writes a variable, in a dry run only in words. The values go by a file that others cannot read: arguments can be read by all.
    ///
    /// # Errors
    /// When Nomad refuses.
    pub fn put_variable(&self, path: &str, items: &BTreeMap<&str, String>) -> Result<()> {
        self.shell
            .say(&format!("+ nomad var put {path} {}", items.keys().copied().collect::<Vec<_>>().join(" ")));
        if self.shell.dry_run {
            return Ok(());
        }
        let specification = serde_json::json!({ "Path": path, "Items": items });
        self.with_file(&specification, |file| {
            self.shell.look(&["nomad", "var", "put", "-force", "-out=none", &format!("@{file}")]).map(drop)
        })
    }

    /// Runs a job again as [`Nomad::job`] told it. `nomad job start` would ask for the values of its variables.
    ///
    /// # Errors
    /// When Nomad refuses.
    pub fn run_again(&self, job: &Value) -> Result<()> {
        let mut job = job.clone();
        job["Stop"] = Value::Bool(false);
        self.with_file(&job, |file| {
            self.shell.act(&["nomad", "job", "run", "-detach", "-json", file]).map(drop)
        })
    }

    /// A file that others cannot read, for as long as `read` takes.
    fn with_file(&self, content: &Value, read: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        let file = self.shell.look(&["mktemp", "--suffix=.json"])?.trim().to_owned();
        let done = std::fs::write(&file, content.to_string()).map_err(Into::into).and_then(|()| read(&file));
        std::fs::remove_file(&file)?;
        done
    }

    /// One item that has to be there.
    ///
    /// # Errors
    /// When there is no such variable or item; the error says how to put it.
    pub fn secret(&self, path: &str, key: &str) -> Result<String> {
        match self.variable(path)?.and_then(|items| items.get(key).cloned()) {
            Some(value) => Ok(value),
            None => {
                bail!("the variable {path} has no {key}: see variables/ and `nomad-layout variables check`")
            }
        }
    }
}
