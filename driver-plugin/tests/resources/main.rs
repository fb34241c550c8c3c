//! Real cgroups of this machine: limits, kills, out-of-memory, statistics. They need root and cgroup version 1.
#![allow(clippy::unwrap_used, dead_code, reason = "a test; not all of the shared module is used")]

#[path = "../support/cgroups.rs"]
mod cgroups_of_task;

use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use cgroups_of_task::TaskCgroups;
use nomad_driver_pg_leader_proxy::resources::{CgroupMode, Limits, StatsCollector};
use nomad_plugin_proto::driver::MemoryUsage;
use nomad_plugin_proto::driver::memory_usage::Fields;

/// Beyond anything that these processes take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn this_machine_has_version_1() {
    assert_eq!(CgroupMode::of_host(), CgroupMode::V1);
}

#[test]
fn limits_of_version_1_are_set() {
    let task = TaskCgroups::v1();
    let limits = Limits {
        memory: Some(64 << 20),
        memory_reserve: Some(32 << 20),
        cpu_shares: Some(500),
        cpus: Some("0".into()),
    };
    assert_eq!(task.cgroups.limit(&limits), [""; 0]);
    let file = |controller: &str, name: &str| {
        fs::read_to_string(task.of_controller(controller).join(name)).unwrap().trim().to_owned()
    };
    assert_eq!(file("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file("memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(file("cpu", "cpu.shares"), "500");
    assert_eq!(file("cpuset", "cpuset.cpus"), "0");
}

#[test]
fn processes_that_keep_forking_are_killed_to_the_last_one() {
    for task in [TaskCgroups::v1(), TaskCgroups::v2()] {
        let _shell = task.shell("while :; do sleep 60 & sleep 0.01; done");
        until("the shell forks", || task.cgroups.pids().len() >= 5);
        task.cgroups.kill_all().unwrap();
        let running = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let running: Vec<u32> = task.cgroups.pids().into_iter().filter(running).collect();
        assert_eq!(running, [0; 0]);
        task.cgroups.kill_all().unwrap();
    }
}

#[test]
fn processes_in_an_inner_cgroup_of_version_2_are_killed_too() {
    let task = TaskCgroups::v2();
    let mut shell = task.shell("while :; do sleep 1; done");
    let inner = task.groups[0].join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("cgroup.procs"), shell.0.id().to_string()).unwrap();
    until("the outer one is empty", || {
        fs::read_to_string(task.groups[0].join("cgroup.procs")).unwrap().is_empty()
    });
    task.cgroups.kill_all().unwrap();
    until("it is killed", || shell.0.try_wait().unwrap().is_some());
    until("its child is gone", || match fs::remove_dir(&inner) {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ResourceBusy, "{error}");
            false
        }
        Ok(()) => true,
    });
}

#[test]
fn cgroups_that_were_removed_have_no_processes_to_kill() {
    for task in [TaskCgroups::v1(), TaskCgroups::v2()] {
        for group in &task.groups {
            fs::remove_dir(group).unwrap();
        }
        task.cgroups.kill_all().unwrap();
        assert_eq!((task.cgroups.pids(), task.cgroups.oom_kills()), (Vec::new(), 0));
    }
}

#[test]
fn a_process_that_exceeds_the_memory_limit_is_counted() {
    let task = TaskCgroups::v1();
    let limit = Limits { memory: Some(8 << 20), ..Limits::default() };
    assert_eq!(task.cgroups.limit(&limit), [""; 0]);
    assert_eq!(task.cgroups.oom_kills(), 0);
    // `tail` keeps the last line, which is all of it.
    let mut shell = task.shell("head -c 67108864 /dev/zero | tail -n 1 > /dev/null");
    let status = shell.0.wait().unwrap();
    assert!(!status.success(), "{status}");
    assert_eq!(task.cgroups.oom_kills(), 1);
}

#[test]
fn a_task_is_measured_until_it_exits() {
    let task = TaskCgroups::v1();
    let shell = task.shell("sleep 60 & while :; do :; done");
    let mut collector = StatsCollector::new(task.cgroups.clone(), shell.0.id(), Some(2600.0));
    assert_eq!(collector.sample().unwrap().all.cpu.unwrap().percent, 0.0);
    thread::sleep(Duration::from_millis(500));
    let sample = collector.sample().unwrap();
    let cpu = sample.all.cpu.unwrap();
    // Others may use most of the machine, and one loop can use a whole core at most.
    assert!(cpu.percent > 5.0 && cpu.percent < 115.0, "{cpu:?}");
    assert!((cpu.total_ticks - cpu.percent * 26.0).abs() < 0.01, "{cpu:?}");
    assert_eq!(sample.by_pid.len(), 2, "the shell and its sleep");
    let busy = sample.by_pid[&shell.0.id().to_string()].cpu.as_ref().unwrap();
    assert!(busy.percent > 5.0, "{busy:?}");
    task.cgroups.kill_all().unwrap();
    assert_eq!(collector.sample(), None);
}

#[test]
fn memory_has_the_figures_of_the_processes_and_of_the_cgroup() {
    let task = TaskCgroups::v1();
    let shell = task.shell("x=$(head -c 8388608 /dev/zero | tr '\\0' x); sleep 60; echo $x");
    let mut collector = StatsCollector::new(task.cgroups.clone(), shell.0.id(), None);
    let mut memory = None;
    until("the shell has its memory", || {
        memory = collector.sample().unwrap().all.memory;
        let MemoryUsage { rss, usage, .. } = memory.as_ref().unwrap();
        *rss > 8 << 20 && *usage > 8 << 20
    });
    let memory = memory.unwrap();
    assert!(memory.max_usage >= memory.usage, "{memory:?}");
    let fields = [Fields::Rss, Fields::Swap, Fields::Usage, Fields::MaxUsage].map(i32::from);
    assert_eq!(memory.measured_fields, fields);
}

#[test]
fn the_number_of_measured_processes_is_bounded_and_the_main_one_is_among_them() {
    let task = TaskCgroups::v1();
    let shell = task.shell("for i in $(seq 40); do sleep 60 & done; wait");
    until("all run", || task.cgroups.pids().len() == 41);
    let sample = StatsCollector::new(task.cgroups.clone(), shell.0.id(), None).sample().unwrap();
    assert_eq!(sample.by_pid.len(), 32);
    assert!(sample.by_pid.contains_key(&shell.0.id().to_string()));
}
