# nomad var put @timescaledb-ha.nv.hcl, of a copy with real secrets outside this folder.
path = "nomad/jobs/timescaledb-ha"
items {
  superuser_password   = "replace-me"
  replication_password = "replace-me"
  rewind_password      = "replace-me"
  restapi_password     = "replace-me"
  vietmarket_password  = "replace-me"
  # The same as probe_password in nomad/jobs/pg-leader-proxy.
  monitor_password = "replace-me"
  gvfx_password    = "replace-me"
}
