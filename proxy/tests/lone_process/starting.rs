//! A process that has not heard from etcd yet: what its clients, `status` and the log say.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;

use crate::lone::{Lone, SOON, member, program, words};

/// A start-up packet of protocol 3.0 for the user `anna`.
const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0anna\0\0";

/// What a client is told at the end of its hold.
fn rejection(proxy: SocketAddr) -> String {
    let mut client = TcpStream::connect(proxy).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.write_all(STARTUP).unwrap();
    let mut told = Vec::new();
    client.read_to_end(&mut told).unwrap();
    String::from_utf8_lossy(&told).into_owned()
}

fn settings(endpoint: &str) -> String {
    format!(
        "cluster.scope = \"main\"\netcd.endpoints = [\"http://{endpoint}\"]\nwrite.hold_timeout = \"1s\"\n\
         log.filter = \"warn\""
    )
}

#[test]
fn status_tells_what_etcd_answered_last_and_clients_hear_what_kind_of_problem_it_is() {
    let lone = Lone::start(&settings("127.0.0.1:1"));
    let problem = "nothing is known about the cluster yet: http://127.0.0.1:1: cannot ";
    lone.wait("etcd was asked", |lone| lone.get("/leader").is_some_and(|answer| answer.contains(problem)));
    let told = rejection(lone.write());
    let kind = "nothing is known about the cluster yet: etcd cannot be reached or does not answer\0";
    assert!(told.contains("57P03") && told.contains(kind), "{told}");
    let status = words(&program(&["status", "--config", &lone.config_file()]));
    assert!(status.contains(problem) && status.contains("Connection refused"), "{status}");
}

#[test]
fn an_endpoint_that_never_answers_is_one_warning_however_often_it_is_asked() {
    let (etcd, asked) = member();
    let lone = Lone::start(&settings(&etcd.to_string()));
    lone.wait("etcd was asked several times", |_| asked.load(Relaxed) >= 8);
    let log = lone.log();
    let warnings = log.lines().filter(|line| line.contains("etcd failed")).count();
    assert_eq!(warnings, 1, "{log}");
    assert!(log.contains(&format!("http://{etcd}")), "{log}");
}
