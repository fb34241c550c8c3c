//! The process without a cluster: its log, its descriptors, its addresses, its reloads and its exit codes.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;

use lone::{Lone, config, member, program, words};
use running::PROGRAM;
use rustix::process::Signal;

#[path = "../hung_file/mod.rs"]
mod hung_file;
#[path = "../loopback/mod.rs"]
mod loopback;
#[path = "../supervisor_link/primary.rs"]
mod primary;
#[path = "../running/mod.rs"]
mod running;

mod hung_files;
mod local_faults;
mod lone;
mod starting;
mod worker_panic;

/// A proxy that logs a lot into a pipe that nobody reads, until lines are dropped.
fn unread() -> Lone {
    let much = "log.filter = \"trace\"\nprobe.interval = \"10ms\"";
    let lone = Lone::launch(Command::new(PROGRAM), much, |_| Stdio::piped());
    lone.wait("lines are dropped", |lone| lone.metric("log_lines_dropped_total") > 0.0);
    assert_eq!(lone.get("/live").as_deref(), Some("alive\n"));
    lone
}

#[test]
fn a_log_that_nobody_reads_stops_neither_the_admin_address_nor_signals() {
    let mut lone = unread();
    lone.signal(Signal::TERM);
    assert!(lone.wait_end().success());
}

#[test]
fn a_log_that_is_read_again_tells_how_many_lines_are_missing() {
    let mut lone = unread();
    let log = BufReader::new(lone.child.stderr.take().unwrap());
    lone.reload("log.filter = \"warn\"\nprobe.interval = \"10ms\"");
    let told = log.lines().map(Result::unwrap).find(|line| line.contains("log lines dropped"));
    assert!(told.unwrap().contains("WARN"));
}

#[test]
fn a_reload_is_applied_completely_or_not_at_all() {
    let lone = Lone::start("write.hold_timeout = \"30s\"");
    lone.reload("log.filter = \"debug\"\nwrite.hold_timeout = \"31s\"");
    lone.wait("the first is applied", |lone| {
        lone.metric("config_reloads_total{cluster=\"static\",result=\"applied\"}") == 1.0
    });
    lone.wait("the filter is in force", |lone| lone.log().contains("DEBUG"));

    lone.reload("log.filter = \"info\"\nlog.format = \"json\"");
    lone.wait("the second is refused", |lone| {
        lone.log().contains("log.format can only change with a restart")
    });
    assert_eq!(lone.metric("config_reload_refused"), 1.0);
    let before = lone.log().matches("DEBUG").count();
    lone.wait("the filter has not changed", |lone| lone.log().matches("DEBUG").count() > before);

    lone.reload("log.filter = \"info\"");
    lone.wait("the third is applied", |lone| {
        lone.metric("config_reloads_total{cluster=\"static\",result=\"applied\"}") == 2.0
    });
    assert_eq!(lone.metric("config_reload_refused"), 0.0);
    assert!(lone.metric("config_age_seconds") < lone.metric("uptime_seconds"));
}

#[test]
fn an_address_is_not_shared_by_mistake() {
    let first = Lone::start("cluster.scope = \"one\"");
    let taken = first.write().to_string();
    let other = first.directory.path().join("other.toml");
    let text = config(first.address, "cluster.scope = \"other\"").replace(":9433", ":9434");
    fs::write(&other, text).unwrap();
    let other = other.to_str().unwrap();
    let second = program(&["run", "--config", other]);
    assert_eq!(second.status.code(), Some(1), "{}", words(&second));
    assert!(words(&second).contains(&format!("write.listen: cannot listen on {taken}, because another")));
    let check = program(&["check", "--connect", "--config", other]);
    assert!(
        words(&check).contains(&format!("error    write.listen {taken}: not available")),
        "{}",
        words(&check)
    );
    let own = program(&["check", "--connect", "--config", &first.config_file()]);
    assert!(
        words(&own).contains(&format!("ok       write.listen {taken}: in use by the proxy of this cluster")),
        "{}",
        words(&own)
    );
}

