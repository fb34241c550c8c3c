//! The crowd: clients by the thousand that speak just enough PostgreSQL to be sessions.

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

use super::protocol::{ask, query, startup};

/// So many log in at once, where nothing is said about that.
const CONNECTING: usize = 64;
/// All of them to be there.
pub const OPEN: Duration = Duration::from_secs(120);

/// Opens so many sessions, each with a query behind it, so that also a pooler has given it a server.
///
/// # Errors
/// When one cannot be opened, or all of them not in time.
pub async fn open(address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
    let permits = Rc::new(Semaphore::new(CONNECTING));
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let permits = Rc::clone(&permits);
        opening.spawn_local(async move {
            let _permit = permits.acquire().await.context("nobody closes it")?;
            let mut client = connect(address).await?;
            serve(&mut client).await?;
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
        .with_context(|| format!("not all of {count} sessions open after {OPEN:?}"))??;
    Ok(open)
}

/// Connects, and will leave nothing behind: of ten thousand connections in a row each would hold a port for a minute.
///
/// # Errors
/// The kernel's.
pub async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let client = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    client.set_nodelay(true)?;
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    Ok(client)
}

/// Logs in and has one query answered.
///
/// # Errors
/// The server's.
pub async fn serve(client: &mut TcpStream) -> Result<()> {
    ask(client, &startup()).await.context("logging in")?;
    ask(client, &query("select 1")).await.context("the first query")
}

/// When sessions ended, by the order of their ends.
#[derive(Debug)]
pub struct Ends(JoinSet<Instant>);

impl Ends {
    /// Watches sessions that send nothing any more.
    #[must_use]
    pub fn of(clients: Vec<TcpStream>) -> Self {
        let mut ends = JoinSet::new();
        for mut client in clients {
            ends.spawn_local(async move {
                let mut words = [0; 256];
                while client.read(&mut words).await.is_ok_and(|read| read > 0) {}
                Instant::now()
            });
        }
        Self(ends)
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// When some have not in time.
    pub async fn all(mut self, within: Duration) -> Result<Vec<Instant>> {
        let mut ended = Vec::new();
        let waiting = async {
            while let Some(end) = self.0.join_next().await {
                ended.extend(end);
            }
        };
        let waited = timeout(within, waiting).await;
        ensure!(waited.is_ok(), "{} sessions are still open after {within:?}", self.0.len());
        ended.sort_unstable();
        Ok(ended)
    }
}
