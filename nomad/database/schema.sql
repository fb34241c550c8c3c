-- The candles, as a hypertable where there is TimescaleDB. Safe to repeat; one transaction; as the owner of the database:
--
--   psql "postgres://vietmarket@LEADER:5433/vietmarket" -v ON_ERROR_STOP=1 -v require=community -f schema.sql
--
-- `require` says what must be there, so that no other edition passes unnoticed:
--   community  hypertable and compression           apache  hypertable; compression is not in this edition
--   none       a plain table will do
--
-- An existing table with another key, another type of `ts` or other columns is left as it is, and the run fails with the reason.
\if :{?require}
\else
  \set require ''
\endif

BEGIN;
SELECT set_config('layout.require', :'require', true) \g /dev/null

-- What is there, and whether that is enough. `layout.edition` becomes community, apache or none.
DO $$
DECLARE
  require text := current_setting('layout.require');
  installed boolean := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');
  available boolean := EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb');
  preloaded boolean := current_setting('timescaledb.disable_load', true) IS NOT NULL;
  license text;
  edition text := 'none';
BEGIN
  IF require NOT IN ('community', 'apache', 'none') THEN
    RAISE 'say what must be there: -v require=community, apache or none, not "%"', require;
  END IF;
  IF NOT installed AND available AND NOT preloaded THEN
    RAISE 'the extension timescaledb is on this machine and not loaded'
      USING HINT = 'ALTER SYSTEM SET shared_preload_libraries = ''timescaledb''; under Patroni: patronictl edit-config. Then restart PostgreSQL.';
  END IF;
  IF NOT installed AND available THEN
    BEGIN
      CREATE EXTENSION timescaledb;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE 'the extension timescaledb is not in this database, and % may not create it', current_user
        USING HINT = 'As a superuser: CREATE EXTENSION timescaledb; roles.sql does it.';
    END;
    installed := true;
  END IF;
  IF installed THEN
    license := current_setting('timescaledb.license', true);
    IF license IS NULL THEN
      RAISE 'the extension timescaledb is in this database and its library is not loaded'
        USING HINT = 'Put timescaledb into shared_preload_libraries and restart PostgreSQL.';
    END IF;
    edition := CASE license WHEN 'timescale' THEN 'community' ELSE 'apache' END;
  END IF;
  IF edition = 'none' AND require <> 'none' THEN
    RAISE 'there is no TimescaleDB on this server, and require=% was said', require;
  END IF;
  IF edition = 'apache' AND require = 'community' THEN
    RAISE 'this is TimescaleDB''s Apache edition (timescaledb.license = %), which cannot compress', license
      USING HINT = 'The image without "-oss" is the community edition.';
  END IF;
  IF edition = 'none' THEN
    RAISE WARNING 'no TimescaleDB: candles is a plain table, without chunks and compression';
  END IF;
  PERFORM set_config('layout.edition', edition, true);
END $$;

-- A table of the name that is already there must be the same one.
DO $$
DECLARE
  found text;
BEGIN
  IF to_regclass('candles') IS NULL THEN
    RETURN;
  END IF;
  SELECT format_type(atttypid, atttypmod) INTO found
    FROM pg_attribute WHERE attrelid = 'candles'::regclass AND attname = 'ts' AND NOT attisdropped;
  IF found IS DISTINCT FROM 'bigint' THEN
    RAISE 'candles exists, and its column ts is %, not bigint (milliseconds)', coalesce(found, 'missing');
  END IF;
  SELECT string_agg(attname, ', ' ORDER BY place) INTO found
    FROM pg_index, unnest(indkey) WITH ORDINALITY AS key (number, place)
    JOIN pg_attribute ON attnum = number
    WHERE indrelid = 'candles'::regclass AND indisprimary AND attrelid = indrelid;
  IF found IS DISTINCT FROM 'ticker, tf, ts' THEN
    RAISE 'candles exists, and its primary key is (%), not (ticker, tf, ts)', coalesce(found, 'none');
  END IF;
  SELECT string_agg(name, ', ') INTO found
    FROM unnest('{ticker,tf,ts,o,h,l,c,v,source,updated_at}'::text[]) AS name
    WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'candles'::regclass AND attname = name AND NOT attisdropped);
  IF found IS NOT NULL THEN
    RAISE 'candles exists, and has no column %', found;
  END IF;
END $$;

CREATE TABLE IF NOT EXISTS candles (
  ticker     text             NOT NULL,
  tf         text             NOT NULL,
  ts         bigint           NOT NULL CHECK (ts > 0), -- the candle's begin, in milliseconds since 1970
  o          double precision NOT NULL,
  h          double precision NOT NULL,
  l          double precision NOT NULL,
  c          double precision NOT NULL,
  v          double precision NOT NULL DEFAULT 0,
  source     text             NOT NULL DEFAULT 'unknown',
  updated_at timestamptz      NOT NULL DEFAULT now(),
  PRIMARY KEY (ticker, tf, ts)
);

