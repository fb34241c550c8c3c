//! Samples of recorded groups and of real ones.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nomad_plugin_proto::driver::{MemoryUsage, TaskResourceUsage};

use super::*;
use crate::resources::real::Groups;
use crate::resources::usage::{Memory, Throttled};

/// A recorded group with this process in it.
fn recorded(name: &str) -> (tempfile::TempDir, Meter) {
    let root = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/resources/testdata").join(name);
    for file in fs::read_dir(from).unwrap().flatten() {
        fs::copy(file.path(), root.path().join(file.file_name())).unwrap();
    }
    let myself = std::process::id();
    fs::write(root.path().join("cgroup.procs"), format!("{myself}\n")).unwrap();
    let scope = root.path().to_string_lossy();
    let json = serde_json::json!({ "kind": { "v2": { "scope": scope } }, "made": [] });
    let cgroups: Cgroups = serde_json::from_value(json).unwrap();
    (root, Meter::new(cgroups, myself, Some(2600.0)))
}

const LATER: &str = "usage_usec 9500000\nuser_usec 6500000\nsystem_usec 3000000\nnr_periods 150\n\
                     nr_throttled 14\nthrottled_usec 345700\n";

#[test]
fn of_version_2_percent_and_mhz_are_exact_over_the_interval() {
    let (root, mut meter) = recorded("v2-linux-6.1");
    let start = Instant::now();
    let first = meter.sample_at(start).unwrap().all;
    assert_eq!((first.cpu.percent, first.cpu.user, first.cpu.ticks), (0.0, 0.0, Some(0.0)));
    assert_eq!(first.cpu.throttled, Some(Throttled { periods: 12, time: Duration::from_micros(345_678) }));

    fs::write(root.path().join("cpu.stat"), LATER).unwrap();
    let second = meter.sample_at(start + Duration::from_secs(4)).unwrap().all;
    let cpu = (second.cpu.percent, second.cpu.user, second.cpu.system, second.cpu.ticks);
    assert_eq!(cpu, (50.0, 37.5, 12.5, Some(1300.0)));
    assert_eq!(second.cpu.throttled.unwrap().periods, 14);

    let third = meter.sample_at(start + Duration::from_secs(5)).unwrap().all;
    assert_eq!((third.cpu.percent, third.cpu.ticks), (0.0, Some(0.0)));
}

#[test]
fn of_version_2_exactly_what_was_measured_is_named() {
    use nomad_plugin_proto::driver::memory_usage::Fields;
    let measured = |name| {
        let usage: TaskResourceUsage = (&recorded(name).1.sample().unwrap().all).into();
        (usage.cpu.unwrap().measured_fields, usage.memory.unwrap().measured_fields)
    };
    let fields = |fields: &[Fields]| fields.iter().map(|field| i32::from(*field)).collect::<Vec<_>>();
    let (cpu, memory) = measured("v2-linux-6.1");
    assert_eq!(cpu, [0, 1, 5, 2, 3, 4]);
    assert_eq!(
        memory,
        fields(&[
            Fields::Rss,
            Fields::Cache,
            Fields::MaxUsage,
            Fields::KernelUsage,
            Fields::Usage,
            Fields::Swap
        ])
    );
    let (_, memory) = measured("v2-linux-5.10");
    assert_eq!(memory, fields(&[Fields::Rss, Fields::Cache, Fields::KernelUsage, Fields::Usage]));
    let (cpu, memory) = measured("v2-without-controllers");
    assert_eq!(cpu, [0, 1, 5, 2]);
    assert_eq!(memory, fields(&[Fields::Rss, Fields::MaxUsage, Fields::Swap]), "those of the main process");
}

#[test]
fn a_group_that_vanishes_ends_the_samples() {
    let (root, mut meter) = recorded("v2-linux-6.1");
    assert!(meter.sample().is_some());
    drop(root);
    assert_eq!(meter.sample(), None);
}

