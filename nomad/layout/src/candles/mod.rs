//! Candles under change: two ingesters upsert through the proxies and a reader pages through the History API while a command does
//! what it does; afterwards every acknowledged candle is looked for.

mod ingest;
mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_postgres::Config;

use crate::layout::Layout;
use crate::results;
use crate::sql;
use ingest::Ingested;
use reader::{Api, Seen};

/// The series of each ingester; their names keep them apart from real ones.
const SERIES: usize = 5;
const FRAME: &str = "1m";
/// 2020-01-01, and a candle for each minute from then on.
const FIRST: i64 = 1_577_836_800_000;
const STEP: i64 = 60_000;
/// Counting and deleting millions of rows.
const SLOW: Duration = Duration::from_secs(300);
/// Without an acknowledged batch for so long the run is over.
const STUCK: Duration = Duration::from_secs(300);

/// What is wanted of one run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many candles at least; the ingesters go on until the command has ended too.
    pub count: u64,
    /// Candles a second, of both ingesters.
    pub rate: u64,
    /// The History API, such as `http://127.0.0.1:8787`.
    pub api: String,
    /// Its key.
    pub key: String,
    /// What is done meanwhile.
    pub command: Vec<String>,
}

/// What ingesters and reader share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    written: AtomicU64,
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Runs it. The candles of the run are deleted afterwards.
///
/// # Errors
/// When the command fails, a candle is missing, twice there or not as it was written, `candles_latest` is not the newest, or a page
/// has a gap or a double.
pub fn run(layout: &Layout, name: &str, options: &Options) -> Result<()> {
    if layout.shell.dry_run {
        layout.shell.say(&format!(
            "? {} candles through both nodes, a reader on {}, then:",
            options.count, options.api
        ));
    }
    let command: Vec<_> = options.command.iter().map(String::as_str).collect();
    if layout.shell.dry_run {
        return layout.shell.act(&command).map(drop);
    }
    let addresses: Vec<_> =
        layout.database_addresses().map(|address| (address, layout.site.write_port)).collect();
    clear(&layout.at_the_leader()?)?;
    let shared = Arc::new(Shared::default());
    let mut ingesters = Vec::new();
    for place in 0..addresses.len() {
        let mut order = addresses.clone();
        order.rotate_left(place);
        let login = layout.login("vietmarket", "vietmarket", &order)?;
        let (shared, rate) = (Arc::clone(&shared), options.rate / 2);
        ingesters.push(std::thread::spawn(move || ingest::run(&login, &shared, place, rate)));
    }
    let api = Api { url: options.api.clone(), key: options.key.clone() };
    let reading = Arc::clone(&shared);
    let reader = std::thread::spawn(move || reader::run(&api, &reading));

    let acted = layout.shell.act(&command).map(|output| {
        output.lines().for_each(|line| layout.shell.say(&format!("  {line}")));
    });
    let enough = if acted.is_ok() { wait_for(&shared, options.count) } else { Ok(()) };
    shared.stop.store(true, Ordering::Relaxed);
    let ingested: Vec<_> = ingesters.into_iter().map(|ingester| joined(ingester, "an ingester")).collect();
    let seen = joined(reader, "the reader");
    let login = layout.at_the_leader()?;
    let checked = ingested
        .into_iter()
        .collect::<Result<Vec<_>>>()
        .and_then(|ingested| tell(layout, name, &login, &ingested, &seen?));
    // Whatever failed, the candles go.
    let cleared = clear(&login);
    acted.and(enough).and(checked).and(cleared)
}

fn joined<T>(thread: JoinHandle<Result<T>>, who: &str) -> Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("{who} has panicked"))?
}

fn wait_for(shared: &Shared, count: u64) -> Result<()> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let written = shared.written.load(Ordering::Relaxed);
        if written >= count {
            return Ok(());
        }
        if written > last {
            (last, since) = (written, Instant::now());
        }
        ensure!(since.elapsed() < STUCK, "{written} of {count} candles, and none for {} s", STUCK.as_secs());
        sleep(Duration::from_millis(200));
    }
}

fn series(ingester: usize, number: usize) -> String {
    format!("LAYOUT-DRILL-{ingester}-{number}")
}

