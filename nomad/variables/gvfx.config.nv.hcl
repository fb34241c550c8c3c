# The settings of Stack B that are no secrets. nomad var put @gvfx.config.nv.hcl
#
# No value is empty, here and in the other files: Nomad masks every value of a variable in its error messages, and an empty one
# makes the message about a missing key unreadable.
path = "nomad/jobs/gvfx/config"
items {
  MARKET_GOLD_PAIRS               = "Gold-USDT,XAUTUSDT,PAXGUSDT"
  MARKET_CRYPTO_PAIRS             = "ALGO-USDT,BTC-USDT,ETH-USDT,SOL-USDT,XRP-USDT,BNB-USDT"
  BINGX_MARKET_DATA_PAIRS         = "Gold-USDT,XAUTUSDT,PAXGUSDT,ALGO-USDT,BTC-USDT,ETH-USDT,SOL-USDT,XRP-USDT,BNB-USDT"
  NEXT_PUBLIC_MARKET_GOLD_PAIRS   = "Gold-USDT,XAUTUSDT,PAXGUSDT"
  NEXT_PUBLIC_MARKET_CRYPTO_PAIRS = "ALGO-USDT,BTC-USDT,ETH-USDT,SOL-USDT,XRP-USDT,BNB-USDT"
  NEXT_PUBLIC_API_BASE_URL        = "https://replace-me"

  RL_SERVICE_URL                = "http://gvfx-rl-service.service.consul:9101"
  CONVEX_URL                    = "http://gvfx-convex.service.consul:3210"
  TIMESCALE_MARKET_DATA_ENABLED = "true"

  # Stack B's database: gvfx-postgres, or a proxy of the cluster (port 5433).
  POSTGRES_HOST = "gvfx-postgres.service.consul"
  POSTGRES_PORT = "55432"

  S3_STORAGE_EXPORTS_BUCKET          = "gvfx-exports"
  S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET = "gvfx-snapshot-imports"
  S3_STORAGE_MODULES_BUCKET          = "gvfx-modules"
  S3_STORAGE_FILES_BUCKET            = "gvfx-files"
  S3_STORAGE_SEARCH_BUCKET           = "gvfx-search"

  BINGX_FULL_BACKFILL_MAX_BATCHES             = "10000"
  BINGX_FULL_BACKFILL_OPEN_GAP_THRESHOLD      = "replace-me"
  BINGX_FULL_BACKFILL_NON_OK_SOURCE_THRESHOLD = "replace-me"
  # The worker takes every key of this variable: its intervals, thresholds and toggles go here. Not BINGX_WS_ENABLED, which the
  # worker's job alone sets.

  TS_EXIT_NODE_PRIMARY = "replace-me"
  # In order, separated by commas, or "none".
  TS_EXIT_NODE_FALLBACKS = "none"
  TS_EGRESS_EXPECTED_IPS = "replace-me"
}
