//! Programs that connect once, with nothing but a connection string and what stands beside it.

use std::process::Command;

use anyhow::Result;

use crate::installed;

/// A client that can be tried here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connects {
    /// libpq, by psql.
    Psql,
    /// libpq, by psycopg 3, which follows its rules with its own code.
    Psycopg,
    /// asyncpg.
    Asyncpg,
    /// pgx.
    Pgx,
    /// PgJDBC.
    Jdbc,
    /// node-postgres.
    NodePostgres,
}

impl Connects {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Psql, Self::Psycopg, Self::Asyncpg, Self::Pgx, Self::Jdbc, Self::NodePostgres];

    /// Those that the documentation means by `name`; none for a client that cannot be tried here.
    #[must_use]
    pub fn named(name: &str) -> Vec<Self> {
        let known: &[(&str, &[Self])] = &[
            ("libpq", &[Self::Psql, Self::Psycopg]),
            ("asyncpg", &[Self::Asyncpg]),
            ("pgx", &[Self::Pgx]),
            ("PgJDBC", &[Self::Jdbc]),
            ("node-postgres", &[Self::NodePostgres]),
        ];
        let of_name = known.iter().find(|(beginning, _)| name.starts_with(beginning));
        of_name.map_or_else(Vec::new, |(_, clients)| clients.to_vec())
    }
}

/// The command that connects once and prints `connected`. `settings` are `name=value`.
///
/// # Errors
/// When the client is not installed.
pub fn command(client: Connects, string: &str, settings: &[String]) -> Result<Command> {
    let mut command = match client {
        Connects::Psql => {
            let mut command = Command::new("psql");
            command.args(["-X", "-A", "-t", "-c", "select 'connected'"]);
            command
        }
        Connects::Psycopg => python("psycopg")?,
        Connects::Asyncpg => python("asyncpg")?,
        Connects::Pgx => Command::new(installed::client("pgx-connect")?),
        Connects::Jdbc => {
            let mut command = Command::new("java");
            command.arg("-cp").arg(installed::client("java/postgresql.jar")?);
            command.arg(installed::source("connect/Connect.java"));
            command
        }
        Connects::NodePostgres => {
            let mut command = Command::new("node");
            command.arg(installed::source("connect/connect.js"));
            command.env("NODE_PATH", installed::client("node/node_modules")?);
            command
        }
    };
    command.arg(string).args(settings);
    Ok(command)
}

fn python(name: &str) -> Result<Command> {
    let mut command = Command::new(installed::client("venv/bin/python")?);
    command.arg("-B").arg(installed::source("connect/connect.py")).arg(name);
    Ok(command)
}
