//! `worker-egress-firewall.sh`, with the kernel's own packet filter in a network namespace (root).

use std::process::Command;

use crate::scene::folder;

/// In a new namespace: two ways out, `eth0` and `tailscale0`, and one more rule that gives the packets to port 7777 the mark of
/// tailscaled. Each line that follows is one try to send, told as `NAME ok` or `NAME blocked`.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip link add eth0 type veth peer name peer0
ip link add tailscale0 type veth peer name peer1
for i in eth0 peer0 tailscale0 peer1; do ip link set $i up; done
ip addr add 10.9.0.1/24 dev eth0
ip addr add 10.8.0.1/24 dev tailscale0
ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev eth0
ip neigh add 10.8.0.2 lladdr 02:00:00:00:00:02 dev tailscale0
iptables -t mangle -A OUTPUT -p udp --dport 7777 -j MARK --set-mark 0x80000
send() { if (echo x >"/dev/udp/$2/$3") 2>/dev/null; then echo "$1 ok"; else echo "$1 blocked"; fi; }
send before 10.9.0.2 443
sh "$1"
sh "$1"
send direct 10.9.0.2 443
send tunnel 10.8.0.2 443
send marked 10.9.0.2 7777
send names 10.9.0.2 53
send loopback 127.0.0.1 443
ip link del tailscale0
send after-the-tunnel 10.9.0.2 443
ip6tables -S OUTPUT | head -1
"#;

#[test]
fn nothing_leaves_but_through_the_tunnel() {
    let script = folder().join("gvfx/worker-egress-firewall.sh");
    let output = Command::new("unshare")
        .args(["--net", "bash", "-c", SCRIPT, "firewall"])
        .arg(script)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    assert_eq!(
        text.trim(),
        "before ok\ndirect blocked\ntunnel ok\nmarked ok\nnames ok\nloopback ok\nafter-the-tunnel blocked\n-P OUTPUT DROP"
    );
}
