//! TimescaleDB's community edition: everything. One server for all of it, since it serves one connection at a time.

use crate::server::Server;
use crate::{insert, upsert};

#[test]
fn the_community_edition_compresses() {
    let server = Server::community();
    for edition in ["community", "community", "apache", "none"] {
        server.file("schema.sql", edition).passes();
        for edition in ["community", "apache", "none"] {
            server.file("schema-check.sql", edition).passes();
        }
    }

    // Old chunks are compressed, as the policy would, and written to afterwards.
    server.sql(&insert("BTC", 1000));
    assert_eq!(server.sql("SELECT count(compress_chunk(c)) FROM show_chunks('candles') AS c"), "7");
    assert_eq!(server.sql("SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"), "7");
    server.prepared(&upsert("BTC", 1_700_003_600_000, 77)).passes();
    server.prepared(&upsert("BTC", 1_700_003_600_001, 78)).passes();
    assert_eq!(
        server.sql("SELECT count(*), max(c) FILTER (WHERE ts = 1700003600000) FROM candles"),
        "1001|77"
    );
    // The trigger fires for compressed chunks too.
    server.prepared(&upsert("BTC", 1_703_600_000_000, 79)).passes();
    assert_eq!(server.sql("SELECT ts, c FROM candles_latest"), "1703600000000|79");
    let page = server.prepared("EXECUTE page('BTC', '1h', 9223372036854775807, 3)").passes();
    assert!(page.starts_with("1703600000000|"), "{page}");
    server.file("schema.sql", "community").passes();
    server.file("schema-check.sql", "community").passes();

    // What was set up otherwise is told, and not changed under the data.
    server.sql("SELECT remove_compression_policy('candles')");
    server.file("schema-check.sql", "community").refuses(&["there is no policy"]);
    server.sql("SELECT add_compression_policy('candles', compress_after => 86400000::bigint)");
    server.file("schema-check.sql", "community").refuses(&["compressed after 86400000"]);
    server.sql("DROP TABLE candles; DROP TABLE candles_latest");
    server.sql(
        "CREATE TABLE candles (ticker text, tf text, ts bigint, o float8, h float8, l float8, c float8, v float8, source text, \
         updated_at timestamptz, PRIMARY KEY (ticker, tf, ts)); \
         SELECT create_hypertable('candles', 'ts', chunk_time_interval => 604800000::bigint); \
         ALTER TABLE candles SET (timescaledb.compress, timescaledb.compress_segmentby = 'ticker')",
    );
    server.file("schema.sql", "community").refuses(&["compressed by segments of ticker"]);
}
