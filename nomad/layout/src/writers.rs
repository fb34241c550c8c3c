//! Clients that write all the time through the proxies, and what they noticed: gaps, errors, acknowledged rows that are missing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Config};

use crate::layout::Layout;
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
    login: Config,
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

/// What all of them noticed.
#[derive(Debug)]
pub struct Report {
    /// Acknowledged writes.
    pub acknowledged: usize,
    /// Acknowledged and not there.
    pub lost: usize,
    /// Writes that reached a server in recovery.
    pub read_only: usize,
    /// The longest time without an acknowledgement, of any writer.
    pub longest: Duration,
    lines: Vec<String>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} writes acknowledged, {} lost, {} to a read-only server",
            self.acknowledged, self.lost, self.read_only
        )?;
        for line in &self.lines {
            write!(out, "\n  {line}")?;
        }
        Ok(())
    }
}

impl Report {
    /// What every change must keep: nothing lost, nothing sent to a replica, and no longer gap than this.
    ///
    /// # Errors
    /// When it was not kept.
    pub fn check(&self, longest: Duration) -> Result<()> {
        ensure!(self.acknowledged > 0, "nothing was written at all: {self}");
        ensure!(self.lost == 0, "acknowledged writes are lost: {self}");
        ensure!(self.read_only == 0, "writes reached a server in recovery: {self}");
        ensure!(self.longest <= longest, "the gap is longer than {} s: {self}", longest.as_secs());
        Ok(())
    }
}

impl Writers {
    /// Makes the table and starts one writer for each node: it names that node first and the other one after it.
    ///
    /// # Errors
    /// When the first write does not go through.
    pub fn start(layout: &Layout, port: u16) -> Result<Self> {
        let addresses: Vec<_> = layout.database_addresses().map(|address| (address, port)).collect();
        let login = layout.login("vietmarket", "vietmarket", &addresses)?;
        sql::column(
            &login,
            &format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} (id bigint PRIMARY KEY)"),
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
        Ok(Self { shared, threads, login })
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
    pub fn stop(mut self) -> Result<Report> {
        let noticed = self.end()?;
        let acknowledged = self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = sql::column(&self.login, &format!("SELECT id FROM {TABLE}"))?;
        let found: std::collections::BTreeSet<i64> = found.iter().filter_map(|id| id.parse().ok()).collect();
        sql::column(&self.login, &format!("DROP TABLE {TABLE}"))?;
        Ok(Report {
            acknowledged: acknowledged.len(),
            lost: acknowledged.iter().filter(|id| !found.contains(id)).count(),
            read_only: noticed
                .iter()
                .map(|writer| writer.errors.get(READ_ONLY).copied().unwrap_or_default())
                .sum(),
            longest: noticed.iter().map(|writer| writer.longest).max().unwrap_or_default(),
            lines: noticed
                .iter()
                .map(|writer| {
                    let gap = writer.longest.as_secs_f64();
                    format!(
                        "{}: longest time without an acknowledgement {gap:.2} s, errors {:?}",
                        writer.name, writer.errors
                    )
                })
                .collect(),
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
                    *noticed.errors.entry(kind(&error)).or_default() += 1;
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

/// The SQLSTATE, or that there was no connection.
fn kind(error: &anyhow::Error) -> String {
    let code = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    code.map_or_else(|| "connection".to_owned(), |code| code.code().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(acknowledged: usize, lost: usize, read_only: usize, seconds: u64) -> Result<()> {
        let longest = Duration::from_secs(seconds);
        Report { acknowledged, lost, read_only, longest, lines: Vec::new() }.check(Duration::from_secs(15))
    }

    #[test]
    fn a_report_fails_for_each_promise_that_was_not_kept() {
        report(10, 0, 0, 15).unwrap();
        for (faulty, words) in [
            (report(0, 0, 0, 1), "nothing was written"),
            (report(10, 1, 0, 1), "are lost"),
            (report(10, 0, 1, 1), "in recovery"),
            (report(10, 0, 0, 16), "longer than 15 s"),
        ] {
            let error = faulty.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
