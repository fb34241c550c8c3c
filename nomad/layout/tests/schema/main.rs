//! The schema, the roles and the clients' statements, on real servers of every edition (root, after `nomad/tests/install`).
#![allow(clippy::unwrap_used, missing_docs)]

mod apache;
mod community;
mod history_api;
mod plain;
mod roles;
mod server;

/// Candles of one ticker, an hour apart, by `generate_series`.
pub(crate) fn insert(ticker: &str, count: u32) -> String {
    format!(
        "INSERT INTO candles (ticker, tf, ts, o, h, l, c) \
         SELECT '{ticker}', '1h', 1700000000000 + i * 3600000::bigint, i, i, i, i FROM generate_series(1, {count}) AS i"
    )
}

/// One candle as the statement `upsert` takes it.
pub(crate) fn upsert(ticker: &str, ts: i64, close: u32) -> String {
    format!(
        "EXECUTE upsert('{{{ticker}}}', '{{1h}}', '{{{ts}}}', '{{1}}', '{{9}}', '{{1}}', '{{{close}}}', '{{0}}', '{{test}}')"
    )
}
