//! One query over one connection.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// A query that takes longer has failed.
const WITHIN: Duration = Duration::from_secs(10);

/// Who logs in where.
pub(crate) fn login(user: &str, password: &str, database: &str, addresses: &[(&str, u16)]) -> Config {
    let mut config = Config::new();
    config.user(user).password(password).dbname(database).connect_timeout(Duration::from_secs(5));
    config.application_name("nomad-layout");
    for (address, port) in addresses {
        config.host(*address).port(*port);
    }
    config
}

/// The first column of each row, as text.
pub(crate) fn column(config: &Config, sql: &str) -> Result<Vec<String>> {
    column_within(config, sql, WITHIN)
}

/// The same, of a query that may take longer.
pub(crate) fn column_within(config: &Config, sql: &str, within: Duration) -> Result<Vec<String>> {
    runtime()?.block_on(async {
        tokio::time::timeout(within, async {
            let client = connect(config).await?;
            let rows = client.simple_query(sql).await?;
            let values = rows.iter().filter_map(|message| {
                if let SimpleQueryMessage::Row(row) = message {
                    Some(row.get(0).unwrap_or_default().to_owned())
                } else {
                    None
                }
            });
            Ok(values.collect())
        })
        .await
        .with_context(|| format!("{sql}: no answer within {within:?}"))?
    })
}

/// The first value.
pub(crate) fn value(config: &Config, sql: &str) -> Result<String> {
    column(config, sql)?.into_iter().next().with_context(|| format!("{sql}: no row"))
}

pub(crate) async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The SQLSTATE, or that there was no connection.
pub(crate) fn kind(error: &anyhow::Error) -> String {
    let code = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    code.map_or_else(|| "connection".to_owned(), |code| code.code().to_owned())
}

pub(crate) fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("starting a runtime")
}
