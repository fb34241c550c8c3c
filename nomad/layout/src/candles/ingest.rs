//! One ingester: batches in order, each sent again until it is acknowledged, as the statement `upsert` of `queries.sql` allows.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio_postgres::{Client, Config};

use super::{FIRST, FRAME, SERIES, STEP, STUCK, Shared, series};
use crate::sql;

/// Candles of one batch.
const BATCH: i64 = 500;
/// A batch that takes longer is sent again.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before a batch is sent again.
const PAUSE: Duration = Duration::from_millis(100);

/// The statement `upsert` of `database/queries.sql`.
const UPSERT: &str = "INSERT INTO candles AS known (ticker, tf, ts, o, h, l, c, v, source) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[], $7::float8[], $8::float8[], $9::text[]) ORDER BY 1, 2, 3 \
    ON CONFLICT (ticker, tf, ts) DO UPDATE SET (o, h, l, c, v, source, updated_at) \
      = (EXCLUDED.o, EXCLUDED.h, EXCLUDED.l, EXCLUDED.c, EXCLUDED.v, EXCLUDED.source, now()) \
    WHERE (known.o, known.h, known.l, known.c, known.v) IS DISTINCT FROM (EXCLUDED.o, EXCLUDED.h, EXCLUDED.l, EXCLUDED.c, EXCLUDED.v)";

/// What one ingester did.
#[derive(Debug, Default)]
pub(super) struct Ingested {
    /// Acknowledged candles by series.
    pub(super) acknowledged: [u64; SERIES],
    /// Errors by SQLSTATE, or by what was missing.
    pub(super) errors: BTreeMap<String, usize>,
    /// The longest time without an acknowledged batch.
    pub(super) longest: Duration,
}

/// Writes until it is stopped, so many candles a second.
pub(super) fn run(login: &Config, shared: &Shared, ingester: usize, rate: u64) -> Result<Ingested> {
    let mut done = Ingested::default();
    sql::runtime()?.block_on(async {
        let mut client = None;
        let (began, mut last, mut total) = (Instant::now(), Instant::now(), 0);
        for number in (0..SERIES).cycle() {
            if shared.stopped() {
                break;
            }
            let from = i64::try_from(done.acknowledged[number])?;
            let ticker = series(ingester, number);
            // Also when it is stopped meanwhile: an unanswered batch may be there or not.
            while let Err(kind) = send(login, &mut client, &ticker, from).await {
                ensure!(
                    last.elapsed() < STUCK,
                    "a batch was not taken for {} s, the last error is {kind}",
                    STUCK.as_secs()
                );
                *done.errors.entry(kind).or_default() += 1;
                client = None;
                tokio::time::sleep(PAUSE).await;
            }
            done.longest = done.longest.max(last.elapsed());
            last = Instant::now();
            let batch = u64::try_from(BATCH)?;
            done.acknowledged[number] += batch;
            shared.written.fetch_add(batch, Ordering::Relaxed);
            total += batch;
            let due = Duration::from_millis(total * 1000 / rate.max(1));
            tokio::time::sleep(due.saturating_sub(began.elapsed()).min(Duration::from_secs(1))).await;
        }
        Ok(done)
    })
}

/// One batch of a series, from its candle of this number on. The error is a SQLSTATE or what was missing.
async fn send(login: &Config, client: &mut Option<Client>, ticker: &str, from: i64) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, upsert(login, client, ticker, from)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(sql::kind(&error)),
        Err(_) => Err("no answer".to_owned()),
    }
}

async fn upsert(login: &Config, client: &mut Option<Client>, ticker: &str, from: i64) -> Result<()> {
    let connected = match client {
        Some(connected) if !connected.is_closed() => connected,
        _ => client.insert(sql::connect(login).await?),
    };
    let numbers = || from..from + BATCH;
    let texts = |text: &str| vec![text.to_owned(); numbers().count()];
    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    let prices = |more: f64| numbers().map(|number| number as f64 + more).collect::<Vec<f64>>();
    let times: Vec<_> = numbers().map(|number| FIRST + number * STEP).collect();
    let (tickers, frames, sources) = (texts(ticker), texts(FRAME), texts("drill"));
    let (open, high, low, close) = (prices(0.0), prices(1.0), prices(-1.0), prices(0.5));
    connected
        .execute(UPSERT, &[&tickers, &frames, &times, &open, &high, &low, &close, &open, &sources])
        .await?;
    Ok(())
}
