//! Nothing outlives the lab, even if it is killed while a member is frozen.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::ensure;

const SOON: Duration = Duration::from_secs(20);

fn until(lines: &mut Lines<BufReader<ChildStdout>>, wanted: &str) -> String {
    lines.map(Result::unwrap).find(|line| line.contains(wanted)).unwrap()
}

fn up() -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .arg("up")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(lab.stdout.take().unwrap()).lines();
    (lab, lines)
}

/// Finds out by binding the address. A frozen process would not answer, but it still holds its address.
fn wait_until_free(address: SocketAddr) {
    lab::retry(&format!("{address} to be free"), SOON, || Ok(TcpListener::bind(address)?)).unwrap();
}

#[test]
fn a_killed_lab_leaves_nothing() {
    let (mut lab, mut lines) = up();
    let directory = until(&mut lines, "files in").split_once("files in ").unwrap().1.to_owned();
    let etcd: SocketAddr = until(&mut lines, "etcd").split_once("http://").unwrap().1.parse().unwrap();
    until(&mut lines, "Ctrl-C");
    writeln!(lab.stdin.as_ref().unwrap(), "freeze b").unwrap();
    until(&mut lines, "done");
    let server = |host: u8| {
        let mut address = etcd;
        let std::net::IpAddr::V4(network) = etcd.ip() else { unreachable!("the lab lives on IPv4") };
        let [first, second, third, _] = network.octets();
        address.set_ip([first, second, third, host].into());
        address.set_port(5432);
        address
    };

    lab.kill().unwrap();
    lab.wait().unwrap();
    for address in [etcd, server(21), server(22)] {
        wait_until_free(address);
    }
    if std::env::var_os("LAB_KEEP").is_none() {
        lab::retry("the directory to be removed", SOON, || {
            ensure!(!Path::new(&directory).exists(), "{directory} is still there");
            Ok(())
        })
        .unwrap();
    }
}
