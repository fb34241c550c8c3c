//! The client programs: how to start each, and which behaviours each must show.

use std::process::Command;

use anyhow::Result;
use lab::built_program;

use crate::{Major, installed};

/// A PostgreSQL client, driven by a program of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// Debian's psql, with the libpq of its own version 15.
    Psql,
    /// The same psql with libpq 18, from the server's package.
    PsqlOnLibpq18,
    /// psycopg 3, with the libpq 18 of its wheel.
    Psycopg,
    /// asyncpg.
    Asyncpg,
    /// pgx.
    Pgx,
    /// PgJDBC.
    Jdbc,
    /// node-postgres.
    NodePostgres,
    /// tokio-postgres.
    TokioPostgres,
}

impl Client {
    /// Its program, without the arguments that all programs take.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn command(self) -> Result<Command> {
        let command = match self {
            Self::Psql => Command::new(installed::source("psql/psql_client")),
            Self::PsqlOnLibpq18 => {
                let mut command = Command::new(installed::source("psql/psql_client"));
                command.env("PSQL_LIBPQ", installed::postgres(Major(18))?.join("lib"));
                command
            }
            Self::Psycopg => python("psycopg_client.py")?,
            Self::Asyncpg => python("asyncpg_client.py")?,
            Self::Pgx => Command::new(installed::client("pgx-client")?),
            Self::Jdbc => {
                let classes = installed::client("java")?;
                let path = format!("{}:{}", classes.join("postgresql.jar").display(), classes.display());
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-cp", &path, "JdbcClient"]);
                command
            }
            Self::NodePostgres => {
                let mut command = Command::new("node");
                command.arg(installed::source("node/client.js"));
                // The libraries are outside the repository, where node does not look by itself.
                command.env("NODE_PATH", installed::client("node/node_modules")?);
                command
            }
            Self::TokioPostgres => Command::new(built_program("tokio-postgres-client", "clients")?),
        };
        Ok(command)
    }

    /// Exactly what its program must show against a server of this version.
    #[must_use]
    pub fn behaviours(self, server: Major) -> Vec<&'static str> {
        let mut all = EVERY_CLIENT.to_vec();
        all.extend(self.own_behaviours());
        let supported = |name: &&str| match *name {
            "direct_tls" => server >= Major(17),
            "protocol_3_2" => server >= Major(18),
            _ => true,
        };
        all.retain(supported);
        all
    }

    fn own_behaviours(self) -> &'static [&'static str] {
        match self {
            Self::Psql => &["channel_binding", "cancel_tls", "fetch_count"],
            Self::PsqlOnLibpq18 => {
                &["channel_binding", "cancel_tls", "fetch_count", "direct_tls", "protocol_3_2"]
            }
            Self::Psycopg => &[
                "channel_binding",
                "cancel_tls",
                "copy_in_binary",
                "pipeline",
                "server_ends_session",
                "direct_tls",
                "protocol_3_2",
            ],
            Self::Asyncpg => &["cancel_tls", "direct_tls"],
            Self::Pgx | Self::Jdbc => {
                &["channel_binding", "cancel_tls", "pipeline", "direct_tls", "protocol_3_2"]
            }
            Self::NodePostgres => &["channel_binding", "pipeline", "direct_tls"],
            Self::TokioPostgres => &["channel_binding", "cancel_tls", "pipeline"],
        }
    }
}

/// The program that looks at the admin page in a browser.
///
/// # Errors
/// When it is not installed.
pub fn page_program() -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(installed::source("page/page_test.js"));
    command.env("NODE_PATH", installed::client("page/node_modules")?);
    Ok(command)
}

fn python(program: &str) -> Result<Command> {
    let mut command = Command::new(installed::client("venv/bin/python")?);
    // No compiled files beside the sources.
    command.arg("-B").arg(installed::source("python").join(program));
    Ok(command)
}

const EVERY_CLIENT: &[&str] = &[
    "tls_disable",
    "tls_require",
    "tls_verify_full",
    "tls_wrong_ca_refused",
    "scram_wrong_password_refused",
    "prepared",
    "large_parameter",
    "copy_in",
    "copy_out",
    "listen_notify",
    "cancel",
    "large_result",
    "error_keeps_session",
    "clean_close",
];
