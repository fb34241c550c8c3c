//! Preflight, directories, and drills that are a command.

use serde_json::json;

use crate::Cluster;

#[test]
fn a_command_of_ones_own_is_a_drill() {
    let cluster = Cluster::new();
    cluster.passes(
        &["--dry-run", "drill", "mine", "--longest", "5", "--", "ip", "link", "set", "v1", "down"],
        &["? etcd", "? writers through both nodes, then mine", "+ ip link set v1 down"],
    );
    cluster
        .stops(&["--dry-run", "drill", "switchover", "--", "true"], &["there is a drill switchover already"]);
    cluster.stops(&["--dry-run", "drill", "mine"], &["there is no drill \"mine\"", "etcd-quorum-lost"]);
    cluster.stops(&["--dry-run", "candles", "mine", "--", "true"], &["API_KEY is not set"]);
}

#[test]
fn the_preflight_tells_every_fault() {
    let node =
        json!({ "Name": "optiplex", "ID": "one", "Status": "ready", "SchedulingEligibility": "eligible" });
    let agent = json!({ "config": { "ACL": { "Enabled": true }, "TLSConfig": { "EnableHTTP": true } },
        "stats": { "serf": { "encrypted": "false" } } });
    let cluster = Cluster::new()
        .answers("/v1/status/leader", &json!("10.0.0.1:4647"))
        .answers("/v1/status/peers", &json!(["10.0.0.1:4647"]))
        .answers("/v1/agent/self", &agent)
        .answers("/v1/nodes", &json!([node]))
        .answers(
            "/v1/node/one",
            &json!({ "ID": "one", "Attributes": { "consul.version": "1.21", "driver.docker": "1" } }),
        )
        .answers("/v1/client/stats?node_id=one", &json!({ "Timestamp": 1 }));
    cluster.stops(
        &["preflight", "vietmarket"],
        &[
            "FAULT  servers: 1 servers, 3 wanted",
            "FAULT  security: off: tls, gossip; see agents/server.hcl",
            "Docker may mount no directory of the node",
            "FAULT  node epyc: Nomad knows no node epyc",
        ],
    );
    cluster.stops(
        &["preflight", "vietmarket", "--without", "tsl"],
        &["--without tsl: there are acl, tls and gossip"],
    );
    cluster.stops(
        &["preflight", "vietmarket", "--servers", "1", "--without", "tls", "--without", "gossip"],
        &["ok     servers: 1", "ok     security: on: acl"],
    );
    assert!(
        cluster
            .changes()
            .iter()
            .all(|call| { call.starts_with("nomad job plan") || call.starts_with("nomad job run -output") }),
        "{:?}",
        cluster.changes()
    );
}

#[test]
fn directories_are_looked_at_on_their_node() {
    let cluster = Cluster::new();
    cluster.stops(&["directories", "epcy"], &["neither etcd_members nor db_nodes names epcy"]);
}
