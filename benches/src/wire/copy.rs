//! Copy: much data in one direction over one session, read and thrown away by a client that does nothing else.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::contenders::{Contender, Running};
use super::meter::{self, Machine};
use super::protocol::{READY, ask_blocking, message, query, startup};
use super::stage::Stage;

/// A read or a write of the client.
const STEP: Duration = Duration::from_secs(30);
const CHUNK: usize = 256 * 1024;
/// What one row of pgbench's accounts takes as text, with its message's header.
const ACCOUNT: usize = 102;
const ACCOUNTS_PER_SCALE: usize = 100_000;
/// A row in eight kilobytes, as wide as a page of PostgreSQL.
const WIDE: usize = 8000;
/// What drivers put into one message on the way in.
const MESSAGE: usize = 8192;
const MESSAGES: usize = 8;

/// Which direction, and in what portions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out, in rows of 100 bytes, each in a message of its own.
    Out,
    /// Out, in rows of 8 kB.
    OutWide,
    /// In, in rows of 100 bytes, which the server reads but does not store.
    In,
}

impl Way {
    /// All.
    pub const ALL: [Self; 3] = [Self::Out, Self::OutWide, Self::In];

    /// Its name in the results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "out, rows of 100 B",
            Self::OutWide => "out, rows of 8 kB",
            Self::In => "in, rows of 100 B",
        }
    }

    fn statement(self, bytes: usize, scale: u32) -> String {
        match self {
            Self::Out => {
                let table = ACCOUNT * ACCOUNTS_PER_SCALE * scale as usize;
                let times = bytes.div_ceil(table);
                format!("copy (select a.* from generate_series(1, {times}), pgbench_accounts a) to stdout")
            }
            Self::OutWide => {
                let rows = bytes.div_ceil(WIDE);
                format!("copy (select repeat('x', {WIDE}) from generate_series(1, {rows})) to stdout")
            }
            Self::In => "copy sink from stdin where line is null".to_owned(),
        }
    }
}

/// Megabytes per second, and what contender and machine spend on a gigabyte.
///
/// # Errors
/// When the contender or the server fails.
pub fn measure(stage: &Stage, contender: &Contender, way: Way) -> Result<Vec<(&'static str, f64)>> {
    let mut running = stage.start(contender, 10)?;
    let bytes = stage.sizes.copy_megabytes * 1_000_000;
    let statement = query(&way.statement(bytes, stage.sizes.scale));
    let spent = |running: &Running| running.id().map(meter::cpu).transpose();
    let (moved, elapsed, cpu, (machine, busy)) = stage.workshop.hosts.client.within(|| {
        let mut client = TcpStream::connect(running.address).context("connecting")?;
        client.set_nodelay(true)?;
        client.set_read_timeout(Some(STEP))?;
        client.set_write_timeout(Some(STEP))?;
        ask_blocking(&mut client, &startup())?;
        let (before, machine, began) = (spent(&running)?, Machine::now()?, Instant::now());
        let moved = match way {
            Way::Out | Way::OutWide => take(&mut client, &statement)?,
            Way::In => give(&mut client, &statement, bytes)?,
        };
        let elapsed = began.elapsed().as_secs_f64();
        let cpu = before.zip(spent(&running)?).map(|(before, after)| after.saturating_sub(before));
        Ok((moved, elapsed, cpu, machine.since()?))
    })?;
    running.check_running()?;
    ensure!(moved >= bytes / 10 * 9, "{moved} bytes were copied instead of {bytes}");
    let gigabytes = moved as f64 / 1e9;
    let mut figures = vec![
        ("mb_per_second", gigabytes * 1000.0 / elapsed),
        ("machine_s_per_gb", machine.as_secs_f64() / gigabytes),
        ("busy_share", busy),
    ];
    figures.extend(cpu.map(|cpu| ("cpu_s_per_gb", cpu.as_secs_f64() / gigabytes)));
    Ok(figures)
}

/// Reads to the end of the copy. Returns how many bytes came.
fn take(client: &mut TcpStream, statement: &[u8]) -> Result<usize> {
    client.write_all(statement).context("sending the statement")?;
    let mut chunk = vec![0; CHUNK];
    let mut end: Vec<u8> = Vec::new();
    let mut taken = 0;
    loop {
        let read = client.read(&mut chunk).context("reading the copy")?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() || (taken == 0 && bytes.first() == Some(&b'E')) {
            bail!("the copy ended: {}", String::from_utf8_lossy(bytes).replace('\0', " "));
        }
        taken += read;
        // Neither row holds these bytes, so where they stand last, the server is done.
        end.extend(&bytes[read.saturating_sub(READY.len())..]);
        end.drain(..end.len().saturating_sub(READY.len()));
        if end == READY {
            return Ok(taken);
        }
    }
}

/// Sends so many bytes, and waits until the server has read them. Returns how many went.
fn give(client: &mut TcpStream, statement: &[u8], bytes: usize) -> Result<usize> {
    client.write_all(statement).context("sending the statement")?;
    let mut answer = [0; 64];
    let read = client.read(&mut answer).context("reading the answer")?;
    ensure!(
        read > 0 && answer.first() == Some(&b'G'),
        "no copy: {}",
        String::from_utf8_lossy(&answer).replace('\0', " ")
    );
    let row = format!("{}\n", "x".repeat(99));
    let data = message(b'd', row.repeat(MESSAGE / row.len()).as_bytes()).repeat(MESSAGES);
    let mut given = 0;
    while given < bytes {
        client.write_all(&data).context("writing the copy")?;
        given += data.len();
    }
    ask_blocking(client, &message(b'c', b"")).context("ending the copy")?;
    Ok(given)
}
