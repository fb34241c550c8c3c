//! One function for each behaviour. Each opens its own sessions and returns the detail for its line.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, future};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client};

use super::connect::{Session, Target};

pub(crate) async fn tls_disable(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    ensure!(!encrypted(&session.client).await?, "the server says this session uses TLS");
    session.close().await?;
    Ok(String::new())
}

pub(crate) async fn tls_require(target: &Target) -> Result<String> {
    let session = target.require().await?;
    ensure!(encrypted(&session.client).await?, "the server says this session uses no TLS");
    session.close().await?;
    Ok(String::new())
}

pub(crate) async fn tls_verify_full(target: &Target) -> Result<String> {
    let session = target.verify_full().await?;
    ensure!(encrypted(&session.client).await?, "the server says this session uses no TLS");
    session.close().await?;
    Ok(String::new())
}

pub(crate) async fn tls_wrong_ca_refused(target: &Target) -> Result<String> {
    let Err(error) = target.verify_with_other_ca().await else {
        bail!("connected, though the CA signed nothing");
    };
    let text = format!("{error:#}");
    ensure!(text.contains("certificate"), "refused for another reason: {text}");
    Ok(String::new())
}

pub(crate) async fn channel_binding(target: &Target) -> Result<String> {
    let session = target.channel_bound().await?;
    ensure!(encrypted(&session.client).await?, "the server says this session uses no TLS");
    session.close().await?;
    Ok(String::new())
}

pub(crate) async fn wrong_password_refused(target: &Target) -> Result<String> {
    let Err(error) = target.plain_as(|config| _ = config.password("wrong")).await else {
        bail!("connected with a wrong password");
    };
    ensure!(code(&error) == Some(&SqlState::INVALID_PASSWORD), "another error: {error:#}");
    Ok(String::new())
}

pub(crate) async fn prepared(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    let statement = session.client.prepare("SELECT $1::int * 2, $2::text || '!'").await?;
    for number in 1..=100 {
        let row = session.client.query_one(&statement, &[&number, &format!("n{number}")]).await?;
        ensure!(row.get::<_, i32>(0) == number * 2 && row.get::<_, String>(1) == format!("n{number}!"));
    }
    session.close().await?;
    Ok("100 executions".into())
}

pub(crate) async fn large_parameter(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    let value: Vec<u8> = (0..LARGE_PARAMETER).map(|index| (index * 31 % 251).to_le_bytes()[0]).collect();
    let row = session.client.query_one("SELECT $1::bytea, length($1::bytea)", &[&value]).await?;
    ensure!(row.get::<_, &[u8]>(0) == value, "the value came back changed");
    session.close().await?;
    Ok(format!("{LARGE_PARAMETER} bytes there and back"))
}

pub(crate) async fn copy_in(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    session.client.batch_execute("CREATE TEMP TABLE copied (id int, words text)").await?;
    let mut sink = pin!(session.client.copy_in::<_, Bytes>("COPY copied FROM STDIN").await?);
    for id in 0..COPIED {
        sink.send(format!("{id}\tline {id}\n").into()).await?;
    }
    let rows = sink.finish().await?;
    let row = session.client.query_one("SELECT count(*), sum(id)::bigint FROM copied", &[]).await?;
    let (count, sum) = (row.get::<_, i64>(0), row.get::<_, i64>(1));
    let wanted = i64::from(COPIED);
    ensure!(
        rows == u64::from(COPIED) && count == wanted && sum == wanted * (wanted - 1) / 2,
        "{rows} {count} {sum}"
    );
    session.close().await?;
    Ok(format!("{COPIED} rows"))
}

pub(crate) async fn copy_out(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    let sql = format!("COPY (SELECT i, 'line ' || i FROM generate_series(0, {COPIED} - 1) i) TO STDOUT");
    let stream = session.client.copy_out(&sql).await?;
    let chunks: Vec<Bytes> = stream.try_collect().await?;
    let wanted: String = (0..COPIED).map(|id| format!("{id}\tline {id}\n")).collect();
    ensure!(chunks.concat() == wanted.as_bytes(), "the rows were changed");
    session.close().await?;
    Ok(format!("{COPIED} rows"))
}

pub(crate) async fn listen_notify(target: &Target) -> Result<String> {
    let (client, mut connection) = target.plain_raw().await?;
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let messages = tokio::spawn(async move {
        while let Some(Ok(message)) = future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(note) = message {
                sender.send(note.payload().to_owned())?;
            }
        }
        anyhow::Ok(())
    });
    client.batch_execute("LISTEN news").await?;
    let other = target.plain().await?;
    let long = "x".repeat(7999);
    other.client.execute("SELECT pg_notify('news', $1), pg_notify('news', $2)", &[&"first", &long]).await?;
    // The listening session sends no query, so the server must push both.
    let got = [receiver.recv().await, receiver.recv().await];
    ensure!(got == [Some("first".into()), Some(long)], "other payloads: {got:?}");
    drop(client);
    messages.await??;
    other.close().await?;
    Ok("2 payloads, one of them the longest possible".into())
}

pub(crate) async fn cancel(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    let token = session.client.cancel_token();
    cancelled(target, session, async move { token.cancel_query(tokio_postgres::NoTls).await }).await
}

