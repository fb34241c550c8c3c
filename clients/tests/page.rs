//! The admin page in Chromium, before, during and after the crash of a real leader. The pictures are in `target/page`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "the test's output says what the browser has seen")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use clients::page_program;
use lab::{Cluster, ClusterOptions, Proxy, Writers};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const PROXY: &str = "proxy";
/// For each single wait.
const BOUND: Duration = Duration::from_secs(90);
/// Writes before the leader is killed, so that its sessions are open.
const STEADY_WRITES: usize = 300;

#[tokio::test]
async fn the_page_shows_a_failover_as_it_happens() {
    // Three members, so that a replica is left when one leads in the place of another.
    let cluster = Cluster::start(ClusterOptions { members: 3, ..ClusterOptions::default() }).await.unwrap();
    let leader = cluster.wait_healthy(BOUND).await.unwrap();
    let proxy = Proxy::start(&cluster.proxy_command(PROXY).unwrap()).await.unwrap();
    let addresses = cluster.proxy_addresses(PROXY).unwrap();
    let writers = Writers::start(cluster.load(addresses.write)).unwrap();
    writers.wait_for_more(STEADY_WRITES, BOUND).await.unwrap();

    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("page");
    let mut browser = Command::from(page_program().unwrap())
        .arg(format!("http://{}/", proxy.admin()))
        .arg(pictures)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(browser.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    while let Some(line) = timeout(BOUND, lines.next_line()).await.expect("the next line").unwrap() {
        if line == "loaded" {
            cluster.kill_member(&leader).unwrap();
        }
        seen.push(line);
    }
    let status = timeout(BOUND, browser.wait()).await.expect("the end of the browser").unwrap();
    assert!(status.success() && seen.iter().any(|line| line == "loaded"), "{}", seen.join("\n"));
    eprintln!("{}", seen.join("\n"));
    writers.stop().await;
}
