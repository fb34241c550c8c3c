-- Checks what schema.sql makes, and that it works: every fault is told, and any fails the run. It changes nothing.
--
--   psql "postgres://vietmarket@LEADER:5433/vietmarket" -v ON_ERROR_STOP=1 -v require=community -f schema-check.sql
\if :{?require}
\else
  \set require ''
\endif

BEGIN;
SELECT set_config('layout.require', :'require', true) \g /dev/null

DO $$
DECLARE
  require text := current_setting('layout.require');
  faults text[] := '{}';
  found text;
BEGIN
  IF require NOT IN ('community', 'apache', 'none') THEN
    RAISE 'say what must be there: -v require=community, apache or none, not "%"', require;
  END IF;
  IF to_regclass('candles') IS NULL OR to_regclass('candles_latest') IS NULL THEN
    RAISE 'there is no candles or no candles_latest: run schema.sql';
  END IF;

  SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attname) INTO found
    FROM pg_attribute WHERE attrelid = 'candles'::regclass AND attnum > 0 AND NOT attisdropped
      AND attname = ANY ('{ticker,tf,ts,o,h,l,c,v,source,updated_at}');
  IF found IS DISTINCT FROM 'c double precision, h double precision, l double precision, o double precision, source text, '
      'tf text, ticker text, ts bigint, updated_at timestamp with time zone, v double precision' THEN
    faults := faults || ('the columns are ' || found);
  END IF;

  SELECT string_agg(attname, ', ' ORDER BY place) INTO found
    FROM pg_index, unnest(indkey) WITH ORDINALITY AS key (number, place) JOIN pg_attribute ON attnum = number
    WHERE indrelid = 'candles'::regclass AND indisprimary AND attrelid = indrelid;
  IF found IS DISTINCT FROM 'ticker, tf, ts' THEN
    faults := faults || ('the primary key is ' || coalesce(found, 'none'));
  END IF;

  IF NOT EXISTS (SELECT FROM pg_trigger
      WHERE tgrelid = 'candles'::regclass AND tgname = 'candles_keep_latest' AND tgenabled IN ('O', 'A')) THEN
    faults := faults || 'the trigger candles_keep_latest is missing or disabled'::text;
  END IF;

  IF require <> 'none' THEN
    SELECT integer_interval || ' ' || coalesce(integer_now_func, 'none') INTO found FROM timescaledb_information.dimensions
      WHERE hypertable_schema = current_schema() AND hypertable_name = 'candles' AND column_name = 'ts';
    IF found IS DISTINCT FROM '604800000 candles_now_ms' THEN
      faults := faults || ('the chunks'' interval and their now function are ' || coalesce(found, 'none: no hypertable'));
    END IF;
  END IF;

  IF require = 'community' THEN
    SELECT concat(string_agg(attname, ',' ORDER BY segmentby_column_index) FILTER (WHERE segmentby_column_index IS NOT NULL),
        ' by ', string_agg(attname, ',' ORDER BY orderby_column_index) FILTER (WHERE orderby_column_index IS NOT NULL)) INTO found
      FROM timescaledb_information.compression_settings
      WHERE hypertable_schema = current_schema() AND hypertable_name = 'candles';
    IF found IS DISTINCT FROM 'ticker,tf by ts' THEN
      faults := faults || (CASE found WHEN ' by ' THEN 'compression is off' ELSE 'compressed by segments of ' || found END);
    END IF;
    SELECT config ->> 'compress_after' INTO found FROM timescaledb_information.jobs
      WHERE hypertable_schema = current_schema() AND hypertable_name = 'candles' AND config ? 'compress_after';
    IF found IS DISTINCT FROM '1209600000' THEN
      faults := faults || ('compressed after ' || coalesce(found, 'never: there is no policy'));
    END IF;
  END IF;

  IF faults <> '{}' THEN
    RAISE 'schema: %', array_to_string(faults, '; ');
  END IF;
END $$;

-- It works: the newest of three candles is the one that is kept, whatever came last, and one that comes again is one.
DO $$
DECLARE
  newest bigint;
  candles bigint;
BEGIN
  INSERT INTO candles (ticker, tf, ts, o, h, l, c) VALUES
    ('schema-check', '1h', 1700000000000, 1, 1, 1, 1),
    ('schema-check', '1h', 1700007200000, 3, 3, 3, 3),
    ('schema-check', '1h', 1700003600000, 2, 2, 2, 2);
  INSERT INTO candles (ticker, tf, ts, o, h, l, c) VALUES ('schema-check', '1h', 1700007200000, 3, 4, 3, 4)
    ON CONFLICT (ticker, tf, ts) DO UPDATE SET (h, c) = (EXCLUDED.h, EXCLUDED.c);
  SELECT count(*) INTO candles FROM candles WHERE ticker = 'schema-check';
  SELECT ts INTO newest FROM candles_latest WHERE ticker = 'schema-check' AND tf = '1h' AND c = 4;
  IF candles <> 3 OR newest IS DISTINCT FROM 1700007200000 THEN
    RAISE 'schema: of three candles % were kept, and the newest is %', candles, newest;
  END IF;
END $$;
ROLLBACK;
\echo schema: as it should be
