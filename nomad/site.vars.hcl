# The addresses, nodes, images and ports of this layout, for every job file in this folder. No secret stands here.
#
# No job file has a default for these: without this file Nomad asks for each. It holds more names than any one job declares,
# which `nomad job run` rejects unless it is told otherwise; `nomad-layout` does that, and itself rejects a name that no job
# file declares:
#
#   nomad job run -hcl2-strict=false -var-file site.vars.hcl database/etcd.nomad.hcl
#   nomad-layout deploy database
#
# What only the operators know is listed at the end, in comments: a job that needs it is refused until it is set here.

# Where services are registered: `consul`, or `nomad` where there is no Consul.
service_provider = "consul"

# The nodes' meta. No job declares it: `nomad-layout meta` sets it, and the preflight compares. `witness` keeps the applications off
# the Mac mini, by its role as by its node class.
node_meta = {
  optiplex = { stateful = "true", egress_worker = "true", role = "primary" }
  epyc     = { stateful = "true", egress_worker = "true", role = "standby", gpu = "true", rl_tier = "primary" }
  macmini  = { role = "witness", rl_tier = "secondary" }
}

### The database: etcd on three nodes, PostgreSQL and the proxy on two

# `node` is the name that `nomad node status` prints. The image and the command belong to each member, because Nomad updates
# groups of a job in parallel: an upgrade changes one member here, runs the job, waits for 3/3, and goes on to the next.
# Keep the three versions equal, 3.5.13 or newer.
etcd_members = [
  {
    name     = "optiplex"
    node     = "optiplex"
    address  = "100.83.150.39"
    runtime  = "docker"
    image    = "quay.io/coreos/etcd:v3.5.24"
    command  = "/usr/local/bin/etcd"
    data_dir = "/opt/etcd"
    user     = ""
  },
  {
    name     = "epyc"
    node     = "epyc"
    address  = "100.103.201.10"
    runtime  = "docker"
    image    = "quay.io/coreos/etcd:v3.5.24"
    command  = "/usr/local/bin/etcd"
    data_dir = "/opt/etcd"
    user     = ""
  },
  {
    # `brew pin etcd` keeps Homebrew from upgrading it beside members of an older version.
    name     = "macmini"
    node     = "macmini"
    address  = "100.100.5.40"
    runtime  = "raw_exec"
    image    = ""
    command  = "/opt/homebrew/opt/etcd/bin/etcd"
    data_dir = "/Users/lenamkhanh/Library/Application Support/etcd"
    user     = "lenamkhanh"
  },
]
etcd_token     = "vietmarket-etcd"
etcd_state     = "new" # `existing` once the cluster has been formed and a member is replaced
etcd_endpoints = ["http://100.83.150.39:2379", "http://100.103.201.10:2379", "http://100.100.5.40:2379"]

scope = "vietmarket"

db_nodes = [
  { node = "optiplex", address = "100.83.150.39" },
  { node = "epyc", address = "100.103.201.10" },
]
db_runtime           = "docker"
db_data_dir          = "/opt/timescaledb-ha"
db_patroni           = "patroni" # the command inside the image, or a path with db_runtime = "raw_exec"
db_user              = ""        # the image's own user, uid 1000; "postgres" with db_runtime = "raw_exec"
db_preload_libraries = "timescaledb"

# Who may log in by password. Clients come through the proxies, so their addresses are those of the database nodes.
db_client_networks = ["100.83.150.39/32", "100.103.201.10/32", "100.110.26.124/32"]

# On, and not strict: no acknowledged write is lost while the replica lives, and a lone primary goes on.
synchronous_mode = true

write_port = 5433
read_port  = 5434
admin_port = 9433

# HAProxy, only for the way back.
haproxy_runtime = "docker"
haproxy_image   = "docker.io/library/haproxy:3.0.12-alpine"
haproxy_command = "haproxy"
haproxy_check   = "rest"

### Stack B

gvfx_postgres_port   = 55432 # 5432 and 5433 of these nodes belong to the database above
gvfx_objectstore_api = 9000
gvfx_objectstore_ui  = 9001
gvfx_tailscale_image = "docker.io/tailscale/tailscale:v1.90.6"
api_canary           = 0 # 1 where three nodes or more may run the API
rl_count             = 2

### What only the operators know: set these, and remove the comment signs
#
# The full name with the digest, of the PostgreSQL major of the existing data (`cat /opt/timescaledb-ha/data/PG_VERSION`):
# db_image   = "docker.io/timescale/timescaledb-ha:pg16.10-ts2.22.1@sha256:…"
# db_bin_dir = "/usr/lib/postgresql/16/bin"
#
# candles_image            = "registry/image:tag"
# candles_latest_command   = "python"
# candles_latest_args      = ["-m", "…"]
# candles_latest_crons     = ["*/5 * * * *"]
# candles_backfill_command = "python"
# candles_backfill_args    = ["-m", "…"]
# candles_backfill_crons   = ["30 18 * * *"]
# news_image               = "registry/image:tag"
# news_command             = "python"
# news_args                = ["-m", "…"]
# news_crons               = ["*/15 * * * *"]
#
# The node that keeps Stack B's data, and the images; MinIO's has to be built (README.md, "Images").
# gvfx_node               = "optiplex"
# gvfx_postgres_image     = "docker.io/library/postgres:16.…-alpine…"
# gvfx_objectstore_image  = "registry/minio:RELEASE.2025-10-15T17-29-55Z"
# gvfx_mc_image           = "quay.io/minio/mc:RELEASE.…"
# gvfx_convex_image       = "ghcr.io/get-convex/convex-backend:<commit>"
# gvfx_convex_instance    = "gvfx"
# gvfx_convex_origin      = "http://100.83.150.39:3210"
# gvfx_convex_site_origin = "http://100.83.150.39:3211"
# gvfx_store_url          = "http://100.83.150.39:9000"
# gvfx_backend_image      = "registry/…-backend:nomad-<date>-<sha>-<suffix>"
# gvfx_api_command        = "node"
# gvfx_api_args           = ["…"]
# gvfx_worker_command     = "node"
# gvfx_worker_args        = ["…"]
# gvfx_backfill_command   = "node"
# gvfx_backfill_args      = ["…"]
# gvfx_backfill_crons     = ["*/30 * * * *"]
# gvfx_frontend_image     = "registry/…-frontend:nomad-<date>-<sha>-<suffix>"
# gvfx_frontend_port      = 3000
# gvfx_rl_image           = "registry/…-rl-service:nomad-<date>-<sha>-<suffix>"
