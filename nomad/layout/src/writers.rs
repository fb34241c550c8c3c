//! Clients that write all the time through the proxies, and what they noticed: gaps, errors, acknowledged rows that are missing or
//! there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Config};

use crate::layout::Layout;
use crate::results;
use crate::sql;

/// Between two writes of one writer.
const PAUSE: Duration = Duration::from_millis(20);
/// A write that takes longer is given up; it counts as not acknowledged.
const PATIENCE: Duration = Duration::from_secs(10);
/// The SQLSTATE of a write to a server in recovery.
const READ_ONLY: &str = "25006";
const TABLE: &str = "layout_writes";

/// Writers at work.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Noticed>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicI64,
    acknowledged: Mutex<Vec<i64>>,
}

/// What one writer noticed.
#[derive(Debug)]
struct Noticed {
    name: String,
    longest: Duration,
    errors: BTreeMap<String, usize>,
}

impl std::fmt::Display for Noticed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gap = self.longest.as_secs_f64();
        write!(
            out,
            "{}: longest time without an acknowledgement {gap:.2} s, errors {:?}",
            self.name, self.errors
        )
    }
}

/// What all of them noticed.
#[derive(Debug)]
pub struct Report {
    /// Acknowledged writes.
    pub acknowledged: usize,
    /// Acknowledged and not there.
    pub lost: usize,
    /// Rows that are there more than once, although each was written once.
    pub doubled: usize,
    /// Writes that reached a server in recovery.
    pub read_only: usize,
    /// The longest time without an acknowledgement, of any writer.
    pub longest: Duration,
    /// Errors by SQLSTATE, or by what was missing.
    pub errors: BTreeMap<String, usize>,
    lines: Vec<String>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} writes acknowledged, {} lost, {} doubled, {} to a read-only server",
            self.acknowledged, self.lost, self.doubled, self.read_only
        )?;
        for line in &self.lines {
            write!(out, "\n  {line}")?;
        }
        Ok(())
    }
}

impl Report {
    /// What every change must keep: nothing lost, nothing doubled, nothing sent to a replica, and no longer gap than this.
    ///
    /// # Errors
    /// When it was not kept.
    pub fn check(&self, longest: Duration) -> Result<()> {
        ensure!(self.acknowledged > 0, "nothing was written at all: {self}");
        ensure!(self.lost == 0, "acknowledged writes are lost: {self}");
        ensure!(self.doubled == 0, "writes are there twice: {self}");
        ensure!(self.read_only == 0, "writes reached a server in recovery: {self}");
        ensure!(self.longest <= longest, "the gap is longer than {} s: {self}", longest.as_secs());
        Ok(())
    }

    /// Tells it, and adds its row to the table of results if there is one.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn tell(&self, layout: &Layout, name: &str) -> Result<()> {
        layout.shell.say(&format!("{name}: {self}"));
        let errors: Vec<_> = self.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
        let seconds = format!("{:.1}", self.longest.as_secs_f64());
        let counts =
            [self.acknowledged, self.lost, self.doubled, self.read_only].map(|count| count.to_string());
        let [acknowledged, lost, doubled, read_only] = &counts;
        results::add(layout, &[name, acknowledged, &seconds, &errors, lost, doubled, read_only])
    }
}

impl Writers {
    /// Makes the table and starts one writer for each node: it names that node first and the other one after it.
    ///
    /// # Errors
    /// When the table cannot be made.
    pub fn start(layout: &Layout, port: u16) -> Result<Self> {
        let addresses: Vec<_> = layout.database_addresses().map(|address| (address, port)).collect();
        // Without a key: a row that is there twice is to be seen.
        sql::column(
            &layout.at_the_leader()?,
            &format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (id bigint NOT NULL)"),
        )
        .context("making the table of the writers")?;
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for (place, node) in layout.site.db_nodes.iter().enumerate() {
            let mut order = addresses.clone();
            order.rotate_left(place);
            let (login, shared) = (layout.login("vietmarket", "vietmarket", &order)?, Arc::clone(&shared));
            let name = format!("through {} first", node.node);
            threads.push(std::thread::spawn(move || write(&login, &shared, name)));
        }
        Ok(Self { shared, threads })
    }

