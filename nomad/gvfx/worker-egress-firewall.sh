#!/bin/sh
# In the worker's network namespace nothing leaves but through the tunnel, by IPv4 and by IPv6. It stays when the sidecar dies.
#
# tailscaled's own packets carry its mark; without them there would be no tunnel. Names are resolved directly, because
# tailscaled needs one before there is a tunnel.
set -eu

close() { # iptables or ip6tables
  "$1" -w 10 -P OUTPUT DROP
  "$1" -w 10 -F OUTPUT
  "$1" -w 10 -A OUTPUT -o lo -j ACCEPT
  "$1" -w 10 -A OUTPUT -o tailscale0 -j ACCEPT
  "$1" -w 10 -A OUTPUT -m mark --mark 0x80000/0xff0000 -j ACCEPT
  "$1" -w 10 -A OUTPUT -p udp --dport 53 -j ACCEPT
  "$1" -w 10 -A OUTPUT -p tcp --dport 53 -j ACCEPT
}

close iptables
if [ -e /proc/net/if_inet6 ]; then
  close ip6tables
fi
