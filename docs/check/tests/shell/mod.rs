//! A reader's shell: blocks of commands, one after the other, in a directory of their own.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use lab::{Cluster, http, proxy_binary};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A block of commands may take so long.
const BOUND: Duration = Duration::from_secs(60);
/// Where the pages connect to what listens on every address.
const LOCALHOST: &str = "localhost";
/// The units that a shown length of time or number of bytes may have.
const UNITS: [&str; 8] = ["ms", "s", "min", "h", "B", "kB", "KiB", "MiB"];

/// The shell. What it runs beside ends with it.
pub(crate) struct Shell {
    directory: TempDir,
    /// What the pages call something, and what it is called here.
    names: Vec<(String, String)>,
    /// The exports so far.
    exports: String,
    admin: std::net::SocketAddr,
    beside: Vec<Child>,
    output: String,
}

impl Shell {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let proxy = cluster.proxy_addresses("docs").unwrap();
        let mut names = vec![
            ("0.0.0.0".to_owned(), proxy.write.ip().to_string()),
            (LOCALHOST.to_owned(), proxy.write.ip().to_string()),
            ("127.0.0.1:9433".to_owned(), proxy.admin.to_string()),
        ];
        for (number, server) in cluster.etcd_direct().iter().enumerate() {
            names.push((format!("10.0.0.{}:2379", number + 1), server.to_string()));
        }
        for (number, member) in cluster.members().enumerate() {
            names.push((format!("10.0.0.{}:5432", number + 1), member.postgres.to_string()));
        }
        let binary = proxy_binary().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let exports = format!(
            "export PATH='{}':'{path}' PGLP_ADMIN_LISTEN={} PGLP_WRITE_LISTEN={}\n",
            binary.parent().unwrap().display(),
            proxy.admin,
            proxy.write
        );
        let directory = tempfile::tempdir().unwrap();
        Self { directory, names, exports, admin: proxy.admin, beside: Vec::new(), output: String::new() }
    }

    /// Saves a configuration under the name that the pages give it.
    pub(crate) fn save(&self, text: &str) {
        fs::write(self.directory.path().join("proxy.toml"), self.here(text)).unwrap();
    }

    /// Runs commands, which must succeed.
    pub(crate) async fn run(&mut self, text: &str, place: &str) {
        let text = self.here(text);
        let done = timeout(BOUND, self.command(&format!("set -e\n{text}")).output()).await;
        let done = done.unwrap_or_else(|_| panic!("{place}: not done after {BOUND:?}")).unwrap();
        self.output = String::from_utf8_lossy(&done.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{place}: {}\n{}\n{complaint}", done.status, self.output);
        let exports = text.lines().filter(|line| line.starts_with("export "));
        exports.for_each(|line| self.exports.push_str(&format!("{line}\n")));
    }

    /// Starts a proxy, and returns when it is ready and knows the leader.
    pub(crate) async fn run_beside(&mut self, text: &str, place: &str) {
        let text = self.here(text);
        let child = self.command(&format!("exec {}", text.trim())).spawn().unwrap();
        self.beside.push(child);
        let ready = async {
            while !http::get(self.admin, "/leader", BOUND).await.is_ok_and(|answer| answer.status == 200) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(BOUND, ready).await.unwrap_or_else(|_| panic!("{place}: no leader after {BOUND:?}"));
    }

    /// Wants these lines among those that the last commands printed, in this order. Numbers may differ.
    pub(crate) fn expect(&self, text: &str, place: &str) {
        let mut printed = self.output.lines().map(|line| masked(&self.there(line)));
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let wanted = masked(line);
            assert!(
                printed.any(|printed| printed == wanted),
                "{place}: not printed (in this order): {line}\nprinted:\n{}",
                self.output
            );
        }
    }

    fn command(&self, text: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("{}{text}", self.exports));
        command
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// A page's text with the names that things have here.
    fn here(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (page, here)| text.replace(page, here))
    }

    /// What was printed here, with the names of the pages.
    fn there(&self, text: &str) -> String {
        let names = self.names.iter().rev().filter(|(page, _)| page != LOCALHOST);
        names.fold(text.to_owned(), |text, (page, here)| text.replace(here, page))
    }
}

/// A line without its numbers, their units, and the width of its gaps.
fn masked(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let bare = word.trim_matches(|letter: char| ",;:()".contains(letter));
        let after_number = words.last().is_some_and(|last| last.contains('#'));
        if after_number && UNITS.contains(&bare) {
            continue;
        }
        let mut mask = String::new();
        for letter in word.chars() {
            let number = letter.is_ascii_digit() || (".,".contains(letter) && mask.ends_with('#'));
            match (number, mask.ends_with('#')) {
                (true, true) => {}
                (true, false) => mask.push('#'),
                (false, _) => mask.push(letter),
            }
        }
        words.push(mask);
    }
    words.join(" ")
}

#[test]
fn numbers_and_units_are_masked() {
    assert_eq!(
        masked("lease: 13.5 s more, confirmed 378 ms ago"),
        masked("lease: 9 ms more, confirmed 1.2 s ago")
    );
    assert_ne!(masked("a is leader"), masked("b is leader"));
}
