//! `ready.sh`: what it refuses before Patroni starts, with a stand-in for etcd and for PostgreSQL's `postgres`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::thread;

use crate::scene::Scene;

/// Answers every request to `/health` with this body; the thread ends with the test's process.
fn etcd(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            // Whole, because closing with bytes unread would be a reset.
            for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                if line.is_empty() {
                    break;
                }
                request.push_str(&line);
            }
            assert!(request.starts_with("GET /health"), "{request:?}");
            let _ = write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    format!("http://{address}")
}

const HEALTHY: &str = r#"{"health":"true","reason":""}"#;

fn scene() -> Scene {
    let scene = Scene::new("/bin/bash", "database/ready.sh")
        .stand_in("pg/postgres", "echo 'postgres (PostgreSQL) 16.10 (Debian 16.10-1)'")
        .set("DATABASE_FOLDER", "/opt/timescaledb-ha")
        .set("ETCD_ENDPOINTS", &etcd(HEALTHY));
    fs::create_dir_all(scene.path("home/data")).unwrap();
    let (home, programs) =
        (scene.path("home").display().to_string(), scene.path("bin/pg").display().to_string());
    scene.set("DATABASE_HOME", &home).set("DATABASE_BIN", &programs)
}

#[test]
fn a_new_and_an_old_directory_pass() {
    let scene = scene();
    scene.passes(&[]);
    fs::write(scene.path("home/data/PG_VERSION"), "16\n").unwrap();
    scene.passes(&[]);
}

#[test]
fn another_owner_is_told_with_the_command_that_mends_it() {
    let scene = scene();
    chown(scene.path("home"), Some(1000), Some(1000)).unwrap();
    scene.refuses(
        &[],
        &[
            "/opt/timescaledb-ha belongs to uid 1000, PostgreSQL runs as 0",
            "sudo chown -R 0:0 /opt/timescaledb-ha",
        ],
    );
}

#[test]
fn a_missing_directory_is_told() {
    scene()
        .set("DATABASE_HOME", "/no/such")
        .refuses(&[], &["/opt/timescaledb-ha does not exist", "sudo install -d"]);
}

#[test]
fn data_of_another_major_is_told() {
    let scene = scene();
    fs::write(scene.path("home/data/PG_VERSION"), "15\n").unwrap();
    scene.refuses(&[], &["is of PostgreSQL 15, the programs", "are of 16"]);
}

#[test]
fn missing_programs_are_told() {
    scene()
        .set("DATABASE_BIN", "/usr/lib/postgresql/99/bin")
        .refuses(&[], &["there is no /usr/lib/postgresql/99/bin/postgres"]);
}

#[test]
fn one_healthy_etcd_is_enough_and_none_is_refused() {
    let sick = etcd(r#"{"health":"false","reason":"RAFT NO LEADER"}"#);
    let silent = "http://127.0.0.1:1";
    scene().set("ETCD_ENDPOINTS", &format!("{silent} {sick} {}", etcd(HEALTHY))).passes(&[]);
    scene()
        .set("ETCD_ENDPOINTS", &format!("{silent} {sick}"))
        .refuses(&[], &["no etcd endpoint is healthy: http://127.0.0.1:1"]);
}

#[test]
fn every_fault_is_told_at_once() {
    let scene = scene().set("ETCD_ENDPOINTS", "http://127.0.0.1:1").set("DATABASE_HOME", "/no/such");
    scene.refuses(&[], &["does not exist", "no etcd endpoint is healthy"]);
}
