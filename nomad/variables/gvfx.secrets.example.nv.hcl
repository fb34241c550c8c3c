# nomad var put @gvfx.secrets.nv.hcl, of a copy with real secrets outside this folder. A key that is not used stays, as "unused".
path = "nomad/jobs/gvfx/secrets"
items {
  API_TOKEN   = "replace-me"
  CORS_ORIGIN = "replace-me"

  BINGX_API_KEY    = "replace-me"
  BINGX_SECRET_KEY = "replace-me"

  TELEGRAM_API_ID   = "replace-me"
  TELEGRAM_API_HASH = "replace-me"
  TELEGRAM_SESSION  = "replace-me"

  OPENAI_API_KEY     = "replace-me"
  OPENROUTER_API_KEY = "replace-me"

  # openssl rand -hex 32
  CONVEX_INSTANCE_SECRET = "replace-me"
  # ./generate_admin_key.sh in the running container; for deploy and import.
  CONVEX_ADMIN_KEY = "replace-me"

  # They stand in a URL: letters, digits and . _ ~ - only.
  POSTGRES_DB       = "gvfx"
  POSTGRES_USER     = "gvfx"
  POSTGRES_PASSWORD = "replace-me"

  # At least 3 and 8 characters.
  MINIO_ROOT_USER     = "replace-me"
  MINIO_ROOT_PASSWORD = "replace-me"

  # Only the tailscale sidecars read it.
  TS_AUTHKEY = "replace-me"

  TIMESCALE_URL = "postgres://gvfx:replace-me@100.83.150.39:5433,100.103.201.10:5433/vietmarket?sslmode=disable"
}
