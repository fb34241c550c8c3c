//! One reader of the History API: its health, and pages from the newest candle of a series back to its first.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{FIRST, FRAME, SERIES, STEP, Shared, series};
use crate::http;

const INTERVAL: Duration = Duration::from_millis(100);
const PAGE: usize = 1000;
/// So many are told.
const MOST_FAULTS: usize = 5;

/// Where the API is.
pub(super) struct Api {
    pub(super) url: String,
    pub(super) key: String,
}

/// What the reader saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The longest time from one `ok` to the next with a `db_unreachable` between them.
    pub(super) unreachable: Duration,
    /// How often it was unreachable.
    times: usize,
    /// Pages with a gap or a double.
    pub(super) faults: Vec<String>,
    /// Series that were read from the newest candle to the first.
    pub(super) walks: usize,
    pages: usize,
    /// Pages that had to be asked for again.
    again: usize,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "the API said `db_unreachable` {} times, for {:.2} s at most; {} pages in {} whole walks, {} asked for again, gaps and doubles: {}",
            self.times,
            self.unreachable.as_secs_f64(),
            self.pages,
            self.walks,
            self.again,
            self.faults.len()
        )
    }
}

/// A walk from the newest candle of a series to its first.
#[derive(Debug, Default)]
struct Walk {
    number: usize,
    /// The smallest `ts` of the page before.
    before: Option<i64>,
}

/// Reads until it is stopped.
pub(super) fn run(api: &Api, shared: &Shared) -> Result<Seen> {
    let (mut seen, mut walk) = (Seen::default(), Walk::default());
    let mut well = Instant::now();
    let mut unreachable = false;
    while !shared.stopped() {
        if is_well(api) {
            if unreachable {
                seen.times += 1;
                seen.unreachable = seen.unreachable.max(well.elapsed());
            }
            (well, unreachable) = (Instant::now(), false);
        } else {
            unreachable = true;
        }
        match page(api, &walk)? {
            Some(times) => {
                seen.pages += 1;
                step(&mut seen, &mut walk, &times);
            }
            None => seen.again += 1,
        }
        sleep(INTERVAL);
    }
    if unreachable {
        seen.unreachable = seen.unreachable.max(well.elapsed());
    }
    Ok(seen)
}

/// An API that does not answer is not well either.
fn is_well(api: &Api) -> bool {
    http::get(&format!("{}/health", api.url)).is_ok_and(|(status, _)| status == 200)
}

/// The times of one page; `None` when the API could not reach the database, or did not answer in time.
fn page(api: &Api, walk: &Walk) -> Result<Option<Vec<i64>>> {
    let ticker = series(walk.number % 2, walk.number / 2);
    let before = walk.before.map(|ts| format!("&beforeTs={ts}")).unwrap_or_default();
    let url = format!("{}/candles?ticker={ticker}&tf={FRAME}&limit={PAGE}{before}", api.url);
    let Ok((status, body)) = http::get_with(&url, ("x-api-key", &api.key)) else { return Ok(None) };
    if status == 503 {
        return Ok(None);
    }
    anyhow::ensure!(status == 200, "{url}: status {status}, {body}");
    let page: Value = serde_json::from_str(&body).with_context(|| format!("{url}: no JSON"))?;
    let candles = page["candles"].as_array().with_context(|| format!("{url}: no candles"))?;
    Ok(Some(candles.iter().filter_map(|candle| candle["ts"].as_i64()).collect()))
}

/// Within a page and from page to page each candle is one step older than the one before, down to the first.
fn step(seen: &mut Seen, walk: &mut Walk, times: &[i64]) {
    let mut expected = walk.before.map(|ts| ts - STEP);
    for ts in times {
        if expected.is_some_and(|expected| expected != *ts) && seen.faults.len() < MOST_FAULTS {
            seen.faults.push(format!("{ts} where {expected:?} was expected, series {}", walk.number));
        }
        expected = Some(ts - STEP);
    }
    walk.before = times.last().copied().or(walk.before);
    if times.len() < PAGE {
        let ended = walk.before.is_none_or(|ts| ts == FIRST);
        if !ended && seen.faults.len() < MOST_FAULTS {
            seen.faults.push(format!("the last page of series {} ends at {:?}", walk.number, walk.before));
        }
        seen.walks += usize::from(ended && walk.before.is_some());
        *walk = Walk { number: (walk.number + 1) % (2 * SERIES), before: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(from: usize, count: usize) -> Vec<i64> {
        (0..count).map(|n| FIRST + STEP * i64::try_from(from - n).unwrap()).collect()
    }

    #[test]
    fn a_walk_ends_at_the_first_candle() {
        let (mut seen, mut walk) = (Seen::default(), Walk::default());
        step(&mut seen, &mut walk, &times(1499, PAGE));
        step(&mut seen, &mut walk, &times(499, 500));
        assert!(seen.faults.is_empty(), "{seen:?}");
        assert_eq!((seen.walks, walk.number, walk.before), (1, 1, None));
    }

    #[test]
    fn gaps_and_doubles_are_seen_within_a_page_and_between_pages() {
        for (first, second) in [
            (times(1499, PAGE), times(498, 499)),
            (times(1499, PAGE), times(500, 501)),
            ([times(1499, 999), times(501, 1)].concat(), times(500, 501)),
            ([times(1500, 1), times(1498, 999)].concat(), times(499, 500)),
            (times(1499, PAGE), times(499, 400)),
        ] {
            let (mut seen, mut walk) = (Seen::default(), Walk::default());
            step(&mut seen, &mut walk, &first);
            step(&mut seen, &mut walk, &second);
            assert_eq!(seen.faults.len(), 1, "{seen:?}");
        }
    }
}
