#!/usr/bin/env bash
# Makes the History API public by Tailscale Funnel, and proves it. On the public node, as root.
#
# Not `tailscale serve --bg 8787`: it takes port 443, which Funnel needs.
set -euo pipefail

tailscale serve reset
tailscale funnel --bg http://127.0.0.1:8787
if ! tailscale funnel status --json | jq -e '[.AllowFunnel // {} | .[]] | any' >/dev/null; then
  echo "expose: Funnel is not allowed for this node: the tailnet's policy needs the node attribute \"funnel\"" >&2
  exit 1
fi
tailscale funnel status
curl -fsS --max-time 5 http://127.0.0.1:8787/health
