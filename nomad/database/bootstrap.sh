#!/bin/sh
# Patroni's post_bootstrap: runs once, on the first leader of a new cluster, with a connection string as its argument. When it
# fails, Patroni throws the new cluster away. An existing cluster gets the same by hand: README.md, "An existing database".
set -eu
here=$(dirname "$0")
exec psql "$1" --no-psqlrc -v ON_ERROR_STOP=1 -f "$here/roles.sql"
