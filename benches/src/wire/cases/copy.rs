//! Copy: much data in one direction over one session, to a client that reads and discards it, or from one that only writes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::usage::{self, CpuTime};
use crate::wire::environment::Environment;
use crate::wire::protocol::{READY, message, query, query_blocking, startup};
use crate::wire::results::Figures;
use crate::wire::setups::{RunningSetup, Setup};

/// For one read or write of the client.
const STEP: Duration = Duration::from_secs(30);
const CHUNK: usize = 256 * 1024;
/// A row of pgbench's accounts as text, with its message's header, in bytes.
const ACCOUNT: usize = 102;
const ACCOUNTS_PER_SCALE: usize = 100_000;
/// A row of 8 kB, as wide as a page of PostgreSQL.
const WIDE: usize = 8000;
/// What drivers put into one CopyData message.
const MESSAGE: usize = 8192;
/// Messages in one write.
const MESSAGES: usize = 8;

/// The direction, and the size of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From the server, in rows of 100 bytes, each in a message of its own.
    Out,
    /// From the server, in rows of 8 kB.
    OutWide,
    /// To the server, in rows of 100 bytes, which it reads but does not store.
    In,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Out, Self::OutWide, Self::In];

    /// Its name in the results.
    pub(super) fn name(self) -> &'static str {
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

/// Megabytes per second, and the processor time of a gigabyte.
pub(super) fn measure(environment: &Environment, setup: &Setup, kind: Kind) -> Result<Figures> {
    let mut running = environment.start_setup(setup, 10)?;
    let bytes = environment.sizes.copy_megabytes * 1_000_000;
    let statement = query(&kind.statement(bytes, environment.sizes.scale));
    let cpu_of = |running: &RunningSetup| running.id().map(usage::cpu).transpose();
    let (copied, elapsed, cpu, (machine, busy)) = environment.sandbox.hosts.client.run(|| {
        let mut client = TcpStream::connect(running.address).context("connecting")?;
        client.set_nodelay(true)?;
        client.set_read_timeout(Some(STEP))?;
        client.set_write_timeout(Some(STEP))?;
        query_blocking(&mut client, &startup())?;
        let (before, machine, began) = (cpu_of(&running)?, CpuTime::now()?, Instant::now());
        let copied = match kind {
            Kind::Out | Kind::OutWide => receive(&mut client, &statement)?,
            Kind::In => send(&mut client, &statement, bytes)?,
        };
        let elapsed = began.elapsed().as_secs_f64();
        let cpu = before.zip(cpu_of(&running)?).map(|(before, after)| after.saturating_sub(before));
        Ok((copied, elapsed, cpu, CpuTime::now()?.since(&machine)))
    })?;
    running.check_running()?;
    ensure!(copied >= bytes / 10 * 9, "{copied} bytes were copied instead of {bytes}");
    let gigabytes = copied as f64 / 1e9;
    let mut figures = vec![
        ("mb_per_second", gigabytes * 1000.0 / elapsed),
        ("machine_s_per_gb", machine.as_secs_f64() / gigabytes),
        ("busy_share", busy),
    ];
    figures.extend(cpu.map(|cpu| ("cpu_s_per_gb", cpu.as_secs_f64() / gigabytes)));
    Ok(figures)
}

/// Reads to the end of the COPY. Returns the number of bytes.
fn receive(client: &mut TcpStream, statement: &[u8]) -> Result<usize> {
    client.write_all(statement).context("sending the statement")?;
    let mut chunk = vec![0; CHUNK];
    let mut end: Vec<u8> = Vec::new();
    let mut received = 0;
    loop {
        let read = client.read(&mut chunk).context("reading the COPY")?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() || (received == 0 && bytes.first() == Some(&b'E')) {
            bail!("the COPY failed: {}", String::from_utf8_lossy(bytes).replace('\0', " "));
        }
        received += read;
        // No row contains these bytes, so at the end of what was read they mean that the server is done.
        end.extend(&bytes[read.saturating_sub(READY.len())..]);
        end.drain(..end.len().saturating_sub(READY.len()));
        if end == READY {
            return Ok(received);
        }
    }
}

/// Sends at least so many bytes, and waits until the server has read them. Returns the number of bytes.
fn send(client: &mut TcpStream, statement: &[u8], bytes: usize) -> Result<usize> {
    client.write_all(statement).context("sending the statement")?;
    let mut answer = [0; 64];
    let read = client.read(&mut answer).context("reading the answer")?;
    ensure!(
        read > 0 && answer.first() == Some(&b'G'),
        "no COPY: {}",
        String::from_utf8_lossy(&answer).replace('\0', " ")
    );
    let row = format!("{}\n", "x".repeat(99));
    let data = message(b'd', row.repeat(MESSAGE / row.len()).as_bytes()).repeat(MESSAGES);
    let mut sent = 0;
    while sent < bytes {
        client.write_all(&data).context("writing the COPY")?;
        sent += data.len();
    }
    query_blocking(client, &message(b'c', b"")).context("ending the COPY")?;
    Ok(sent)
}
