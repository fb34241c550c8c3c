//! When a server left recovery, found by polling it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::session::Session;

/// Between an answer and the next query. tokio's timer rounds it up to between one and two milliseconds.
const PAUSE: Duration = Duration::from_millis(1);

/// A server left recovery at some moment between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftRecovery {
    /// When the last query was sent that was answered "in recovery".
    pub not_before: Instant,
    /// When the first answer "not in recovery" arrived.
    pub seen: Instant,
}

/// Polls a server over an open session until it is out of recovery.
///
/// # Errors
/// When the session breaks, or the server is still in recovery after that time.
pub async fn left_recovery(session: Session, within: Duration) -> Result<LeftRecovery> {
    let query = session.prepare("select pg_is_in_recovery()").await.context("preparing the query")?;
    let deadline = Instant::now() + within;
    let mut not_before = Instant::now();
    loop {
        let sent = Instant::now();
        ensure!(sent < deadline, "the server is still in recovery after {within:?}");
        let row =
            session.query_one(&query, &[]).await.context("asking a server whether it is in recovery")?;
        if !row.get::<_, bool>(0) {
            return Ok(LeftRecovery { not_before, seen: Instant::now() });
        }
        not_before = sent;
        tokio::time::sleep(PAUSE).await;
    }
}
