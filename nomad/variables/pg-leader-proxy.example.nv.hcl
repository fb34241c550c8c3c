path = "nomad/jobs/pg-leader-proxy"
items {
  # The password of the monitoring user.
  probe_password = "replace-me"
}
