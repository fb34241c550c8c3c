-- The statements of the clients of candles, as they are meant to be used. psql -f queries.sql prepares them for one session:
--
--   EXECUTE page('BTC-USDT', '1h', 9223372036854775807, 500);

-- One page of the past, newest first; the next one begins before the smallest `ts` of this one. Without `beforeTs` the largest
-- bigint stands for it. It is a backward scan of the primary key, so new candles neither shift nor repeat a page.
PREPARE page (text, text, bigint, integer) AS
  SELECT ts, o, h, l, c, v, source FROM candles WHERE ticker = $1 AND tf = $2 AND ts < $3 ORDER BY ts DESC LIMIT $4;

-- The newest candle of every ticker.
PREPARE latest (text) AS
  SELECT ticker, ts, o, h, l, c, v, source FROM candles_latest WHERE tf = $1 ORDER BY ticker;

-- Ingestion. Sent again, it changes nothing, so a batch whose answer was lost in a failover is simply sent again. All writers
-- insert in one order, or they would lock each other out in candles_latest. A key may be in a batch once only: PostgreSQL
-- rejects it otherwise (21000). Worth another try, with a bound: 57P01, 57P03, 08xxx, 40001, 40P01, a broken connection.
PREPARE upsert (text[], text[], bigint[], float8[], float8[], float8[], float8[], float8[], text[]) AS
  INSERT INTO candles AS known (ticker, tf, ts, o, h, l, c, v, source)
    SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) ORDER BY 1, 2, 3
  ON CONFLICT (ticker, tf, ts) DO UPDATE
    SET (o, h, l, c, v, source, updated_at)
      = (EXCLUDED.o, EXCLUDED.h, EXCLUDED.l, EXCLUDED.c, EXCLUDED.v, EXCLUDED.source, now())
    WHERE (known.o, known.h, known.l, known.c, known.v) IS DISTINCT FROM
      (EXCLUDED.o, EXCLUDED.h, EXCLUDED.l, EXCLUDED.c, EXCLUDED.v);
