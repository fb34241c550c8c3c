//! Where one run works: the folder with its job files, the variables, the cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio_postgres::Config;

use crate::jobs::{self, JobFile};
use crate::nomad::Nomad;
use crate::shell::Shell;
use crate::site::{Site, Variables};
use crate::sql;

/// The variable with the database's passwords.
pub const DATABASE_SECRETS: &str = "nomad/jobs/timescaledb-ha";

/// All that a command needs.
#[derive(Debug)]
pub struct Layout {
    /// The folder with the job files.
    pub folder: PathBuf,
    /// The var-files.
    pub variables: Variables,
    /// What they say of the layout.
    pub site: Site,
    /// Prints and runs.
    pub shell: Shell,
    /// The cluster.
    pub nomad: Nomad,
    /// Where the table of results is, if it is wanted.
    pub results: Option<PathBuf>,
}

impl Layout {
    /// Reads the folder; without var-files its `site.vars.hcl`.
    ///
    /// # Errors
    /// When a file cannot be read, or a variable belongs to no job.
    pub fn open(folder: &Path, files: &[PathBuf], shell: Shell) -> Result<Self> {
        let own = [folder.join("site.vars.hcl")];
        let variables = Variables::read(if files.is_empty() { &own } else { files })?;
        jobs::reject_unknown(&variables, &jobs::all(folder)?)?;
        let site = variables.site()?;
        Ok(Self {
            folder: folder.to_owned(),
            variables,
            site,
            shell,
            nomad: Nomad::new(shell),
            results: None,
        })
    }

    /// One job file, such as `database/etcd`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn job(&self, name: &str) -> Result<JobFile> {
        jobs::read(&self.folder, name)
    }

    /// Runs a job file without waiting; the gate that follows does.
    ///
    /// # Errors
    /// When Nomad refuses it.
    pub fn run_job(&self, name: &str, more: &[(&str, &str)]) -> Result<()> {
        let job = self.job(name)?;
        let arguments = jobs::arguments(&self.variables, &job, more);
        let mut command = vec!["nomad", "job", "run", "-detach"];
        command.extend(arguments.iter().map(String::as_str));
        command.push(&job.file);
        self.shell.act_in(&job.folder, &command).map(drop)
    }

    /// Stops a job and waits for the end of its allocations.
    ///
    /// # Errors
    /// When Nomad refuses.
    pub fn stop_job(&self, name: &str) -> Result<()> {
        self.shell.act(&["nomad", "job", "stop", "-yes", name]).map(drop)
    }

    /// The login of a role at these addresses; its password comes from the database's variable.
    ///
    /// # Errors
    /// When the variable cannot be read.
    pub fn login(&self, role: &str, database: &str, addresses: &[(&str, u16)]) -> Result<Config> {
        let password = self.nomad.secret(DATABASE_SECRETS, &format!("{role}_password"))?;
        let user = if role == "superuser" { "postgres" } else { role };
        Ok(sql::login(user, &password, database, addresses))
    }

    /// The login of the owner of the candles at the leader itself, past proxy and HAProxy.
    ///
    /// # Errors
    /// When there is not exactly one leader, or the variable cannot be read.
    pub fn at_the_leader(&self) -> Result<Config> {
        let (leader, _) = self.leader_and_replica()?;
        self.login("vietmarket", "vietmarket", &[(self.address_of(leader)?, 5432)])
    }

    /// The addresses of the database nodes.
    pub fn database_addresses(&self) -> impl Iterator<Item = &str> {
        self.site.db_nodes.iter().map(|node| node.address.as_str())
    }

    /// The database node that Patroni calls the leader, and the other one.
    ///
    /// # Errors
    /// When there is not exactly one leader.
    pub fn leader_and_replica(&self) -> Result<(&str, &str)> {
        let leads = |address: &str| {
            crate::http::get(&format!("http://{address}:8008/primary")).is_ok_and(|(status, _)| status == 200)
        };
        let (leaders, others): (Vec<_>, Vec<_>) =
            self.site.db_nodes.iter().partition(|node| leads(&node.address));
        match (leaders.as_slice(), others.as_slice()) {
            ([leader], [replica]) => Ok((&leader.node, &replica.node)),
            _ => anyhow::bail!("{} members answer /primary with 200, not one", leaders.len()),
        }
    }

    /// The address of a database node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn address_of(&self, node: &str) -> Result<&str> {
        let found = self.site.db_nodes.iter().find(|known| known.node == node);
        found.map(|known| known.address.as_str()).with_context(|| format!("{node} is not in db_nodes"))
    }
}