#[test]
fn check_takes_no_other_program_for_the_running_proxy() {
    let running = Lone::start("");
    let other = TcpListener::bind((running.address, 5434)).unwrap();
    let taken = other.local_addr().unwrap();
    let file = running.directory.path().join("changed.toml");
    fs::write(&file, config(running.address, "").replace(":5433", ":5434")).unwrap();
    let check = words(&program(&["check", "--connect", "--config", file.to_str().unwrap()]));
    let expected = format!("error    write.listen {taken}: not available: in use by another program");
    assert!(check.contains(&expected), "{check}");
    let admin =
        format!("ok       admin.listen {}:9433: in use by the proxy of this cluster", running.address);
    assert!(check.contains(&admin), "{check}");
}

#[test]
fn a_successor_shares_the_addresses_when_both_ask_for_it() {
    let mut first = Lone::start("session.so_reuseport = true");
    let log = first.directory.path().join("second");
    let mut second = Command::new(PROGRAM)
        .args(["run", "--config", &first.config_file()])
        .stdin(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    first.wait("the second listens", |_| fs::read_to_string(&log).unwrap().contains("listening"));
    first.signal(Signal::TERM);
    assert!(first.wait_end().success());
    assert_eq!(first.get("/live").as_deref(), Some("alive\n"), "the second answers");
    TcpStream::connect(first.write()).unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn status_reads_the_configuration_and_its_exit_code_says_what_it_found() {
    let mut lone = Lone::start("");
    let file = lone.config_file();
    let status = || program(&["status", "--config", &file]);
    let held = status();
    assert_eq!(held.status.code(), Some(1), "{}", words(&held));
    assert!(words(&held).contains("writes wait"), "{}", words(&held));
    assert_eq!(program(&["status", "--config", &file, "--json"]).status.code(), Some(1));
    lone.signal(Signal::TERM);
    lone.wait_end();
    let gone = status();
    assert_eq!(gone.status.code(), Some(2), "{}", words(&gone));
    assert!(words(&gone).contains(&format!("{}:9433", lone.address)), "{}", words(&gone));
    let nowhere = program(&["status", "--config", "/nowhere.toml"]);
    assert_eq!(nowhere.status.code(), Some(78), "{}", words(&nowhere));
}

#[test]
fn a_password_that_is_no_text_is_named() {
    let check = Command::new(PROGRAM)
        .args(["check", "--member", "127.0.0.1:1", "--probe-user", "monitor"])
        .env("PGLP_PROBE_PASSWORD", OsStr::from_bytes(b"caf\xe9"))
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(78), "{}", words(&check));
    let told = words(&check);
    assert!(told.contains("PGLP_PROBE_PASSWORD is not valid UTF-8") && !told.contains("caf"), "{told}");
}

#[test]
fn silent_clients_take_no_descriptor_from_probes_and_the_admin_address() {
    let (member, probes) = member();
    let members = format!("cluster.members = [\"{member}\"]\nprobe.interval = \"50ms\"");
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=48:48", PROGRAM]);
    let lone = Lone::launch(limited, &members, |log| log.into());
    let connect = || TcpStream::connect(lone.write()).unwrap();
    let silent: Vec<TcpStream> = (0..80).map(|_| connect()).collect();
    let (lines, probed) = (lone.log().lines().count(), probes.load(Relaxed));
    lone.wait("servers are still probed", |_| probes.load(Relaxed) > probed + 40);
    // More than the descriptors that are left to the admin address.
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect((lone.address, 9433)).unwrap()).collect();
    assert_eq!(lone.get("/live").as_deref(), Some("alive\n"));
    let log = lone.log();
    assert!(log.contains("the limit of open files allows fewer sessions than session.max_sessions"), "{log}");
    assert!(!log.contains("cannot accept"), "{log}");
    let more = log.lines().skip(lines).count();
    assert!(more < 10, "{more} lines in two seconds: {log}");
    drop((silent, idle));
}
