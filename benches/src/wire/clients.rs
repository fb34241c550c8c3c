//! Clients by the thousand, with just enough of PostgreSQL's protocol to have sessions.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::protocol::{query, query_async, startup};

/// Logins at the same time.
const CONCURRENT_LOGINS: usize = 64;
/// For all sessions to be open.
const OPEN: Duration = Duration::from_secs(120);

/// Opens sessions. Each has had a query, so that a pooler has given it a server.
pub(crate) async fn open(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let permits = Rc::new(Semaphore::new(CONCURRENT_LOGINS));
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let permits = Rc::clone(&permits);
        opening.spawn_local(async move {
            let _permit = permits.acquire().await.context("the semaphore is never closed")?;
            let mut client = connect(address).await?;
            log_in(&mut client).await?;
            anyhow::Ok(client)
        });
    }
    let mut open = Vec::with_capacity(count);
    let all = async {
        while let Some(client) = opening.join_next().await {
            open.push(client.context("a client panicked")??);
        }
        anyhow::Ok(())
    };
    timeout(OPEN, all)
        .await
        .with_context(|| format!("not all {count} sessions are open after {OPEN:?}"))??;
    Ok(open)
}

/// Connects. Closing resets the connection, because after ten thousand ordinary closes each would hold a port for a minute.
pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let client = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    client.set_nodelay(true)?;
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    Ok(client)
}

/// Logs in and runs one query.
pub(crate) async fn log_in(client: &mut TcpStream) -> Result<()> {
    query_async(client, &startup()).await.context("logging in")?;
    query_async(client, &query("select 1")).await.context("the first query")
}

/// The ends of sessions that send nothing any more.
#[derive(Debug)]
pub(crate) struct Ends(JoinSet<Instant>);

impl Ends {
    /// Begins to wait for the end of each session.
    pub(crate) fn of(clients: Vec<TcpStream>) -> Self {
        let mut ends = JoinSet::new();
        for mut client in clients {
            ends.spawn_local(async move {
                let mut bytes = [0; 256];
                while client.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                Instant::now()
            });
        }
        Self(ends)
    }

    /// When each session ended, in order.
    pub(crate) async fn all(mut self, within: Duration) -> Result<Vec<Instant>> {
        let mut ends = Vec::new();
        let all = async {
            while let Some(end) = self.0.join_next().await {
                ends.extend(end);
            }
        };
        let ended = timeout(within, all).await;
        ensure!(ended.is_ok(), "{} sessions are still open after {within:?}", self.0.len());
        ends.sort_unstable();
        Ok(ends)
    }
}
