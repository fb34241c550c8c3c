#!/usr/bin/env bash
# Runs before Patroni and refuses, with one sentence for each fault, what Patroni would stumble over or take for a new cluster.
#
#   DATABASE_HOME    the directory, as this task sees it          DATABASE_FOLDER  the same, as the node sees it
#   DATABASE_BIN     PostgreSQL's programs                        ETCD_ENDPOINTS   http://ADDRESS:PORT, separated by blanks
set -euo pipefail

faults=0
fault() {
  printf 'not ready: %s\n' "$*" >&2
  faults=1
}

check_directory() {
  local owner me
  if ! [ -d "$DATABASE_HOME" ]; then
    fault "$DATABASE_FOLDER does not exist: sudo install -d -o $(id -u) -g $(id -g) -m 700 $DATABASE_FOLDER"
    return
  fi
  owner=$(stat -c %u "$DATABASE_HOME") me=$(id -u)
  if [ "$owner" != "$me" ]; then
    fault "$DATABASE_FOLDER belongs to uid $owner, PostgreSQL runs as $me: sudo chown -R $me:$(id -g) $DATABASE_FOLDER"
  elif ! [ -w "$DATABASE_HOME" ]; then
    fault "$DATABASE_FOLDER cannot be written to: sudo chmod u+rwx $DATABASE_FOLDER"
  fi
}

# Patroni would start the wrong programs on the data, and PostgreSQL would say so only in its own log.
check_major() {
  local program data
  if ! [ -x "$DATABASE_BIN/postgres" ]; then
    fault "there is no $DATABASE_BIN/postgres; there is: $(echo /usr/lib/postgresql/*/bin)"
    return
  fi
  [ -r "$DATABASE_HOME/data/PG_VERSION" ] || return 0
  data=$(cat "$DATABASE_HOME/data/PG_VERSION")
  program=$("$DATABASE_BIN/postgres" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
  if [ "$program" != "$data" ]; then
    fault "the data in $DATABASE_FOLDER/data is of PostgreSQL $data, the programs in $DATABASE_BIN are of $program"
  fi
}

is_healthy() { # ADDRESS PORT
  # shellcheck disable=SC2016 # the inner shell expands
  timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET /health HTTP/1.0\r\n\r\n" >&3 && cat <&3' "$1" "$2" 2>/dev/null |
    grep -q '"health": *"true"'
}

check_etcd() {
  local endpoint address
  for endpoint in $ETCD_ENDPOINTS; do
    address=${endpoint#http://}
    if is_healthy "${address%:*}" "${address##*:}"; then
      return 0
    fi
  done
  fault "no etcd endpoint is healthy: $ETCD_ENDPOINTS"
}

check_directory
check_major
check_etcd
exit "$faults"
