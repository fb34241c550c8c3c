//! Plain PostgreSQL: a plain table, only when it was said to do, and everything that does not depend on TimescaleDB.

use crate::server::Server;
use crate::{insert, upsert};

#[test]
fn plain_is_accepted_only_when_asked_for() {
    let server = Server::plain();
    for edition in ["community", "apache"] {
        server
            .file("schema.sql", edition)
            .refuses(&["there is no TimescaleDB", &format!("require={edition}")]);
        assert_eq!(
            server.sql("SELECT to_regclass('candles') IS NULL"),
            "t",
            "a refused run has made a table"
        );
    }
    for word in ["", "some"] {
        server.file("schema.sql", word).refuses(&["-v require=community, apache or none"]);
        server.file("schema-check.sql", word).refuses(&["-v require=community, apache or none"]);
    }
    server.file("schema-check.sql", "none").refuses(&["run schema.sql"]);
    let said = server.file("schema.sql", "none").tells();
    assert_eq!(said.matches("WARNING").count(), 1, "{said}");
    server.file("schema.sql", "none").passes();
    assert!(server.file("schema-check.sql", "none").passes().contains("as it should be"));
    assert_eq!(server.sql("SELECT count(*) FROM candles"), "0", "the check has left its candles");
}

#[test]
fn another_table_of_the_name_is_left_alone() {
    let server = Server::plain();
    for (table, words) in [
        (
            "ticker text, tf text, ts timestamptz, PRIMARY KEY (ticker, tf, ts)",
            "its column ts is timestamp with time zone",
        ),
        ("ticker text, tf text, ts integer, PRIMARY KEY (ticker, tf, ts)", "its column ts is integer"),
        ("ticker text, tf text, time bigint, PRIMARY KEY (ticker, tf, time)", "its column ts is missing"),
        ("ticker text, tf text, ts bigint, PRIMARY KEY (ticker, ts)", "its primary key is (ticker, ts)"),
        ("ticker text, tf text, ts bigint", "its primary key is (none)"),
        (
            "ticker text, tf text, ts bigint, open float8, PRIMARY KEY (ticker, tf, ts)",
            "has no column o, h, l, c",
        ),
    ] {
        server.sql(&format!("CREATE TABLE candles ({table})"));
        server.file("schema.sql", "none").refuses(&[words]);
        assert_eq!(server.sql("SELECT to_regclass('candles_latest') IS NULL"), "t");
        assert_eq!(server.sql("SELECT count(*) FROM pg_proc WHERE proname LIKE 'candles%'"), "0");
        server.sql("DROP TABLE candles");
    }
}

#[test]
fn candles_from_before_the_schema_are_kept() {
    let server = Server::plain();
    server.file("schema.sql", "none").passes();
    server.sql("DROP TABLE candles_latest; DROP TRIGGER candles_keep_latest ON candles");
    server.sql(&insert("OLD", 10));
    server.file("schema.sql", "none").passes();
    assert_eq!(server.sql("SELECT ticker, c FROM candles_latest"), "OLD|10");
}

#[test]
fn the_check_names_each_fault() {
    let server = Server::plain();
    server.file("schema.sql", "none").passes();
    for (damage, repair, words) in [
        (
            "ALTER TABLE candles DISABLE TRIGGER candles_keep_latest",
            "ALTER TABLE candles ENABLE TRIGGER candles_keep_latest",
            "trigger candles_keep_latest is missing or disabled",
        ),
        ("ALTER TABLE candles ALTER c TYPE numeric", "ALTER TABLE candles ALTER c TYPE float8", "c numeric"),
        (
            "ALTER TABLE candles DROP CONSTRAINT candles_pkey",
            "ALTER TABLE candles ADD PRIMARY KEY (ticker, tf, ts)",
            "the primary key is none",
        ),
        (
            "CREATE OR REPLACE FUNCTION candles_keep_latest() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "SELECT 1",
            "the newest is <NULL>",
        ),
    ] {
        server.sql(damage);
        server.file("schema-check.sql", "none").refuses(&[words]);
        server.sql(repair);
    }
    server.file("schema.sql", "none").passes();
    server.file("schema-check.sql", "none").passes();
}

#[test]
fn an_upsert_that_is_sent_again_changes_nothing() {
    let server = Server::plain();
    server.file("schema.sql", "none").passes();
    server.prepared(&upsert("BTC", 1_700_000_000_000, 5)).passes();
    let before = server.sql("SELECT * FROM candles");
    server.prepared(&upsert("BTC", 1_700_000_000_000, 5)).passes();
    assert_eq!(server.sql("SELECT * FROM candles"), before);
    server.prepared(&upsert("BTC", 1_700_000_000_000, 6)).passes();
    assert_eq!(server.sql("SELECT count(*), max(c) FROM candles"), "1|6");
    assert_eq!(server.sql("SELECT c FROM candles_latest"), "6");
    // An older candle is kept, and is not the newest.
    server.prepared(&upsert("BTC", 1_600_000_000_000, 1)).passes();
    assert_eq!(server.sql("SELECT ts, c FROM candles_latest"), "1700000000000|6");
    let twice = "EXECUTE upsert('{A,A}','{1h,1h}','{5,5}','{1,1}','{1,1}','{1,1}','{1,1}','{0,0}','{t,t}')";
    server.prepared(twice).refuses(&["cannot affect row a second time"]);
}

#[test]
fn pages_neither_shift_nor_repeat_and_read_the_key_backwards() {
    let server = Server::plain();
    server.file("schema.sql", "none").passes();
    server.sql(&insert("BTC", 2000));
    server.sql(&insert("ETH", 2000));
    server.sql("ANALYZE candles");
    let (mut before, mut seen) = (i64::MAX, Vec::new());
    loop {
        let page = server.prepared(&format!("EXECUTE page('BTC', '1h', {before}, 300)")).passes();
        let times: Vec<i64> =
            page.lines().map(|line| line.split('|').next().unwrap().parse().unwrap()).collect();
        let Some(&last) = times.last() else { break };
        before = last;
        seen.extend(times);
        // A newer candle arrives between two pages.
        server.prepared(&upsert("BTC", 1_800_000_000_000 + seen.len() as i64, 1)).passes();
    }
    assert_eq!(seen.len(), 2000);
    assert!(seen.is_sorted_by(|newer, older| newer > older), "a page is not newest first");
    let plan = server.prepared("EXPLAIN EXECUTE page('BTC', '1h', 9223372036854775807, 500)").passes();
    assert!(plan.contains("Index Scan Backward using candles_pkey"), "{plan}");
    let latest = server.prepared("EXECUTE latest('1h')").passes();
    assert!(latest.lines().nth(1).unwrap().starts_with("ETH|1707200000000|2000"), "{latest}");
}

#[test]
fn the_newest_candles_are_made_anew_as_the_schema_says() {
    let server = Server::plain();
    server.file("schema.sql", "none").passes();
    server.sql(&insert("BTC", 10));
    server.sql("DELETE FROM candles WHERE c > 5");
    assert_eq!(server.sql("SELECT c FROM candles_latest"), "10");
    let text = std::fs::read_to_string(crate::server::database().join("schema.sql")).unwrap();
    let rebuild: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("--   "))
        .filter(|line| line.contains("candles_latest"))
        .collect();
    assert_eq!(rebuild.len(), 2, "{rebuild:?}");
    server.sql(&rebuild.join("\n"));
    assert_eq!(server.sql("SELECT c FROM candles_latest"), "5");
}
