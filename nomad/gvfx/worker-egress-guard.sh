#!/usr/bin/env bash
# Lets the worker start only behind an exit node: selects one of a list, proves that it is the active one and that the public
# address is an expected one, and otherwise fails. With --watch SECONDS it goes on looking and moves to a fallback.
#
#   TS_EXIT_NODE_PRIMARY     the first exit node: a name or a tailnet address (required)
#   TS_EXIT_NODE_FALLBACKS   the others, in order, separated by commas
#   TS_EGRESS_EXPECTED_IPS   the public addresses that are right, separated by commas (required)
#   TS_AUTHKEY               only used when tailscaled is not logged in
#   TS_SOCKET                tailscaled's socket
#   TS_EGRESS_CHECK_URLS     https URLs that answer with the caller's address as text, separated by commas
#   TS_GUARD_STATE_FILE      gets the selected node and the observed address
#   TS_WAIT_SECONDS, TS_GUARD_TRIES, TS_GUARD_DELAY, TS_GUARD_HTTP_TIMEOUT, TS_GUARD_DEADLINE   bounds, see below
#
# Exit: 0 validated, 2 bad input, 3 tailscaled is not ready, 4 no candidate passes, 5 deadline, 6 the state file cannot be
# written, 143 terminated. After a failure the exit node stays set, so that nothing leaves directly.
set -uo pipefail
export LC_ALL=C TZ=UTC

