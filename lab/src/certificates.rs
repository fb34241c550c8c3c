//! A certificate authority for the cluster's PostgreSQL servers, made with the `openssl` program.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::binaries;
use crate::member::Member;
use crate::process::User;

/// A CA in a directory.
#[derive(Debug)]
pub(crate) struct Authority {
    openssl: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        let authority = Self {
            openssl: binaries::openssl()?,
            certificate: directory.join("ca.crt"),
            key: directory.join("ca.key"),
        };
        let mut command = authority.command(&["req", "-x509", "-subj", "/CN=lab CA", "-days", "2"]);
        command.args(KEY_OPTIONS).arg("-keyout").arg(&authority.key).arg("-out").arg(&authority.certificate);
        run(command).context("making the lab's CA")?;
        Ok(authority)
    }

    pub(crate) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Writes `server.crt` and `server.key`, valid for both addresses of the member and for `localhost`.
    pub(crate) fn issue(&self, directory: &Path, member: &Member, user: &User) -> Result<()> {
        let (certificate, key) = (directory.join("server.crt"), directory.join("server.key"));
        let names = format!(
            "subjectAltName=DNS:localhost,DNS:{},IP:{},IP:{}",
            member.name,
            member.postgres.ip(),
            member.postgres_direct.ip()
        );
        let mut command = self.command(&["req", "-x509", "-subj", &format!("/CN={}", member.name)]);
        command.args(["-days", "2", "-addext", &names]).args(KEY_OPTIONS);
        command.arg("-CA").arg(&self.certificate).arg("-CAkey").arg(&self.key);
        command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        run(command).with_context(|| format!("making the certificate of {}", member.name))?;
        for path in [&certificate, &key] {
            // PostgreSQL refuses a key that others may read.
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("closing a key file")?;
            if let User::Other { uid, gid, .. } = user {
                chown(path, Some(*uid), Some(*gid)).context("giving a key file away")?;
            }
        }
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.openssl);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

const KEY_OPTIONS: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

fn run(mut command: Command) -> Result<()> {
    let output = command.output().context("running openssl")?;
    if !output.status.success() {
        bail!("openssl ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
