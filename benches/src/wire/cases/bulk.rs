//! Bulk: a session that asks little, beside sessions that never stop moving data, all on one thread of the setup.

use std::cell::Cell;
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::wire::clients;
use crate::wire::environment::{Environment, ServerKind};
use crate::wire::mock_server::{ENDLESS_IN, ENDLESS_OUT, MockServer};
use crate::wire::protocol::{message, query, query_blocking, startup};
use crate::wire::results::Figures;
use crate::wire::setups::{Setup, StartOptions};

/// Endless streams in each direction.
pub(super) const STREAMS: usize = 8;
/// Parts of the measured time whose 99th percentiles are compared.
const PARTS: usize = 6;
/// The session's pause after an answer.
const PAUSE: Duration = Duration::from_millis(5);
/// For all streams to be open, and for one answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes per read, and per write: eight messages.
const CHUNK: usize = 64 * 1024;

/// The session's times, the lowest and the highest 99th percentile of a part of the measured time, and what the streams
/// moved meanwhile.
pub(super) fn measure(environment: &Environment, setup: &Setup) -> Result<Figures> {
    let _mock = MockServer::start(&environment.sandbox, false, Duration::ZERO)?;
    let options = environment.options(ServerKind::Mock, 2 * STREAMS + 1);
    let mut running = setup.start(&environment.sandbox, &StartOptions { one_thread: true, ..options })?;
    let lasting = Duration::from_secs(environment.sizes.bulk_seconds.into());
    let client = &environment.sandbox.hosts.client;
    let address = running.address;
    let (opened, open) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (moved, times) = std::thread::scope(|scope| {
        let streaming =
            scope.spawn(move || client.block_on(|| async { stream(address, opened, stopped).await }));
        // A stream that could not be opened says why when it is joined.
        let times = open.recv_timeout(PATIENCE).ok().map(|()| client.run(|| ask(address, lasting)));
        drop(stop);
        let moved = streaming.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        anyhow::Ok((moved, times.context("the streams are not open")??))
    })?;
    running.check_running()?;
    figures(&times, lasting, moved)
}

fn figures(times: &[(Duration, f64)], lasting: Duration, moved: u64) -> Result<Figures> {
    let part = |number: usize| {
        let from = lasting / PARTS as u32 * number as u32;
        let within = times.iter().filter(move |(at, _)| *at >= from && *at < from + lasting / PARTS as u32);
        percentile(within.map(|(_, us)| *us), 0.99)
    };
    let parts: Vec<f64> = (0..PARTS).filter_map(part).collect();
    ensure!(parts.len() == PARTS, "the session was not answered for a sixth of the time");
    let all = |share| percentile(times.iter().map(|(_, us)| *us), share).context("no answer");
    Ok(vec![
        ("p50_us", all(0.5)?),
        ("p99_us", all(0.99)?),
        ("lowest_p99_us", parts.iter().copied().fold(f64::INFINITY, f64::min)),
        ("highest_p99_us", parts.iter().copied().fold(0.0, f64::max)),
        ("mb_per_second", moved as f64 / 1e6 / lasting.as_secs_f64()),
    ])
}

/// The value that this share of the values does not exceed.
fn percentile(values: impl Iterator<Item = f64>, share: f64) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// Asks again and again. Returns when each query was sent, from the beginning, and how many microseconds its answer took.
fn ask(address: SocketAddr, lasting: Duration) -> Result<Vec<(Duration, f64)>> {
    let mut session = BlockingStream::connect(address).context("connecting")?;
    session.set_nodelay(true)?;
    session.set_read_timeout(Some(PATIENCE))?;
    query_blocking(&mut session, &startup()).context("logging in")?;
    let select = query("select 1");
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < lasting {
        let sent = Instant::now();
        query_blocking(&mut session, &select).context("a query beside the streams")?;
        times.push((sent.duration_since(began), sent.elapsed().as_secs_f64() * 1e6));
        std::thread::sleep(PAUSE);
    }
    Ok(times)
}

/// Keeps the streams going until it is told to stop. Returns the number of bytes that they moved.
async fn stream(
    address: SocketAddr,
    opened: mpsc::Sender<()>,
    stopped: oneshot::Receiver<()>,
) -> Result<u64> {
    let moved = Rc::new(Cell::new(0));
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn_local(receive(open(address, ENDLESS_OUT).await?, Rc::clone(&moved)));
        streams.spawn_local(send(open(address, ENDLESS_IN).await?, Rc::clone(&moved)));
    }
    opened.send(()).context("the measurement has ended")?;
    moved.set(0);
    tokio::select! {
        _ = stopped => Ok(moved.get()),
        Some(ended) = streams.join_next() => bail!("a stream ended: {:?}", ended.context("it panicked")?),
    }
}

async fn open(address: SocketAddr, statement: &str) -> Result<TcpStream> {
    let mut client = clients::connect(address).await?;
    clients::log_in(&mut client).await?;
    client.write_all(&query(statement)).await.context("starting a stream")?;
    Ok(client)
}

async fn receive(mut client: TcpStream, moved: Rc<Cell<u64>>) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match client.read(&mut chunk).await? {
            0 => return Ok(()),
            read => moved.set(moved.get() + read as u64),
        }
    }
}

async fn send(mut client: TcpStream, moved: Rc<Cell<u64>>) -> std::io::Result<()> {
    let data = message(b'd', &[b'x'; CHUNK / 8 - 5]).repeat(8);
    loop {
        client.write_all(&data).await?;
        moved.set(moved.get() + data.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_that_so_many_do_not_exceed() {
        let values = || (1..=200).map(f64::from);
        assert_eq!(percentile(values(), 0.99), Some(198.0));
        assert_eq!(percentile(values(), 0.5), Some(100.0));
        assert_eq!(percentile([7.0].into_iter(), 0.99), Some(7.0));
        assert_eq!(percentile([].into_iter(), 0.99), None);
    }

    #[test]
    fn parts_without_a_slow_answer_show_beside_the_one_that_has_it() {
        let second = Duration::from_secs(1);
        let mut times: Vec<(Duration, f64)> = (0..600).map(|n| (second / 100 * n, 100.0)).collect();
        (250..260).for_each(|slow| times[slow].1 = 900.0);
        let figures = figures(&times, second * 6, 12_000_000).unwrap();
        let figure = |name| figures.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!((figure("lowest_p99_us"), figure("highest_p99_us")), (100.0, 900.0));
        assert_eq!((figure("p50_us"), figure("p99_us"), figure("mb_per_second")), (100.0, 900.0, 2.0));
        assert!(super::figures(&times[..300], second * 6, 0).is_err(), "half of the time is missing");
    }
}