-- The newest candle of each ticker and time frame. A DELETE in candles does not lower it; to make it anew:
--   TRUNCATE candles_latest;
--   INSERT INTO candles_latest SELECT DISTINCT ON (ticker, tf) * FROM candles ORDER BY ticker, tf, ts DESC;
CREATE TABLE IF NOT EXISTS candles_latest (LIKE candles INCLUDING DEFAULTS, PRIMARY KEY (ticker, tf));

-- TimescaleDB asks it for "now" in the unit of ts: without arguments, STABLE.
CREATE OR REPLACE FUNCTION candles_now_ms() RETURNS bigint LANGUAGE sql STABLE
  AS $$ SELECT (extract(epoch FROM now()) * 1000)::bigint $$;

CREATE OR REPLACE FUNCTION candles_keep_latest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO candles_latest AS known (ticker, tf, ts, o, h, l, c, v, source, updated_at)
    VALUES (NEW.ticker, NEW.tf, NEW.ts, NEW.o, NEW.h, NEW.l, NEW.c, NEW.v, NEW.source, NEW.updated_at)
    ON CONFLICT (ticker, tf) DO UPDATE
      SET (ts, o, h, l, c, v, source, updated_at)
        = (EXCLUDED.ts, EXCLUDED.o, EXCLUDED.h, EXCLUDED.l, EXCLUDED.c, EXCLUDED.v, EXCLUDED.source, EXCLUDED.updated_at)
      WHERE EXCLUDED.ts >= known.ts;
  RETURN NULL;
END $$;

-- Not CREATE OR REPLACE TRIGGER: on a hypertable that failed the second time before TimescaleDB 2.12.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'candles'::regclass AND tgname = 'candles_keep_latest') THEN
    RETURN;
  END IF;
  CREATE TRIGGER candles_keep_latest AFTER INSERT OR UPDATE ON candles
    FOR EACH ROW EXECUTE FUNCTION candles_keep_latest();
  -- The candles of before the trigger.
  INSERT INTO candles_latest (ticker, tf, ts, o, h, l, c, v, source, updated_at)
    SELECT DISTINCT ON (ticker, tf) ticker, tf, ts, o, h, l, c, v, source, updated_at FROM candles ORDER BY ticker, tf, ts DESC
    ON CONFLICT (ticker, tf) DO NOTHING;
END $$;

-- 7 days for each chunk. Another interval applies to new chunks only.
DO $$
DECLARE
  found bigint;
BEGIN
  IF current_setting('layout.edition') = 'none' THEN
    RETURN;
  END IF;
  -- Without the index on ts alone that would come by default: no query needs it, and the planner would prefer it to the key.
  PERFORM create_hypertable('candles', 'ts', chunk_time_interval => 604800000::bigint, create_default_indexes => false,
    if_not_exists => true, migrate_data => true);
  SELECT integer_interval INTO found FROM timescaledb_information.dimensions
    WHERE hypertable_schema = current_schema() AND hypertable_name = 'candles' AND column_name = 'ts';
  IF found <> 604800000 THEN
    RAISE NOTICE 'chunks of % ms until now, of 604800000 ms from now on', found;
    PERFORM set_chunk_time_interval('candles', 604800000::bigint);
  END IF;
  PERFORM set_integer_now_func('candles', 'candles_now_ms', replace_if_exists => true);
END $$;

-- Compression of what is older than 14 days. Settings of another kind are not changed under existing data.
DO $$
DECLARE
  found text;
BEGIN
  IF current_setting('layout.edition') <> 'community' THEN
    RAISE NOTICE 'no compression: it is in TimescaleDB''s community edition only';
    RETURN;
  END IF;
  IF (SELECT compression_enabled FROM timescaledb_information.hypertables
      WHERE hypertable_schema = current_schema() AND hypertable_name = 'candles') THEN
    SELECT concat(string_agg(attname, ',' ORDER BY segmentby_column_index) FILTER (WHERE segmentby_column_index IS NOT NULL),
        ' by ', string_agg(attname, ',' ORDER BY orderby_column_index) FILTER (WHERE orderby_column_index IS NOT NULL)) INTO found
      FROM timescaledb_information.compression_settings
      WHERE hypertable_schema = current_schema() AND hypertable_name = 'candles';
    IF found IS DISTINCT FROM 'ticker,tf by ts' THEN
      RAISE 'candles is compressed by segments of %, not of ticker,tf by ts', found;
    END IF;
  ELSE
    ALTER TABLE candles SET (
      timescaledb.compress, timescaledb.compress_segmentby = 'ticker,tf', timescaledb.compress_orderby = 'ts'
    );
  END IF;
  PERFORM add_compression_policy('candles', compress_after => 1209600000::bigint, if_not_exists => true);
END $$;

COMMIT;
