path = "nomad/jobs/vietmarket-candles-latest"
items {
  PG_URL = "postgres://vietmarket:replace-me@100.83.150.39:5433,100.103.201.10:5433/vietmarket?sslmode=disable&target_session_attrs=any&connect_timeout=5"
  # "none": candles go to TimescaleDB only.
  CONVEX_URL = "none"
}
