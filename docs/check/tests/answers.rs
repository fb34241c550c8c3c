//! What the admin address answers is what the pages say: a proxy is started that finds no cluster, and asked.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use docs::{Page, rows};
use lab::{http, proxy_binary};

const BOUND: Duration = Duration::from_secs(10);

/// A proxy that no etcd answers.
struct Lonely(Child, SocketAddr);

impl Lonely {
    async fn start() -> Self {
        let free = |_| TcpListener::bind("127.0.0.1:0").unwrap();
        let [write, admin]: [TcpListener; 2] = std::array::from_fn(free);
        let [write, admin] = [write, admin].map(|listener| listener.local_addr().unwrap());
        let child = Command::new(proxy_binary().unwrap())
            .args(["run", "--etcd-endpoints", "http://127.0.0.1:1", "--cluster-scope", "main"])
            .args(["--probe-user", "monitor", "--write-listen", &write.to_string()])
            .args(["--admin-listen", &admin.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let proxy = Self(child, admin);
        let answers = async {
            while http::get(admin, "/live", BOUND).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(BOUND, answers).await.unwrap();
        proxy
    }

    async fn get(&self, path: &str) -> String {
        http::get(self.1, path, BOUND).await.unwrap().body
    }
}

impl Drop for Lonely {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_page_has_every_path() {
    let proxy = Lonely::start().await;
    let answer = proxy.get("/no-such-path").await;
    let paths: BTreeSet<&str> = answer
        .lines()
        .filter(|line| line.starts_with('/'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let page = Page::read("docs/src/reference/http.md").unwrap();
    let told = rows(&page.text, "Paths");
    assert_eq!(told.iter().map(|row| row[0].as_str()).collect::<BTreeSet<_>>(), paths);
}
