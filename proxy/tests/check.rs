//! `check --connect` and `status` against a real cluster: what they find, and how the process ends.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, MONITOR, Proxy, Session};

/// Beyond anything that a healthy step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// How many sessions are open at a change of leader.
const SESSIONS: u64 = 4;

fn program(arguments: &[&str], password: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pg-leader-proxy"))
        .args(arguments)
        .env("PGLP_PROBE_PASSWORD", password)
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn written(cluster: &Cluster, name: &str, text: &str) -> String {
    let file = cluster.directory().join(name);
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn check_tells_what_would_not_work_before_it_is_deployed() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let text = cluster.proxy_config("proxy").unwrap();
    let right = written(&cluster, "right.toml", &text);
    let fine = program(&["check", "--connect", "--config", &right], MONITOR.password);
    assert_eq!(fine.status.code(), Some(0), "{}", words(&fine));
    let told = words(&fine);
    for member in cluster.members() {
        assert!(told.contains(&member.postgres.to_string()), "{} is not named in\n{told}", member.name);
    }
    for endpoint in cluster.etcd_endpoints("proxy").unwrap() {
        assert!(told.contains(&endpoint), "{endpoint} is not named in\n{told}");
    }

    let denied = program(&["check", "--connect", "--config", &right], "wrong");
    assert_eq!(denied.status.code(), Some(1), "{}", words(&denied));
    assert!(words(&denied).contains("monitor") && !words(&denied).contains("wrong\n"), "{}", words(&denied));

    let elsewhere = written(&cluster, "elsewhere.toml", &text.replace("scope = \"lab\"", "scope = \"shop\""));
    let empty = program(&["check", "--connect", "--config", &elsewhere], MONITOR.password);
    assert_eq!(empty.status.code(), Some(1), "{}", words(&empty));
    assert!(words(&empty).contains("/service/shop/"), "{}", words(&empty));

    cluster.kill_etcd(0).unwrap();
    let missing = program(&["check", "--connect", "--config", &right], MONITOR.password);
    assert_eq!(missing.status.code(), Some(1), "one endpoint of three is down: {}", words(&missing));

    let nonsense = written(&cluster, "nonsense.toml", "[write]\nhold_timeout = \"soon\"\n");
    let bad = program(&["check", "--config", &nonsense], MONITOR.password);
    assert_eq!(bad.status.code(), Some(78), "{}", words(&bad));
    assert!(words(&bad).contains("write.hold_timeout") && words(&bad).contains("soon"), "{}", words(&bad));
}

#[tokio::test]
async fn status_tells_who_leads_and_what_happened() {
    let cluster = Cluster::start(ClusterOptions::default()).await.unwrap();
    let proxy = Proxy::start(&cluster.proxy_command("proxy").unwrap()).await.unwrap();
    let admin = proxy.admin().to_string();
    let write = cluster.app_config(cluster.proxy_addresses("proxy").unwrap().write);
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(Session::open_within(&write, SOON).await.unwrap());
    }
    cluster.switchover("b").await.unwrap();
    let began = Instant::now();
    loop {
        let status = program(&["status", "--admin", &admin], "");
        let told = words(&status);
        if status.status.success() && told.contains("writes go to b at") {
            assert!(told.contains("timeline 2"), "{told}");
            break;
        }
        assert!(began.elapsed() < SOON, "{told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let json = program(&["status", "--json", "--admin", &admin], "");
    let mut answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(answer["routing"]["write"]["leader"]["member"], "b");
    // Some were ended by their server, the others by the proxy: both answers count each of them, once.
    let told = |answer: &serde_json::Value| {
        let changes = answer["failovers"]["failovers"].as_array().unwrap();
        let of_changes = changes.iter().map(|change| change["terminated_sessions"].as_u64().unwrap()).sum();
        [of_changes, answer["routing"]["sessions"]["write"]["terminated"].as_u64().unwrap()]
    };
    while told(&answer) != [SESSIONS; 2] {
        assert!(began.elapsed() < SOON, "{answer:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let json = program(&["status", "--json", "--admin", &admin], "");
        answer = serde_json::from_slice(&json.stdout).unwrap();
    }
    drop(sessions);

    proxy.stop().await.unwrap();
    let gone = program(&["status", "--admin", &admin], "");
    assert_eq!(gone.status.code(), Some(2), "{}", words(&gone));
    assert!(words(&gone).contains(&admin), "the address that does not answer is named: {}", words(&gone));
}
