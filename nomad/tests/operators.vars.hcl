# What site.vars.hcl leaves to the operators, with made-up values: the tests parse, decode and plan every job file with both.
db_image   = "docker.io/timescale/timescaledb-ha:pg16.10-ts2.22.1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
db_bin_dir = "/usr/lib/postgresql/16/bin"

candles_image            = "registry.example.org/vietmarket-ingest:20261101-0a1b2c3"
candles_latest_command   = "python"
candles_latest_args      = ["-m", "candles"]
candles_latest_crons     = ["*/5 * * * *"]
candles_backfill_command = "python"
candles_backfill_args    = ["-m", "candles"]
candles_backfill_crons   = ["30 18 * * *"]
news_image               = "registry.example.org/vietmarket-ingest:20261101-0a1b2c3"
news_command             = "python"
news_args                = ["-m", "news"]
news_crons               = ["*/15 * * * *"]

gvfx_node               = "optiplex"
gvfx_postgres_image     = "docker.io/library/postgres:16.10-alpine3.22"
gvfx_objectstore_image  = "registry.example.org/minio:RELEASE.2025-10-15T17-29-55Z"
gvfx_mc_image           = "quay.io/minio/mc:RELEASE.2025-08-13T08-35-41Z"
gvfx_convex_image       = "ghcr.io/get-convex/convex-backend:0123456789abcdef0123456789abcdef01234567"
gvfx_convex_instance    = "gvfx"
gvfx_convex_origin      = "http://100.83.150.39:3210"
gvfx_convex_site_origin = "http://100.83.150.39:3211"
gvfx_store_url          = "http://100.83.150.39:9000"
gvfx_backend_image      = "registry.example.org/gvfx-backend:nomad-20261101-0a1b2c3-a"
gvfx_api_command        = "node"
gvfx_api_args           = ["api.js"]
gvfx_worker_command     = "node"
gvfx_worker_args        = ["worker.js"]
gvfx_backfill_command   = "node"
gvfx_backfill_args      = ["backfill.js"]
gvfx_backfill_crons     = ["*/30 * * * *"]
gvfx_frontend_image     = "registry.example.org/gvfx-frontend:nomad-20261101-0a1b2c3-a"
gvfx_frontend_port      = 3000
gvfx_rl_image           = "registry.example.org/gvfx-rl-service:nomad-20261101-0a1b2c3-a"
