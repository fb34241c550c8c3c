//! A machine that lacks something which a connection to a server needs.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::lone::Lone;
use crate::primary::Primary;

/// The numbers of the process's open descriptors.
fn open_descriptors(pid: u32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let number = |entry: fs::DirEntry| entry.file_name().to_str().unwrap().parse().unwrap();
    let mut open: Vec<u64> = entries.map(|entry| number(entry.unwrap())).collect();
    open.sort_unstable();
    open
}

/// Leaves the process one descriptor: enough to accept a client, and none for its server.
fn leave_one_descriptor(lone: &Lone) {
    let pid = lone.child.id();
    lone.wait("nothing more is opened or closed", |_| {
        let before = open_descriptors(pid);
        std::thread::sleep(Duration::from_millis(300));
        before == open_descriptors(pid)
    });
    let open = open_descriptors(pid);
    let free = (0..).find(|number| !open.contains(number)).unwrap();
    let limit = Rlimit { current: Some(free + 1), ..getrlimit(Resource::Nofile) };
    prlimit(Pid::from_raw(i32::try_from(pid).unwrap()), Resource::Nofile, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_descriptors_is_one_warning_and_no_fault_of_the_server() {
    let leader = Primary::start().await;
    let lone = Lone::start(&format!(
        "cluster.members = [\"{}\"]\nprobe.sslmode = \"disable\"\nprobe.interval = \"100ms\"\n\
         probe.connect_interval = \"60s\"\nwrite.hold_timeout = \"6s\"\nlog.filter = \"warn\"",
        leader.addr
    ));
    let leads = |lone: &Lone| lone.get("/leader").is_some_and(|told| told.contains("epoch"));
    lone.wait("the leader is known", leads);
    leave_one_descriptor(&lone);
    let fault =
        format!("the proxy cannot connect to {} at {}: no file descriptor is left", leader.addr, leader.addr);

    std::thread::scope(|scope| {
        let first = scope.spawn(|| lone.rejection());
        lone.wait("the fault is logged", |lone| lone.log().contains(&fault));
        leader.set_in_recovery(true);
        let told = first.join().unwrap();
        assert!(told.contains("57P03") && told.contains("in recovery") && told.contains(&fault), "{told}");
    });
    leader.set_in_recovery(false);
    lone.wait("the leader is known again", leads);
    let told = lone.rejection();
    assert!(told.contains("57P03") && told.contains(&fault), "{told}");
    let log = lone.log();
    assert_eq!(log.matches(&fault).count(), 1, "it is one state, however many clients and attempts: {log}");
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&fault)), "{log}");
}