#[test]
fn another_process_of_the_same_pid_is_not_the_task() {
    let (_root, mut meter) = recorded("v2-linux-6.1");
    meter.start = meter.start.map(|start| start + 1);
    assert_eq!(meter.sample(), None);
}

#[test]
fn without_cgroups_the_main_process_is_measured() {
    let mut meter = Meter::new(Cgroups::default(), std::process::id(), None);
    let usage = meter.sample().unwrap();
    let memory = usage.all.memory;
    assert!(memory.rss.is_some_and(|rss| rss > 1 << 20) && memory.max_usage >= memory.rss, "{memory:?}");
    assert_eq!((memory.usage, memory.cache, usage.all.cpu.ticks), (None, None, None));
    assert_eq!(usage.by_pid.keys().copied().collect::<Vec<_>>(), [std::process::id()]);
    assert!(usage.pids().contains_key(&std::process::id().to_string()));
}

#[test]
fn a_real_task_on_version_1_is_measured_until_it_ends() {
    let groups = Groups::v1();
    let shell = groups.shell("sleep 60 & while :; do :; done");
    let mut meter = Meter::new(groups.cgroups.clone(), shell.0.id(), Some(2600.0));
    let first = meter.sample().unwrap().all;
    assert_eq!(first.cpu.percent, 0.0);
    thread::sleep(Duration::from_millis(500));
    let Usage { all, by_pid } = meter.sample().unwrap();
    // Other people's work may take most of the machine, but a whole core is the most that one loop can use.
    assert!(all.cpu.percent > 5.0 && all.cpu.percent < 115.0, "{:?}", all.cpu);
    assert!((all.cpu.user + all.cpu.system - all.cpu.percent).abs() < 0.01, "{:?}", all.cpu);
    assert!((all.cpu.ticks.unwrap() - all.cpu.percent * 26.0).abs() < 0.01);
    assert_eq!(all.cpu.throttled, Some(Throttled { periods: 0, time: Duration::ZERO }));
    let busy = &by_pid[&shell.0.id()];
    assert!(busy.cpu.percent > 5.0 && busy.memory.rss.is_some(), "{busy:?}");
    assert_eq!(by_pid.len(), 2, "the shell and its sleep");
    groups.cgroups.kill_all().unwrap();
    assert_eq!(meter.sample(), None);
}

#[test]
fn real_memory_of_version_1_is_told_with_what_the_kernel_accounts_for() {
    let groups = Groups::v1();
    let shell = groups.shell("x=$(head -c 8388608 /dev/zero | tr '\\0' x); sleep 60; echo $x");
    let mut meter = Meter::new(groups.cgroups.clone(), shell.0.id(), None);
    let deadline = Instant::now() + Duration::from_secs(20);
    let memory = loop {
        let memory = meter.sample().unwrap().all.memory;
        if memory.rss > Some(8 << 20) {
            break memory;
        }
        assert!(Instant::now() < deadline, "{memory:?}");
        thread::sleep(Duration::from_millis(20));
    };
    let Memory { usage, max_usage, kernel, cache, .. } = memory;
    assert!(usage >= memory.rss && max_usage >= usage, "{memory:?}");
    assert!(kernel.is_some() && cache.is_some(), "{memory:?}");
    let told: MemoryUsage = (&memory).into();
    assert!(told.measured_fields.len() >= 6, "{told:?}");
}

#[test]
fn at_most_sixteen_processes_are_shown_and_the_main_one_is_among_them() {
    let groups = Groups::v1();
    let shell =
        groups.shell("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 60 & done; wait");
    let deadline = Instant::now() + Duration::from_secs(10);
    while groups.cgroups.processes().len() < 21 {
        assert!(Instant::now() < deadline, "the shell never got going");
        thread::sleep(Duration::from_millis(10));
    }
    let usage = Meter::new(groups.cgroups.clone(), shell.0.id(), None).sample().unwrap();
    assert_eq!(usage.by_pid.len(), PIDS_SHOWN);
    assert!(usage.by_pid.contains_key(&shell.0.id()));
}
