//! Bad input to the whole program, in front of a real cluster: each leads to a clear error, and the proxy keeps working.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{Cluster, ClusterOptions, Proxy, ProxyArguments, ProxyCommand, Session};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longer than any step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// How many connections that send nothing to open.
const SILENT: usize = 9_000;

async fn lone_member() -> Cluster {
    Cluster::start(ClusterOptions { members: 1, ..ClusterOptions::default() }).await.unwrap()
}

fn config(cluster: &Cluster, more: &str) -> ProxyCommand {
    let mut proxy = cluster.proxy_command("proxy").unwrap();
    let text = cluster.proxy_config("proxy").unwrap();
    proxy.arguments = ProxyArguments::Config(format!("{text}\n{more}"));
    proxy
}

fn write_addr(cluster: &Cluster) -> SocketAddr {
    cluster.proxy_addresses("proxy").unwrap().write
}

/// Runs one query through the proxy in a new session.
async fn serves(cluster: &Cluster) {
    let session = Session::open_within(&cluster.app_config(write_addr(cluster)), SOON).await.unwrap();
    let answer = session.query_one("select 6 * 7", &[]).await.unwrap();
    assert_eq!(answer.get::<_, i32>(0), 42);
}

async fn wait_for_reason(proxy: &Proxy, code: &str) -> Value {
    let began = Instant::now();
    loop {
        let routing: Value = serde_json::from_str(&proxy.get("/routing").await.unwrap().body).unwrap();
        if routing["write"]["reason"]["code"] == code {
            return routing;
        }
        assert!(began.elapsed() < SOON, "never {code}: {routing:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn wait_for_leader(proxy: &Proxy) {
    let began = Instant::now();
    while proxy.get("/leader").await.unwrap().status != 200 {
        assert!(began.elapsed() < SOON, "no leader: {}", proxy.log().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_do_not_affect_other_clients() {
    let cluster = lone_member().await;
    let proxy = Proxy::start(&config(&cluster, "[session]\nstartup_timeout = \"8s\"")).await.unwrap();
    serves(&cluster).await;
    thousands_that_say_nothing(&cluster, &proxy).await;
    some_that_speak_slowly(&cluster).await;
    some_that_speak_nonsense(&cluster).await;
    serves(&cluster).await;
    assert_eq!(proxy.get("/ready").await.unwrap().status, 200);
}

async fn thousands_that_say_nothing(cluster: &Cluster, proxy: &Proxy) {
    let before = resident_kib(proxy.id());
    let mut silent = Vec::with_capacity(SILENT);
    for _ in 0..SILENT {
        let addr = write_addr(cluster);
        silent.push(tokio::time::timeout(SOON, TcpStream::connect(addr)).await.unwrap().unwrap());
    }
    serves(cluster).await;
    let each = resident_kib(proxy.id()).saturating_sub(before) as f64 / SILENT as f64;
    eprintln!("{SILENT} silent connections: {each:.2} KiB each");
    let mut ends = JoinSet::new();
    for mut client in silent {
        ends.spawn(async move {
            let mut last = Vec::new();
            // The error and the end of the connection; a reset is an end too.
            let _ =
                tokio::time::timeout(SOON, client.read_to_end(&mut last)).await.expect("never disconnected");
        });
    }
    ends.join_all().await;
}

async fn some_that_speak_slowly(cluster: &Cluster) {
    let mut ends = JoinSet::new();
    for _ in 0..200 {
        let mut client = TcpStream::connect(write_addr(cluster)).await.unwrap();
        ends.spawn(async move {
            let began = Instant::now();
            for byte in b"\0\0\0\x26\0\x03\0\0user\0somebody\0database\0shop\0\0".iter().cycle() {
                if client.write_all(&[*byte]).await.is_err() || began.elapsed() > SOON {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            began.elapsed()
        });
    }
    serves(cluster).await;
    for took in ends.join_all().await {
        assert!(took < SOON, "a client that sends a byte every half second was never disconnected");
    }
}

/// Sends random first packets of every length with every first byte.
async fn some_that_speak_nonsense(cluster: &Cluster) {
    let mut seed = 0x9E37_79B9_u32;
    for round in 0..1000 {
        let mut client = TcpStream::connect(write_addr(cluster)).await.unwrap();
        let bytes: Vec<u8> = (0..round % 300)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        // The proxy may have answered and closed before the last byte, which is fine.
        let _ = client.write_all(&bytes).await;
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(SOON, client.read_to_end(&mut answer)).await.expect("never answered");
    }
}

#[tokio::test]
async fn a_wrong_monitoring_password_is_reported_and_can_be_fixed_by_a_reload() {
    let cluster = lone_member().await;
    let mut proxy = config(&cluster, "");
    let right = proxy.environment[0].1.clone();
    let file = cluster.directory().join("monitor-password");
    std::fs::write(&file, "wrong\n").unwrap();
    let ProxyArguments::Config(text) = &mut proxy.arguments else { panic!("a configuration") };
    *text = text
        .replace("password_env = \"PGLP_PROBE_PASSWORD\"", &format!("password_file = \"{}\"", file.display()))
        .replace("hold_timeout = \"30s\"", "hold_timeout = \"1s\"");
    let proxy = Proxy::launch(&proxy).unwrap();
    wait_until_listening(&proxy).await;
    let routing = wait_for_reason(&proxy, "leader_probe_failed").await;
    let reason = routing["write"]["reason"]["text"].as_str().unwrap().to_owned();
    assert!(reason.contains("rejects the monitoring user"), "{reason}");
    assert!(!proxy.log().unwrap().contains("wrong\n"), "the password is in the log");

    let error = Session::open_within(&cluster.app_config(write_addr(&cluster)), SOON).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("rejects the monitoring user"), "the client is told why: {error}");

    std::fs::write(&file, right).unwrap();
    proxy.reload();
    wait_for_leader(&proxy).await;
    serves(&cluster).await;
}

#[tokio::test]
async fn a_server_of_another_cluster_at_a_members_address_is_never_forwarded_to() {
    let (cluster, other) = tokio::join!(lone_member(), lone_member());
    let (own, stranger) = (cluster.member("a").unwrap().postgres, other.member("a").unwrap().postgres);
    let map = |text: &str| {
        text.replace("[etcd]", &format!("address_map = {{ \"{own}\" = \"{stranger}\" }}\n\n[etcd]"))
    };
    let text = cluster.proxy_config("proxy").unwrap();
    let mut setup = cluster.proxy_command("proxy").unwrap();
    setup.arguments = ProxyArguments::Config(map(&text));
    let proxy = Proxy::launch(&setup).unwrap();
    wait_until_listening(&proxy).await;
    let routing = wait_for_reason(&proxy, "system_id_mismatch").await;
    assert!(routing["write"]["reason"]["text"].as_str().unwrap().contains("belongs to another cluster"));

    proxy.write_config(&text).unwrap();
    proxy.reload();
    wait_for_leader(&proxy).await;
    serves(&cluster).await;
}

/// Waits until the admin address answers, with any status.
async fn wait_until_listening(proxy: &Proxy) {
    let began = Instant::now();
    while proxy.get("/live").await.is_err() {
        assert!(began.elapsed() < SOON, "never listening: {}", proxy.log().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn an_unknown_key_is_rejected_with_the_nearest_known_name() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("unknown-key.toml");
    std::fs::write(&file, "[etcd]\nendpoint = [\"http://127.0.0.1:2379\"]\n").unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_pg-leader-proxy"))
        .arg("run")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(78));
    let words = String::from_utf8(run.stderr).unwrap();
    assert!(words.contains("etcd.endpoint") && words.contains("did you mean `etcd.endpoints`"), "{words}");
}
