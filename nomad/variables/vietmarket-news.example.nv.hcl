path = "nomad/jobs/vietmarket-news"
items {
  CONVEX_URL = "https://replace-me.convex.cloud"
  # Every other key becomes a setting of the job too.
}
