//! TimescaleDB's Apache edition: hypertable without compression.

use crate::server::Server;
use crate::{insert, upsert};

#[test]
fn the_apache_edition_makes_a_hypertable_and_is_not_taken_for_the_other() {
    let server = Server::apache();
    server.file("schema.sql", "community").refuses(&[
        "Apache edition",
        "cannot compress",
        "without \"-oss\"",
    ]);
    assert_eq!(server.sql("SELECT to_regclass('candles') IS NULL"), "t");
    let said = server.file("schema.sql", "apache").tells();
    assert!(said.contains("no compression"), "{said}");
    server.file("schema.sql", "apache").passes();
    server.file("schema.sql", "none").passes();
    server.file("schema-check.sql", "apache").passes();
    server.file("schema-check.sql", "community").refuses(&["compression is off", "there is no policy"]);

    server.sql(&insert("BTC", 1000));
    assert_eq!(server.sql("SELECT count(*) FROM show_chunks('candles')"), "7");
    assert_eq!(server.sql("SELECT ts, c FROM candles_latest"), "1703600000000|1000");
    server.prepared(&upsert("BTC", 1_700_003_600_000, 7)).passes();
    assert_eq!(server.sql("SELECT count(*) FROM candles"), "1000");
    server.sql("ANALYZE candles");
    let plan = server.prepared("EXPLAIN EXECUTE page('BTC', '1h', 9223372036854775807, 500)").passes();
    assert!(plan.contains("Index Scan Backward"), "{plan}");
}

#[test]
fn a_plain_table_with_candles_becomes_a_hypertable() {
    let server = Server::apache();
    server.sql(
        "CREATE TABLE candles (ticker text, tf text, ts bigint, o float8, h float8, l float8, c float8, v float8 DEFAULT 0, \
         source text DEFAULT 'x', updated_at timestamptz DEFAULT now(), PRIMARY KEY (ticker, tf, ts))",
    );
    server.sql(&insert("BTC", 500));
    server.file("schema.sql", "apache").passes();
    assert_eq!(server.sql("SELECT count(*) FROM candles"), "500");
    assert_eq!(server.sql("SELECT c FROM candles_latest"), "500");
    server.file("schema-check.sql", "apache").passes();
}

#[test]
fn chunks_of_another_length_are_changed_for_the_future() {
    let server = Server::apache();
    server.file("schema.sql", "apache").passes();
    server.sql("SELECT set_chunk_time_interval('candles', 86400000::bigint)");
    server.file("schema-check.sql", "apache").refuses(&["86400000 candles_now_ms"]);
    let said = server.file("schema.sql", "apache").tells();
    assert!(said.contains("chunks of 86400000 ms until now"), "{said}");
    server.file("schema-check.sql", "apache").passes();
}

#[test]
fn a_library_that_is_not_loaded_is_told() {
    let server = Server::apache_not_loaded();
    for edition in ["community", "apache", "none"] {
        server
            .file("schema.sql", edition)
            .refuses(&["on this machine and not loaded", "shared_preload_libraries"]);
    }
}

#[test]
fn an_owner_who_may_not_create_the_extension_is_told_who_may() {
    let server = Server::apache();
    server.sql("CREATE ROLE vietmarket LOGIN; GRANT CREATE ON SCHEMA public TO vietmarket");
    server.sql("UPDATE pg_database SET datacl = NULL; REVOKE CREATE ON DATABASE postgres FROM PUBLIC");
    let file = crate::server::database().join("schema.sql").display().to_string();
    let run =
        || server.psql("postgres", &[], &["-v", "require=apache", "-c", "SET ROLE vietmarket", "-f", &file]);
    run().refuses(&["vietmarket may not create it", "roles.sql"]);
    server.sql("CREATE EXTENSION timescaledb");
    run().passes();
}
