//! When a server left recovery, asked directly and all the time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::Session;

/// Between an answer and the next question. The runtime's clock rounds it up to between one and two milliseconds.
const PAUSE: Duration = Duration::from_millis(1);

/// The moment lies between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftRecovery {
    /// When the last question was asked that was answered "in recovery".
    pub not_before: Instant,
    /// When the first answer "not in recovery" was there. Times count from here.
    pub seen: Instant,
}

/// Asks over one kept-open session until the server is out of recovery.
///
/// # Errors
/// When the session breaks, or that has not happened within the time.
pub async fn left_recovery(session: Session, within: Duration) -> Result<LeftRecovery> {
    let ask = session.prepare("select pg_is_in_recovery()").await.context("preparing the question")?;
    let deadline = Instant::now() + within;
    let mut not_before = Instant::now();
    loop {
        let asked = Instant::now();
        ensure!(asked < deadline, "the candidate has not left recovery within {within:?}");
        let row =
            session.query_one(&ask, &[]).await.context("asking the candidate whether it is in recovery")?;
        if !row.get::<_, bool>(0) {
            return Ok(LeftRecovery { not_before, seen: Instant::now() });
        }
        not_before = asked;
        tokio::time::sleep(PAUSE).await;
    }
}
