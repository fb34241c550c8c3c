//! An example of the History API: pages of candles over HTTP, from the database behind the proxy. It has the contract of the real
//! one and is a client for the tests and drills; the deployment runs its own image.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Config, NoTls, Row};

/// The statement `page` of `database/queries.sql`.
const PAGE: &str = "SELECT ts, o, h, l, c, v, source FROM candles WHERE ticker = $1 AND tf = $2 AND ts < $3 ORDER BY ts DESC LIMIT $4";
const LARGEST_PAGE: i64 = 1000;
const DEFAULT_PAGE: i64 = 500;
/// How long the database may take before it counts as not reachable.
const HEALTH: Duration = Duration::from_secs(2);
const QUERY: Duration = Duration::from_secs(10);

struct Api {
    key: String,
    config: Config,
    /// One connection; who finds it closed opens another.
    client: Mutex<Option<Client>>,
}

type Answer = (StatusCode, Json<Value>);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "history-api-example: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<()> {
    let setting = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let port: u16 = setting("PORT")?.parse().context("PORT")?;
    let config = setting("PG_URL")?.parse().context("PG_URL")?;
    let api = Arc::new(Api { key: setting("API_KEY")?, config, client: Mutex::new(None) });
    let routes = Router::new().route("/health", get(health)).route("/candles", get(candles)).with_state(api);
    let listener = tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    Ok(axum::serve(listener, routes).await?)
}

async fn health(State(api): State<Arc<Api>>) -> Answer {
    match tokio::time::timeout(HEALTH, api.query("SELECT 1", &[])).await {
        Ok(Ok(_)) => (StatusCode::OK, Json(json!({ "ok": true }))),
        Ok(Err(_)) | Err(_) => unreachable_database(),
    }
}

fn unreachable_database() -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ok": false, "error": "db_unreachable" })))
}

fn rejected(status: StatusCode, why: &str) -> Answer {
    (status, Json(json!({ "ok": false, "error": why })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    ticker: Option<String>,
    tf: Option<String>,
    before_ts: Option<String>,
    limit: Option<String>,
}

async fn candles(State(api): State<Arc<Api>>, headers: HeaderMap, Query(page): Query<Page>) -> Answer {
    let given = headers.get("x-api-key").map(|value| value.as_bytes()).unwrap_or_default();
    if !same(given, api.key.as_bytes()) {
        return rejected(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    let (Some(ticker), Some(tf)) =
        (page.ticker.filter(|text| !text.is_empty()), page.tf.filter(|text| !text.is_empty()))
    else {
        return rejected(StatusCode::BAD_REQUEST, "ticker and tf are required");
    };
    let Some(before) = number(page.before_ts.as_deref(), i64::MAX, 1..=i64::MAX) else {
        return rejected(StatusCode::BAD_REQUEST, "beforeTs is milliseconds since 1970");
    };
    let Some(limit) = number(page.limit.as_deref(), DEFAULT_PAGE, 1..=LARGEST_PAGE) else {
        return rejected(StatusCode::BAD_REQUEST, "limit is a number from 1 to 1000");
    };
    match tokio::time::timeout(QUERY, api.query(PAGE, &[&ticker, &tf, &before, &limit])).await {
        Ok(Ok(rows)) => {
            (StatusCode::OK, Json(json!({ "candles": rows.iter().map(candle).collect::<Vec<_>>() })))
        }
        Ok(Err(_)) | Err(_) => unreachable_database(),
    }
}

fn candle(row: &Row) -> Value {
    let price = |column: &str| row.get::<_, f64>(column);
    json!({
        "ts": row.get::<_, i64>("ts"), "o": price("o"), "h": price("h"), "l": price("l"), "c": price("c"), "v": price("v"),
        "source": row.get::<_, String>("source"),
    })
}

fn number(text: Option<&str>, default: i64, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    text.map_or(Some(default), |text| text.parse().ok()).filter(|number| range.contains(number))
}

/// Takes as long for a wrong key as for the right one.
fn same(given: &[u8], key: &[u8]) -> bool {
    given.len() == key.len() && given.iter().zip(key).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

impl Api {
    /// Runs a query; on a connection that was lost, once more on a new one. A page may be read twice.
    async fn query(
        &self,
        sql: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let mut held = self.client.lock().await;
        // Taken out: a query that is given up takes its connection with it, which may never answer again.
        if let Some(client) = held.take()
            && let Ok(rows) = client.query(sql, values).await
        {
            *held = Some(client);
            return Ok(rows);
        }
        let (client, connection) = self.config.connect(NoTls).await?;
        tokio::spawn(connection);
        let rows = client.query(sql, values).await?;
        *held = Some(client);
        Ok(rows)
    }
}