fn clear(login: &Config) -> Result<()> {
    let sql = "DELETE FROM candles WHERE ticker LIKE 'LAYOUT-DRILL-%'; DELETE FROM candles_latest WHERE ticker LIKE 'LAYOUT-DRILL-%'";
    sql::column_within(login, sql, SLOW).map(drop)
}

/// What the database has of one series.
struct Found {
    lost: u64,
    doubled: u64,
    wrong: u64,
    latest: bool,
}

/// Looks for every acknowledged candle of a series: it is there once, as it was written, and `candles_latest` has the newest.
fn find(login: &Config, ticker: &str, acknowledged: u64) -> Result<Found> {
    let end = FIRST + i64::try_from(acknowledged)? * STEP;
    let as_written = "(o, h, l, c, v) = (n, n + 1, n - 1, n + 0.5, n)";
    let sql = format!(
        "WITH mine AS (SELECT ts, (ts - {FIRST}) / {STEP}::float8 AS n, o, h, l, c, v FROM candles \
           WHERE ticker = '{ticker}' AND tf = '{FRAME}') \
         SELECT concat_ws(' ', count(DISTINCT ts) FILTER (WHERE ts < {end}), count(*) - count(DISTINCT ts), \
           count(*) FILTER (WHERE NOT {as_written}), \
           coalesce((SELECT ts = max(mine.ts) AND c = max(mine.c) FROM candles_latest WHERE ticker = '{ticker}' AND tf = '{FRAME}'), false)) FROM mine"
    );
    let row = sql::column_within(login, &sql, SLOW)?.into_iter().next().context("no row")?;
    let words: Vec<_> = row.split(' ').collect();
    let &[there, doubled, wrong, latest] = words.as_slice() else { anyhow::bail!("{ticker}: {row}") };
    Ok(Found {
        lost: acknowledged.saturating_sub(there.parse()?),
        doubled: doubled.parse()?,
        wrong: wrong.parse()?,
        latest: latest == "t",
    })
}

fn tell(layout: &Layout, name: &str, login: &Config, ingested: &[Ingested], seen: &Seen) -> Result<()> {
    let (mut total, mut lost, mut doubled, mut wrong, mut stale) = (0, 0, 0, 0, Vec::new());
    let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, one) in ingested.iter().enumerate() {
        for (kind, count) in &one.errors {
            *errors.entry(kind).or_default() += count;
        }
        for (number, acknowledged) in one.acknowledged.iter().enumerate() {
            let ticker = series(place, number);
            let found = find(login, &ticker, *acknowledged)?;
            total += acknowledged;
            (lost, doubled, wrong) = (lost + found.lost, doubled + found.doubled, wrong + found.wrong);
            if !found.latest {
                stale.push(ticker);
            }
        }
    }
    let longest = ingested.iter().map(|one| one.longest).max().unwrap_or_default();
    let read_only = errors.get("25006").copied().unwrap_or_default();
    let told: Vec<_> = errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    layout.shell.say(&format!(
        "{name}: {total} candles acknowledged, {lost} lost, {doubled} doubled, {wrong} not as written, candles_latest wrong for {stale:?}"
    ));
    layout.shell.say(&format!(
        "  errors {told:?}, longest time without an acknowledged batch {:.2} s",
        longest.as_secs_f64()
    ));
    layout.shell.say(&format!("  {seen}"));
    let what =
        format!("{name}; the API said `db_unreachable` for {:.1} s at most", seen.unreachable.as_secs_f64());
    let told = if told.is_empty() { "none".to_owned() } else { told.join(", ") };
    let gap = format!("{:.1}", longest.as_secs_f64());
    let cells = [total, lost, doubled].map(|count| count.to_string());
    results::add(layout, &[&what, &cells[0], &gap, &told, &cells[1], &cells[2], &read_only.to_string()])?;
    ensure!(total > 0, "no candle was written");
    ensure!(lost + doubled + wrong == 0, "candles are lost, doubled or not as written");
    ensure!(stale.is_empty(), "candles_latest is not the newest of {stale:?}");
    ensure!(read_only == 0, "writes reached a server in recovery");
    ensure!(seen.faults.is_empty(), "pages: {:?}", seen.faults);
    ensure!(seen.walks > 0, "no series was read from its end to its beginning");
    Ok(())
}
