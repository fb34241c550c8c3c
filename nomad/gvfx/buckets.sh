#!/bin/sh
# The buckets of the S3 store, by MinIO's client: `make` makes those that are missing, `check` wants them all to be there,
# `mirror DIRECTORY` copies them there.
#
#   STORE_URL  http://ADDRESS:PORT     STORE_USER, STORE_PASSWORD     BUCKETS  names, separated by blanks
#   STORE_TRIES, STORE_DELAY  how often the store is asked before it is given up: 30 times, 2 s
set -eu

refuse() {
  printf 'buckets: %s\n' "$*" >&2
  exit 1
}

missing=
[ -n "${STORE_URL:-}" ] || missing="$missing STORE_URL"
[ -n "${STORE_USER:-}" ] || missing="$missing STORE_USER"
[ -n "${STORE_PASSWORD:-}" ] || missing="$missing STORE_PASSWORD"
[ -n "${BUCKETS:-}" ] || missing="$missing BUCKETS"
[ -z "$missing" ] || refuse "not set:$missing"
[ "${#STORE_USER}" -ge 3 ] || refuse "MINIO_ROOT_USER has less than 3 characters, which MinIO rejects"
[ "${#STORE_PASSWORD}" -ge 8 ] || refuse "MINIO_ROOT_PASSWORD has less than 8 characters, which MinIO rejects"
case ${1:-} in
make | check) ;;
mirror) [ -n "${2:-}" ] || refuse "mirror needs a directory" ;;
*) refuse "the first argument is make, check or mirror, not \"${1:-}\"" ;;
esac

# The keys go in by standard input, since arguments can be read by everybody on the node.
tries=${STORE_TRIES:-30}
until printf '%s\n%s\n' "$STORE_USER" "$STORE_PASSWORD" | mc alias set store "$STORE_URL" >/dev/null 2>&1; do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || refuse "$STORE_URL does not answer, or rejects the keys, after ${STORE_TRIES:-30} tries"
  sleep "${STORE_DELAY:-2}"
done

for bucket in $BUCKETS; do
  case $1 in
  make) mc mb --ignore-existing "store/$bucket" >/dev/null || refuse "could not make the bucket $bucket" ;;
  check) mc ls "store/$bucket" >/dev/null 2>&1 || refuse "there is no bucket $bucket at $STORE_URL: run gvfx-objectstore first" ;;
  mirror)
    mkdir -p "$2/$bucket"
    mc mirror --overwrite --preserve "store/$bucket" "$2/$bucket" >/dev/null || refuse "could not copy the bucket $bucket"
    ;;
  esac
done
printf 'buckets: %s: %s\n' "$1" "$BUCKETS"
