#!/bin/sh
# A dump of the database that can be listed, under a name with the time. A failure leaves what was there, and exits 1.
#
#   PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE     DIRECTORY  where dumps are kept     KEEP_DAYS  for so long
set -eu

refuse() {
  printf 'backup: %s\n' "$*" >&2
  exit 1
}

for name in PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE; do
  [ -n "$(printenv "$name")" ] || refuse "$name is empty"
done
[ -d "$DIRECTORY" ] || refuse "there is no directory $DIRECTORY"
case $KEEP_DAYS in '' | *[!0-9]*) refuse "KEEP_DAYS=$KEEP_DAYS is not a number" ;; esac

name=$DIRECTORY/postgres-$(date -u +%Y%m%dT%H%M%SZ).dump
trap 'rm -f "$name.partial"' EXIT
umask 077
pg_dump -Fc --file="$name.partial" || refuse "pg_dump failed"
[ -s "$name.partial" ] || refuse "the dump is empty"
pg_restore -l "$name.partial" >/dev/null || refuse "the dump cannot be listed"
mv "$name.partial" "$name"

# After a good one: old ones go, and this one stays whatever KEEP_DAYS says.
find "$DIRECTORY" -maxdepth 1 -name 'postgres-*.dump' ! -name "${name##*/}" -mtime "+$KEEP_DAYS" -exec rm -f {} +
printf 'backup: %s, %s bytes\n' "$name" "$(wc -c <"$name" | tr -d ' ')"
