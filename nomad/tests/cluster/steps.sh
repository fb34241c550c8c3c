#!/usr/bin/env bash
# The steps of nomad/tests/cluster/run that are more than one drill of nomad-layout. It is read by run, which sets these:
# shellcheck disable=SC2154
: "$here $root $target $scratch $results"

say() { printf '== %s\n' "$*"; }

# wait_until SECONDS WHAT COMMAND…
wait_until() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if [ "$SECONDS" -ge "$until" ]; then
      tail -n 20 "$scratch"/*/log >&2
      echo "not within the time: $what" >&2
      return 1
    fi
    sleep 1
  done
}

layout() {
  say "nomad-layout $*"
  "${beside[@]}" "$target/debug/nomad-layout" --folder "$root/nomad" --var-file "$root/nomad/site.vars.hcl" \
    --var-file "$here/cluster.vars.hcl" --results "$results" "$@"
}

# The mounts that nomad-layout sees: those of this machine, or of an agent.
beside=(env)
in_mounts_of() { # PID COMMAND…
  local beside=(nsenter "--target=$1" --mount)
  shift
  "$@"
}

# fails WORDS COMMAND…: it has to fail, and to say this.
fails() {
  local words=$1 output
  shift
  if output=$("$@" 2>&1); then
    printf '%s\nthis had to fail: %s\n' "$output" "$*" >&2
    return 1
  fi
  grep -qF -- "$words" <<<"$output" || { printf '%s\n%s did not say: %s\n' "$output" "$*" "$words" >&2; return 1; }
  say "rejected, as it has to be: $(grep -F -- "$words" <<<"$output" | tail -n 1)"
}

# The examples with a password for every placeholder; the monitor's is the same in both.
put_variables() {
  local file
  for file in timescaledb-ha pg-leader-proxy gvfx.secrets; do
    sed "s/^\( *\(probe\|monitor\)_password *= \)\"replace-me\"/\1\"monitor-it's-secret\"/; s/replace-me/secret-$RANDOM$RANDOM/" \
      "$root/nomad/variables/$file.example.nv.hcl" >"$scratch/$file.nv.hcl"
  done
  sed 's/\(PRIMARY *= \)"replace-me"/\1"exit-one"/; s/\(FALLBACKS *= \)"none"/\1"exit-two"/
    s/\(EXPECTED_IPS *= \)"replace-me"/\1"203.0.113.1"/; s/replace-me/1/' "$root/nomad/variables/gvfx.config.nv.hcl" \
    >"$scratch/gvfx.config.nv.hcl"
  layout variables put "$scratch"/*.nv.hcl
}

### The database's part

# The proxy runs; HAProxy takes its place, and the proxy takes it back.
step_cutover() {
  layout rollback
  layout cutover
}

# The proxy beside HAProxy, on other ports; and once more back and forth.
step_rehearsal() {
  layout rollback
  layout cutover --rehearse
  layout cutover
}

# A proxy that finds no cluster of its name never serves, so HAProxy has to run again.
step_failed_cutover() {
  layout rollback
  echo 'scope = "no-such-cluster"' >"$scratch/no-such-cluster.vars.hcl"
  fails "pg-leader-proxy was not taken; pg-haproxy serves again" \
    layout --var-file "$scratch/no-such-cluster.vars.hcl" cutover
  layout gate job pg-haproxy 2
  layout cutover
}

step_backup() {
  layout backup "$scratch/backup"
  layout restore-rehearsal "$scratch/backup" --bin-dir /usr/lib/postgresql/15/bin
  layout validate database --require none
}

# The same changes with HAProxy in the proxy's place: it asks Patroni, or only connects. What is lost there, or reaches a replica, is
# a row of the table and no fault; so the drills and the cut-over, which fail for it, are judged by what serves afterwards.
step_haproxy() {
  local check changes
  changes='layout drill switchover || true; layout drill kill-leader || true; layout cutover || true; layout gate proxy; to_haproxy'
  for check in rest tcp; do
    export haproxy=$scratch/haproxy-$check.vars.hcl
    echo "haproxy_check = \"$check\"" >"$haproxy"
    to_haproxy
    candles "HAProxy, $check check: the same candles and changes" "${CANDLES:-1000000}" "$changes" ||
      grep -F "HAProxy, $check check:" "$results"
    layout cutover || layout gate proxy
  done
}
to_haproxy() { layout --var-file "$haproxy" rollback || layout gate job pg-haproxy 2; }

# Candles through a switchover, the leader's death and a cut-over, with the History API on a third host.
step_history() {
  candles "candles: switchover, kill-leader, cut-over and back" "${CANDLES:-1000000}" \
    'layout drill switchover; layout drill kill-leader; layout rollback; layout cutover'
}

candles() { # NAME COUNT COMMANDS
  local password api status=0 beside=(nsenter --net=/run/netns/layout-4)
  password=$(nomad var get -out=json nomad/jobs/timescaledb-ha | jq -er .Items.vietmarket_password)
  export API_KEY=key-of-the-history-api
  "${beside[@]}" env PORT=8787 \
    PG_URL="postgres://vietmarket:$password@10.77.0.11:5433,10.77.0.12:5433/vietmarket?connect_timeout=5" \
    "$target/debug/history-api-example" >"$scratch/history-api.log" 2>&1 </dev/null &
  api=$!
  layout candles "$1" --count "$2" --rate "${RATE:-8000}" -- bash -euc ". '$here/steps.sh'; $3" || status=1
  kill "$api"
  return "$status"
}

### Stack B's, with stand-ins

stand_ins=$scratch/stand-ins
work_log=$scratch/work.log
export work_log

# Stack B's jobs may read their variables, the first exit node is online, and the address behind it is the expected one.
stack_b() {
  layout variables policies
  good_exit
}
good_exit() {
  mkdir -p "$stand_ins"
  rm -f "$stand_ins"/dead.*
  echo 203.0.113.1 >"$stand_ins/public-address"
}

# stand_in JOB VERSION [NAME=VALUE…]: runs a job file of gvfx/ with stand-ins.
stand_in() {
  local job=$1 version=$2
  shift 2
  [ -e "$stand_ins/public-address" ] || good_exit
  cp "$here"/stand-ins/{tailscale,curl,work} "$stand_ins/"
  (cd "$root/nomad/gvfx" && nomad job run -output -hcl2-strict=false -var-file ../site.vars.hcl -var-file ../tests/operators.vars.hcl \
    -var-file "$here/cluster.vars.hcl" "$@" "$job.nomad.hcl") |
    jq -f "$here/stand-ins/job.jq" --arg stand_ins "$stand_ins" --arg log "$work_log" --arg version "$version" \
      --arg seconds "${work_seconds:-}" >"$scratch/$job.json"
  nomad job run -detach -json "$scratch/$job.json"
}

allocations() { nomad operator api "/v1/job/$1/allocations"; } # JOB
# events JOB: what happened to its tasks.
events() { allocations "$1" | jq -r '.[].TaskStates // {} | .[].Events[]?.DisplayMessage'; }
says() { events "$1" | grep -F -- "$2" >/dev/null; } # JOB WORDS
worker_node() { tail -n 1 "$work_log" | cut -d ' ' -f 3; }
node_id() { nomad operator api /v1/nodes | jq -er --arg name "$1" '.[] | select(.Name == $name) | .ID'; }
worked_by() { cut -d ' ' -f 2 "$work_log" 2>/dev/null | sort -u | wc -l; }
# The worker works at this moment, and at least COUNT allocations have worked until now.
works() {
  [ -s "$work_log" ] && [ "$(worked_by)" -ge "$1" ] && [ "$(tail -n 1 "$work_log" | cut -d . -f 1)" -ge $(($(date +%s) - 5)) ]
}
rests() { ! works 1; }

# Without its policy a job does not see a variable that is not its own: the task waits, and says for what.
step_permissions() {
  rm -f "$work_log"
  if nomad acl policy info gvfx-worker-variables >/dev/null 2>&1; then nomad acl policy delete gvfx-worker-variables; fi
  stand_in gvfx-worker 1
  wait_until 60 "the worker's tasks wait for a variable that they may not read" says gvfx-worker "nomad/jobs/gvfx/"
  events gvfx-worker | grep -F nomad/jobs/gvfx/ | sort -u
  [ ! -e "$work_log" ] || { echo "the worker works without the right to read its variables" >&2; return 1; }
  nomad job stop -purge -yes gvfx-worker >/dev/null
}

# The guard as it is: a wrong address keeps the worker out.
step_egress() {
  stack_b
  stand_in gvfx-worker-egress-check 1 -var run_id=1
  layout gate finished gvfx-worker-egress-check --within 120
  echo 198.51.100.1 >"$stand_ins/public-address"
  stand_in gvfx-worker-egress-check 1 -var run_id=2
  wait_until 120 "the check fails with a wrong address" says gvfx-worker-egress-check "Exit Code: 4"
  good_exit
  nomad job stop -purge -yes gvfx-worker-egress-check >/dev/null
}

# Never two: a second deployment, a count of two, an update, a drain, a cut network, a dead exit node, a wrong address.
step_worker() {
  local before lines
  stack_b
  rm -f "$work_log"
  stand_in gvfx-worker 1
  wait_until 120 "the worker works" works 1
  stand_in gvfx-worker 1
  fails "greater than scaling policy maximum" nomad job scale gvfx-worker worker 2
  layout gate singleton gvfx-worker --within 20
  awk -v least=1 -f "$here/overlap.awk" "$work_log"
  say "an update"
  stand_in gvfx-worker 2
  wait_until 120 "another allocation works" works 2
  layout gate job gvfx-worker 1 --within 120
  layout drill drain-worker --longest 60 -- bash -c drain_worker
  before=$(placed)
  layout drill cut-worker --longest 90 -- bash -c cut_worker
  [ "$before" = "$(placed)" ] || { printf 'the database or etcd was moved:\n%s\n%s\n' "$before" "$(placed)" >&2; return 1; }
  say "the exit node is dead, then the address is wrong"
  touch "$stand_ins/dead.exit-one"
  wait_until 180 "the fallback is selected" selected exit-two
  wait_until 30 "the worker goes on" works 4
  echo 198.51.100.1 >"$stand_ins/public-address"
  wait_until 180 "the guard ends with 4" says gvfx-worker "Exit Code: 4"
  wait_until 60 "the worker is stopped" rests
  lines=$(wc -l <"$work_log")
  sleep 20
  [ "$lines" -eq "$(wc -l <"$work_log")" ] || { echo "the worker works behind a wrong address" >&2; return 1; }
  good_exit
  wait_until 300 "the worker works again" works 4
  awk -v least=4 -f "$here/overlap.awk" "$work_log"
}

# The last exit node that the watch of the running worker selected.
selected() { # NODE
  local allocation
  allocation=$(allocations gvfx-worker | jq -er '.[] | select(.ClientStatus == "running") | .ID') &&
    nomad alloc logs -stderr -task egress-watch "$allocation" | grep "selected node=" | tail -n 1 | grep -F "selected node=$1"
}

# Where the database and etcd run: allocation and node.
placed() {
  local job
  for job in etcd timescaledb-ha; do
    allocations "$job" | jq -r '.[] | select(.DesiredStatus == "run") | "\(.ID) \(.NodeName)"' | sort
  done
}

# The worker's node is drained, of the database too, until the worker works elsewhere.
drain_worker() {
  local id workers status=0
  id=$(node_id "$(worker_node)") workers=$(worked_by)
  nomad node drain -enable -yes -detach -ignore-system=false -deadline 3m "$id"
  wait_until 120 "the worker works elsewhere" works $((workers + 1)) || status=1
  nomad node drain -disable -yes "$id"
  nomad node eligibility -enable "$id"
  return "$status"
}

wire_of() { case $1 in optiplex) echo layout-v1 ;; epyc) echo layout-v2 ;; *) return 1 ;; esac; } # NODE

# The worker's node loses its network until the worker works elsewhere, and half a minute longer.
cut_worker() {
  local wire workers status=0
  wire=$(wire_of "$(worker_node)") workers=$(worked_by)
  ip link set "$wire" down
  wait_until 240 "the worker works elsewhere" works $((workers + 1)) || status=1
  sleep 30
  ip link set "$wire" up
  return "$status"
}
export -f worker_node node_id worked_by works wait_until drain_worker wire_of cut_worker

# The worker's node loses its power, and comes back when the worker works elsewhere.
step_node_death() {
  local number node workers drill
  stack_b
  [ "$(nomad operator api /v1/job/gvfx-worker 2>/dev/null | jq -r .Stop)" = false ] || stand_in gvfx-worker 1
  wait_until 120 "the worker works" works 1
  node=$(worker_node) workers=$(worked_by)
  case $node in optiplex) number=1 ;; *) number=2 ;; esac
  say "$node has no power"
  export -f power_off
  layout drill node-death --longest 75 -- bash -c "power_off $number; wait_until 240 'the worker works elsewhere' works $((workers + 1)); touch $scratch/$number/on" &
  drill=$!
  wait_until 300 "the worker works elsewhere" test -e "$scratch/$number/on"
  # What the driver keeps in /run goes with the power.
  rm -rf "${scratch:?}/$number"/driver/*
  start "$number"
  wait "$drill"
  awk -v least=$((workers + 1)) -f "$here/overlap.awk" "$work_log"
}

# Every ten seconds a run of 25 s: the next one is not started before the last has ended.
step_backfill() {
  local worker_log=$work_log
  stack_b
  work_log=$scratch/backfill.log
  work_seconds=25 stand_in gvfx-bingx-full-backfill 1 -var 'gvfx_backfill_crons=["*/10 * * * * * *"]'
  wait_until 180 "three runs" runs 3
  nomad job stop -yes gvfx-bingx-full-backfill >/dev/null
  awk -v least=3 -f "$here/overlap.awk" "$work_log"
  layout gate finished gvfx-bingx-full-backfill --within 60
  work_log=$worker_log
}
runs() { [ "$(worked_by)" -ge "$1" ]; }