primary=${TS_EXIT_NODE_PRIMARY:-}
fallbacks=${TS_EXIT_NODE_FALLBACKS:-}
expected_list=${TS_EGRESS_EXPECTED_IPS:-}
socket=${TS_SOCKET:-/alloc/data/tailscaled.sock}
urls_list=${TS_EGRESS_CHECK_URLS:-https://api.ipify.org,https://checkip.amazonaws.com,https://ifconfig.me/ip}
state_file=${TS_GUARD_STATE_FILE:-}
auth_key=${TS_AUTHKEY:-}
unset TS_AUTHKEY # no child is to see it

watch='' child='' work='' found='' observed='' selected=''
candidates=() expected=() urls=() faults=()
began=0

log() { # LEVEL EVENT [KEY=VALUE…]
  printf '%(%Y-%m-%dT%H:%M:%SZ)T %s\n' -1 "$*" >&2
}

finish() { # CODE
  trap - TERM INT
  if [ -n "$child" ]; then
    kill -TERM "$child" 2>/dev/null
    wait "$child" 2>/dev/null
  fi
  [ -z "$work" ] || rm -rf "$work"
  exit "$1"
}

### Input

# list TEXT: the items of a list, without blanks and empty ones.
list() {
  local item items
  IFS=, read -r -d '' -a items <<<"$1," || true
  for item in "${items[@]}"; do
    item=${item//[[:space:]]/}
    [ -z "$item" ] || printf '%s\n' "$item"
  done
}

# canonical ADDRESS: one spelling for each IPv4 or IPv6 address; fails for everything else.
canonical() {
  local text=${1,,} group out='' before after
  if [[ $text =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$ ]]; then
    for group in "${BASH_REMATCH[@]:1}"; do
      [[ $group =~ ^(0|[1-9][0-9]*)$ && $group -le 255 ]] || return 1
    done
    printf '%s\n' "$text"
    return 0
  fi
  if [[ $text == *::* ]]; then
    IFS=: read -r -a before <<<"${text%%::*}"
    IFS=: read -r -a after <<<"${text#*::}"
    [ $((${#before[@]} + ${#after[@]})) -le 7 ] || return 1
    while [ $((${#before[@]} + ${#after[@]})) -lt 8 ]; do
      before+=(0)
    done
    before+=("${after[@]}")
  else
    [[ $text != :* && $text != *: ]] || return 1
    IFS=: read -r -a before <<<"$text"
  fi
  [ "${#before[@]}" -eq 8 ] || return 1
  for group in "${before[@]}"; do
    [[ $group =~ ^[0-9a-f]{1,4}$ ]] || return 1
    out+=$(printf ':%x' "0x$group")
  done
  printf '%s\n' "${out#:}"
}

contains() { # WANTED ITEM…
  local wanted=$1 item
  shift
  for item in "$@"; do
    [ "$item" != "$wanted" ] || return 0
  done
  return 1
}

# bound NAME DEFAULT LEAST MOST: sets the variable to its default, or checks it.
bound() {
  local value=${!1:-$2}
  if [[ $value =~ ^(0|[1-9][0-9]{0,5})$ && $value -ge $3 && $value -le $4 ]]; then
    printf -v "$1" %s "$value"
  else
    faults+=("$1=$value is not a number from $3 to $4")
  fi
}

check_input() {
  local item address
  if [ "${1:-}" = --watch ]; then
    watch=${2:-}
    [[ $watch =~ ^[1-9][0-9]{0,4}$ ]] || faults+=("--watch wants seconds from 1 to 99999, not \"$watch\"")
  elif [ "$#" -gt 0 ]; then
    faults+=("unknown argument \"$1\"")
  fi
  bound TS_WAIT_SECONDS 60 1 600
  bound TS_GUARD_TRIES 3 1 20
  bound TS_GUARD_DELAY 3 0 60
  bound TS_GUARD_HTTP_TIMEOUT 10 1 60
  bound TS_GUARD_DEADLINE 300 1 3600

  [ -n "${primary//[[:space:]]/}" ] || faults+=("TS_EXIT_NODE_PRIMARY is not set")
  while read -r item; do
    contains "$item" "${candidates[@]}" || candidates+=("$item")
  done < <(list "$primary,$fallbacks")
  while read -r item; do
    if address=$(canonical "$item"); then
      expected+=("$address")
    else
      faults+=("TS_EGRESS_EXPECTED_IPS: \"${item:0:64}\" is not an address")
    fi
  done < <(list "$expected_list")
  [ -n "$(list "$expected_list")" ] || faults+=("TS_EGRESS_EXPECTED_IPS names no address")
  while read -r item; do
    [[ $item == https://* ]] || faults+=("TS_EGRESS_CHECK_URLS: \"${item:0:64}\" is not an https URL")
    urls+=("$item")
  done < <(list "$urls_list")
  [ "${#urls[@]}" -gt 0 ] || faults+=("TS_EGRESS_CHECK_URLS names no URL")

  for item in tailscale jq timeout; do
    command -v "$item" >/dev/null || faults+=("there is no $item on the PATH")
  done
  command -v curl >/dev/null || command -v wget >/dev/null || faults+=("there is neither curl nor wget on the PATH")

  [ "${#faults[@]}" -eq 0 ] && return 0
  for item in "${faults[@]}"; do
    log ERROR "bad-input $item"
  done
  finish 2
}

### Everything that waits

left() { printf '%s\n' $((began + TS_GUARD_DEADLINE - SECONDS)); }

# run SECONDS COMMAND…: its standard output in $work/out. Bounded by the deadline too, and ended with this script.
run() {
  local limit=$1 rest status
  shift
  rest=$(left)
  if [ "$rest" -le 0 ]; then
    log ERROR "failed reason=deadline after=${TS_GUARD_DEADLINE}s"
    finish 5
  fi
  [ "$limit" -le "$rest" ] || limit=$rest
  timeout -k 1 "$limit" "$@" >"$work/out" 2>/dev/null </dev/null &
  child=$!
  wait "$child"
  status=$?
  child=''
  return "$status"
}

pause() { # SECONDS; not bounded by the deadline
  [ "$1" -gt 0 ] || return 0
  sleep "$1" &
  child=$!
  wait "$child"
  child=''
}

### tailscaled

ts() { run "$1" tailscale "--socket=$socket" "${@:2}"; }
status() { ts 10 status --json && [ -s "$work/out" ]; }
asked() { jq -er "$@" <"$work/out" 2>/dev/null; }

# One login, with the key in a file that goes at once: arguments can be read by everybody on the node.
log_in() {
  (umask 077 && printf '%s' "$auth_key" >"$work/key")
  auth_key=''
  ts 30 up "--auth-key=file:$work/key"
  local status=$?
  rm -f "$work/key"
  [ "$status" -eq 0 ] || log WARN "login-failed status=$status"
}

wait_for_tailscaled() {
  local until=$((SECONDS + TS_WAIT_SECONDS)) state=unreachable
  while :; do
    state=unreachable
    if status; then
      state=$(asked '.BackendState // "unknown"') || state=unreadable
      if [ "$state" = Running ] && asked '.Self.Online == true' >/dev/null; then
        log INFO "tailscaled ready after=$((SECONDS - began))s"
        return 0
      fi
    fi
    if [ "$state" = NeedsLogin ] && [ -n "$auth_key" ]; then
      log_in
      continue
    fi
    [ "$SECONDS" -lt "$until" ] || break
    pause 1
  done
  log ERROR "failed reason=tailscaled-not-ready state=${state:0:64} waited=${TS_WAIT_SECONDS}s"
  finish 3
}

# What the exit node is: sets `found` to active, offline or other-node-active.
exit_node() { # CANDIDATE
  found=offline
  status || return 0
  # shellcheck disable=SC2016 # jq's variables
  found=$(asked --arg node "${1,,}" '
    .ExitNodeStatus as $exit
    | if ($exit.ID // "") == "" or $exit.Online != true then "offline"
      else
        ([$exit.TailscaleIPs[]? | split("/")[0]]
          + [.Peer[]? | select(.ID == $exit.ID and .ExitNode == true) | (.HostName, .DNSName) // "" | rtrimstr(".")]
          | map(ascii_downcase)) as $names
        | if $names | index($node | rtrimstr(".")) then "active" else "other-node-active" end
      end') || found=offline
}

### The public address

fetch() { # URL
  # The answer is an address: more than that is not read.
  if command -v curl >/dev/null; then
    # shellcheck disable=SC2016 # the inner shell expands
    run "$TS_GUARD_HTTP_TIMEOUT" bash -c 'set -o pipefail; curl -fsS --noproxy "*" --max-time "$1" "$2" | head -c 1024' \
      fetch "$TS_GUARD_HTTP_TIMEOUT" "$1"
  else
    # shellcheck disable=SC2016 # the inner shell expands
    run "$TS_GUARD_HTTP_TIMEOUT" bash -c 'set -o pipefail; wget -q -T "$1" -O - "$2" | head -c 1024' \
      fetch "$TS_GUARD_HTTP_TIMEOUT" "$1"
  fi
}

# The address of the first URL that answers with one, in its canonical spelling; sets `observed`.
observe() {
  local url body
  observed=''
  for url in "${urls[@]}"; do
    fetch "$url" || continue
    body=$(tr -d '\000' <"$work/out")
    body=${body//[[:space:]]/}
    if observed=$(canonical "$body"); then
      return 0
    fi
    observed=''
  done
  return 1
}

### The candidates

reject() { log WARN "rejected node=$1 reason=$2${3:+ observed=$3}"; }

# validate CANDIDATE: is it the active exit node, and is the address behind it expected? A wrong address is final.
validate() {
  local try reason=offline
  for ((try = 1; try <= TS_GUARD_TRIES; try++)); do
    log INFO "try node=$1 n=$try/$TS_GUARD_TRIES"
    exit_node "$1"
    reason=$found
    if [ "$reason" = active ]; then
      reason=no-address
      if observe; then
        if contains "$observed" "${expected[@]}"; then
          return 0
        fi
        reject "$1" address-not-expected "$observed"
        return 1
      fi
    fi
    [ "$try" -eq "$TS_GUARD_TRIES" ] || pause "$TS_GUARD_DELAY"
  done
  reject "$1" "$reason"
  return 1
}

write_state() { # CANDIDATE
  [ -n "$state_file" ] || return 0
  { printf 'SELECTED_EXIT_NODE=%s\nOBSERVED_EGRESS_IP=%s\nVALIDATED_AT=%(%Y-%m-%dT%H:%M:%SZ)T\n' "$1" "$observed" -1 \
    >"$state_file.new" && mv -f "$state_file.new" "$state_file"; } 2>/dev/null && return 0
  log ERROR "failed reason=state-file-not-written file=$state_file"
  finish 6
}

# select_node: the first candidate that passes; sets `selected`.
select_node() {
  local node
  for node in "${candidates[@]}"; do
    if ! ts 30 set "--exit-node=$node" --exit-node-allow-lan-access=false; then
      reject "$node" set-failed
      continue
    fi
    if validate "$node"; then
      selected=$node
      write_state "$node"
      log INFO "selected node=$node egress=$observed"
      return 0
    fi
  done
  log ERROR "failed tried=$(IFS=, && echo "${candidates[*]}") reason=no-candidate-passed"
  finish 4
}

trap 'log WARN terminated; finish 143' TERM INT
check_input "$@"
work=$(mktemp -d) || finish 6
log INFO "start candidates=$(IFS=, && echo "${candidates[*]}") expected=$(IFS=, && echo "${expected[*]}")"
began=$SECONDS
wait_for_tailscaled
select_node
while [ -n "$watch" ]; do
  pause "$watch"
  began=$SECONDS # each look has the deadline for itself
  validate "$selected" || select_node
done
finish 0
