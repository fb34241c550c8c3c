//! The user that PostgreSQL and the other programs of a cluster run as.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// A user to run programs as.
#[derive(Clone, Copy, Debug)]
pub struct User {
    ids: Option<(u32, u32)>,
}

impl User {
    /// The user of this process.
    #[must_use]
    pub fn own() -> Self {
        Self { ids: None }
    }

    /// `postgres` if this process is root, because PostgreSQL and Patroni refuse to run as root; else its own user.
    ///
    /// # Errors
    /// When there is no user `postgres`.
    pub fn for_postgres() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::own());
        }
        let user = nix::unistd::User::from_name("postgres")
            .context("looking up the user postgres")?
            .context("there is no user postgres: apt-get install postgresql-15")?;
        Ok(Self { ids: Some((user.uid.as_raw(), user.gid.as_raw())) })
    }

    /// User id and group id, when they are not those of this process.
    #[must_use]
    pub fn ids(&self) -> Option<(u32, u32)> {
        self.ids
    }

    /// A command that runs as this user, without supplementary groups.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes this user the owner of a file or directory.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn take_ownership(&self, path: &Path) -> Result<()> {
        match self.ids {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid))
                .with_context(|| format!("changing the owner of {}", path.display())),
            None => Ok(()),
        }
    }
}
