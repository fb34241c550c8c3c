#!/bin/sh
# Refuses to start Convex with a setting missing: it would fall back to local files, or to SQLite, with no more than a warning.
# Every fault is told at once. The buckets are looked at by another task.
set -eu

faults=0
fault() {
  printf 'not complete: %s\n' "$*" >&2
  faults=1
}

value=
for name in INSTANCE_NAME INSTANCE_SECRET PGHOST PGPORT PGUSER PGPASSWORD CONVEX_CLOUD_ORIGIN CONVEX_SITE_ORIGIN \
  S3_ENDPOINT_URL AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY S3_STORAGE_EXPORTS_BUCKET \
  S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET S3_STORAGE_MODULES_BUCKET S3_STORAGE_FILES_BUCKET S3_STORAGE_SEARCH_BUCKET; do
  eval "value=\${$name:-}"
  case $value in
  '') fault "$name is empty" ;;
  *replace-me*) fault "$name is still replace-me" ;;
  esac
done

if ! printf '%s' "${INSTANCE_SECRET:-}" | grep -Eqx '[0-9a-f]{64}'; then
  fault "INSTANCE_SECRET is not 64 hexadecimal digits: openssl rand -hex 32"
fi
case ${PGUSER:-}${PGPASSWORD:-} in
*[!A-Za-z0-9._~-]*) fault "POSTGRES_USER and POSTGRES_PASSWORD stand in a URL: letters, digits and . _ ~ - only" ;;
esac

# Convex adds the database's name to the URL itself: its instance's, with _ for -.
if [ "$faults" = 0 ]; then
  database=$(printf '%s' "$INSTANCE_NAME" | tr - _)
  found=$(PGCONNECT_TIMEOUT=5 psql -XAtd postgres -c "SELECT count(*) FROM pg_database WHERE datname = '$database'" 2>&1) ||
    found="no answer: $found"
  case $found in
  1) ;;
  0) fault "the server at $PGHOST:$PGPORT has no database $database: CREATE DATABASE $database" ;;
  *) fault "the server at $PGHOST:$PGPORT: $(printf '%s' "$found" | tr '\n' ' ' | cut -c 1-200)" ;;
  esac
fi
exit "$faults"