pub(crate) async fn cancel_tls(target: &Target) -> Result<String> {
    let session = target.verify_full().await?;
    let token = session.client.cancel_token();
    let connector = target.connector();
    cancelled(target, session, async move { token.cancel_query(connector).await }).await
}

pub(crate) async fn pipeline(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    let client = &session.client;
    let statement = &client.prepare("SELECT $1::int").await?;
    // Futures that are polled together are sent together, before the first answer.
    let rows = future::try_join_all((0..PIPELINED).map(|number| async move {
        client.query_one(statement, &[&number]).await.map(|row| row.get::<_, i32>(0))
    }));
    let (rows, failed) = future::join(rows, client.query("SELECT 1/0", &[])).await;
    ensure!(rows? == (0..PIPELINED).collect::<Vec<_>>(), "answers in another order");
    let failed = failed.err().and_then(|error| error.code().cloned());
    ensure!(failed == Some(SqlState::DIVISION_BY_ZERO), "the failing one gave {failed:?}");
    session.close().await?;
    Ok(format!("{PIPELINED} queries at once, and one that fails"))
}

pub(crate) async fn large_result(target: &Target, bytes: u64) -> Result<String> {
    let session = target.plain().await?;
    let started = Instant::now();
    let rows = i64::try_from(bytes / ROW)?;
    let sql = format!("SELECT i, repeat(md5(i::text), {}) FROM generate_series(1, $1::bigint) i", ROW / 32);
    let stream = session.client.query_raw(&sql, [rows]).await?;
    let mut stream = pin!(stream);
    let mut wanted = 0;
    while let Some(row) = stream.next().await {
        let row = row?;
        wanted += 1;
        let (index, text) = (row.get::<_, i64>(0), row.get::<_, &str>(1));
        // A text of repeated 32-byte pieces equals itself shifted by 32 bytes.
        let (head, tail) = (&text[..32], &text[32..]);
        let whole = u64::try_from(text.len())? == ROW && *tail == text[..tail.len()];
        ensure!(index == wanted && whole, "row {wanted} was changed: {index}, {head}");
    }
    ensure!(wanted == rows, "{wanted} rows of {rows}");
    session.close().await?;
    let peak = peak_memory_kib()?;
    ensure!(peak < PEAK_KIB, "this client needed {peak} KiB");
    Ok(format!("{bytes} bytes in {} ms, peak memory {peak} KiB", started.elapsed().as_millis()))
}

pub(crate) async fn error_keeps_session(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    let before = backend(&session.client).await?;
    let error = session.client.batch_execute("SELECT * FROM nowhere").await.err().context("no error")?;
    ensure!(error.code() == Some(&SqlState::UNDEFINED_TABLE), "another error: {error}");
    ensure!(backend(&session.client).await? == before, "another backend answers");
    session.close().await?;
    Ok(String::new())
}

pub(crate) async fn clean_close(target: &Target) -> Result<String> {
    let session = target.plain().await?;
    let process = backend(&session.client).await?;
    session.close().await?;
    let other = target.plain().await?;
    let started = Instant::now();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
    while other.client.query_one(sql, &[&process]).await?.get::<_, i64>(0) > 0 {
        ensure!(started.elapsed() < PROMPT, "the backend is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other.close().await?;
    Ok(String::new())
}

/// Starts a long query, cancels it when the server runs it, and uses the session again.
async fn cancelled(
    target: &Target,
    session: Session,
    cancel: impl Future<Output = Result<(), tokio_postgres::Error>>,
) -> Result<String> {
    let process = backend(&session.client).await?;
    let sleep = session.client.batch_execute("SELECT pg_sleep(60)");
    let after_start = async {
        let watcher = target.plain().await?;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
        while watcher.client.query_one(sql, &[&process]).await?.get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        watcher.close().await?;
        let started = Instant::now();
        cancel.await?;
        anyhow::Ok(started)
    };
    let (slept, started) = future::join(sleep, after_start).await;
    let took = started?.elapsed();
    let error = slept.err().context("the query was not cancelled")?;
    ensure!(error.code() == Some(&SqlState::QUERY_CANCELED), "another error: {error}");
    ensure!(took < PROMPT, "only after {took:?}");
    ensure!(backend(&session.client).await? == process, "another backend answers");
    session.close().await?;
    Ok(format!("after {} ms", took.as_millis()))
}

async fn backend(client: &Client) -> Result<i32> {
    Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
}

async fn encrypted(client: &Client) -> Result<bool> {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

fn code(error: &anyhow::Error) -> Option<&SqlState> {
    error.chain().find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>()?.code())
}

/// The most memory that this process ever had.
fn peak_memory_kib() -> Result<u64> {
    procfs::process::Process::myself()?.status()?.vmhwm.context("the kernel does not say its peak memory")
}

const COPIED: u32 = 100_000;
const PIPELINED: i32 = 500;
/// Larger than every buffer on the way.
const LARGE_PARAMETER: u32 = 16 << 20;
const ROW: u64 = 1 << 20;
/// A client that streams keeps a few rows and one large parameter in memory, not the result.
const PEAK_KIB: u64 = 200 << 10;
/// For what happens at once, on a machine busy with other tests.
const PROMPT: Duration = Duration::from_secs(5);
