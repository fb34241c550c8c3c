//! The client programs: how each is started, and what each must show.

use std::process::Command;

use anyhow::Result;

use crate::{Major, places};

/// A finished client, driven by a program of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// Debian's psql, on the libpq of its own version 15.
    Psql,
    /// The same psql on libpq 18, which comes with the server's package.
    PsqlOnLibpq18,
    /// psycopg 3, on the libpq 18 of its wheel.
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
    /// Its program, without the arguments that every program takes.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn command(self) -> Result<Command> {
        let command = match self {
            Self::Psql => Command::new(places::source("psql/psql_client")),
            Self::PsqlOnLibpq18 => {
                let mut command = Command::new(places::source("psql/psql_client"));
                command.env("PSQL_LIBPQ", places::postgres(Major(18))?.join("lib"));
                command
            }
            Self::Psycopg => python("psycopg_client.py")?,
            Self::Asyncpg => python("asyncpg_client.py")?,
            Self::Pgx => Command::new(places::client("pgx-client")?),
            Self::Jdbc => {
                let classes = places::client("java")?;
                let path = format!("{}:{}", classes.join("postgresql.jar").display(), classes.display());
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-cp", &path, "JdbcClient"]);
                command
            }
            Self::NodePostgres => {
                let mut command = Command::new("node");
                command.arg(places::source("node/client.js"));
                // The libraries are outside the repository, so node must be told where.
                command.env("NODE_PATH", places::client("node/node_modules")?);
                command
            }
            Self::TokioPostgres => Command::new(places::built("tokio-postgres-client", "clients")?),
        };
        Ok(command)
    }

    /// What its program must show against a server of this version: no less and no more.
    #[must_use]
    pub fn behaviours(self, server: Major) -> Vec<&'static str> {
        let mut all = EVERY_CLIENT.to_vec();
        all.extend(self.own_behaviours());
        let since = |name: &&str| match *name {
            "direct_tls" => server >= Major(17),
            "protocol_3_2" => server >= Major(18),
            _ => true,
        };
        all.retain(since);
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

fn python(program: &str) -> Result<Command> {
    let mut command = Command::new(places::client("venv/bin/python")?);
    // The repository stays clean: no compiled files beside the sources.
    command.arg("-B").arg(places::source("python").join(program));
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