    /// Waits for so many more acknowledged writes.
    ///
    /// # Errors
    /// When they are not there in time.
    pub fn wait_for(&self, writes: usize, within: Duration) -> Result<()> {
        let (wanted, deadline) = (self.count() + writes, Instant::now() + within);
        while self.count() < wanted {
            ensure!(Instant::now() < deadline, "no {writes} more writes within {} s", within.as_secs());
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Stops them, and looks whether every acknowledged write is there. The table goes.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub fn stop(mut self, layout: &Layout) -> Result<Report> {
        let login = layout.at_the_leader()?;
        let noticed = self.end()?;
        let acknowledged = self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = sql::column(&login, &format!("SELECT id FROM {TABLE}"))?;
        let rows = found.len();
        let found: BTreeSet<i64> = found.iter().filter_map(|id| id.parse().ok()).collect();
        sql::column(&login, &format!("DROP TABLE {TABLE}"))?;
        let mut errors = BTreeMap::new();
        for (kind, count) in noticed.iter().flat_map(|writer| &writer.errors) {
            *errors.entry(kind.clone()).or_default() += count;
        }
        Ok(Report {
            acknowledged: acknowledged.len(),
            lost: acknowledged.iter().filter(|id| !found.contains(id)).count(),
            doubled: rows - found.len(),
            read_only: errors.get(READ_ONLY).copied().unwrap_or_default(),
            longest: noticed.iter().map(|writer| writer.longest).max().unwrap_or_default(),
            errors,
            lines: noticed.iter().map(ToString::to_string).collect(),
        })
    }

    fn end(&mut self) -> Result<Vec<Noticed>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.drain(..);
        threads.map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a writer has panicked"))?).collect()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // After a failure nobody asks for the report.
        let _ = self.end();
    }
}

fn write(login: &Config, shared: &Shared, name: String) -> Result<Noticed> {
    let mut noticed = Noticed { name, longest: Duration::ZERO, errors: BTreeMap::new() };
    sql::runtime()?.block_on(async {
        let mut client: Option<Client> = None;
        let mut last = Instant::now();
        while !shared.stop.load(Ordering::Relaxed) {
            let id = shared.next.fetch_add(1, Ordering::Relaxed);
            match tokio::time::timeout(PATIENCE, once(login, &mut client, id)).await {
                Ok(Ok(())) => {
                    noticed.longest = noticed.longest.max(last.elapsed());
                    last = Instant::now();
                    shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(id);
                }
                Ok(Err(error)) => {
                    *noticed.errors.entry(sql::kind(&error)).or_default() += 1;
                    client = None;
                }
                Err(_) => {
                    *noticed.errors.entry("no answer".to_owned()).or_default() += 1;
                    client = None;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        noticed.longest = noticed.longest.max(last.elapsed());
    });
    Ok(noticed)
}

async fn once(login: &Config, client: &mut Option<Client>, id: i64) -> Result<()> {
    let connected = match client {
        Some(connected) if !connected.is_closed() => connected,
        _ => client.insert(sql::connect(login).await?),
    };
    connected.execute(&format!("INSERT INTO {TABLE} VALUES ({id})"), &[]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report([acknowledged, lost, doubled, read_only]: [usize; 4], seconds: u64) -> Report {
        let longest = Duration::from_secs(seconds);
        let (errors, lines) = (BTreeMap::from([("57P01".to_owned(), 2)]), Vec::new());
        Report { acknowledged, lost, doubled, read_only, longest, errors, lines }
    }

    #[test]
    fn a_report_fails_for_each_promise_that_was_not_kept() {
        let check = |counts, seconds| report(counts, seconds).check(Duration::from_secs(15));
        check([10, 0, 0, 0], 15).unwrap();
        for (faulty, words) in [
            (check([0, 0, 0, 0], 1), "nothing was written"),
            (check([10, 1, 0, 0], 1), "are lost"),
            (check([10, 0, 1, 0], 1), "are there twice"),
            (check([10, 0, 0, 1], 1), "in recovery"),
            (check([10, 0, 0, 0], 16), "longer than 15 s"),
        ] {
            let error = faulty.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_report_is_a_row_of_the_table() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("results.md");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut layout = Layout::open(&folder, &[], crate::shell::Shell { dry_run: false }).unwrap();
        layout.results = Some(file.clone());
        report([10, 0, 0, 0], 3).tell(&layout, "switchover").unwrap();
        report([20, 0, 0, 0], 4).tell(&layout, "kill-leader").unwrap();
        let table = std::fs::read_to_string(file).unwrap();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[0].starts_with("| what | acknowledged | longest gap (s) |"), "{table}");
        assert_eq!(lines[2], "| switchover | 10 | 3.0 | 2 57P01 | 0 | 0 | 0 |");
    }
}
