//! Groups on recorded files, and on real ones of this machine: a hybrid host, so its version 2 has no controllers.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::resources::mounts::tests::{SEPARATE, TOGETHER, UNIFIED};
use crate::resources::real::Groups;

fn given(mountinfo: &str, cpuset_cgroup: &str) -> io::Result<Cgroups> {
    let resources = LinuxResources { cpuset_cgroup: cpuset_cgroup.to_owned(), ..LinuxResources::default() };
    Cgroups::within(&Mounts::parse(mountinfo), "a1.proxy", &resources)
}

fn paths(cgroups: &Cgroups) -> Vec<String> {
    let json = serde_json::to_value(cgroups).unwrap();
    let kind = json["kind"].as_object().map(|kind| kind.values().next().unwrap().clone());
    let groups = kind.into_iter().flat_map(|kind| kind.as_object().unwrap().clone());
    groups.map(|(name, path)| format!("{name} {}", path.as_str().unwrap_or("-"))).collect()
}

#[test]
fn of_version_2_the_path_that_nomad_gives_is_the_group() {
    for partition in ["share.slice", "reserve.slice"] {
        let path = format!("/sys/fs/cgroup/nomad.slice/{partition}/a1.proxy.scope");
        assert_eq!(paths(&given(UNIFIED, &path).unwrap()), [format!("scope {path}")]);
    }
}

#[test]
fn of_version_1_the_cpuset_is_given_and_the_others_follow_from_it() {
    let shared = paths(&given(SEPARATE, "/sys/fs/cgroup/cpuset/nomad/share").unwrap());
    let expected = [
        "cpu /sys/fs/cgroup/cpu/nomad/a1.proxy",
        "cpuset /sys/fs/cgroup/cpuset/nomad/share",
        "freezer /sys/fs/cgroup/freezer/nomad/a1.proxy",
        "memory /sys/fs/cgroup/memory/nomad/a1.proxy",
    ];
    assert_eq!(shared, expected);
    let reserved = paths(&given(TOGETHER, "/sys/fs/cgroup/cpuset/nomad/reserve/a1.proxy").unwrap());
    assert_eq!(reserved[0], "cpu /sys/fs/cgroup/cpu,cpuacct/nomad/a1.proxy");
    assert_eq!(reserved[1], "cpuset /sys/fs/cgroup/cpuset/nomad/reserve/a1.proxy");
    assert_eq!(reserved[2], "freezer /sys/fs/cgroup/freezer/nomad/a1.proxy");
}

#[test]
fn of_version_1_another_parent_than_nomad_is_respected_and_a_missing_controller_left_out() {
    let other = paths(&given(SEPARATE, "/sys/fs/cgroup/cpuset/prod/reserve/a1.proxy").unwrap());
    assert_eq!(other[2], "freezer /sys/fs/cgroup/freezer/prod/a1.proxy");
    let odd = paths(&given(SEPARATE, "/sys/fs/cgroup/cpuset/odd").unwrap());
    assert_eq!(odd[2], "freezer /sys/fs/cgroup/freezer/nomad/a1.proxy");
    let without: String =
        SEPARATE.lines().filter(|line| !line.ends_with("memory")).map(|line| format!("{line}\n")).collect();
    let without = paths(&given(&without, "/sys/fs/cgroup/cpuset/nomad/share").unwrap());
    assert_eq!(without[3], "memory -");
}

#[test]
fn without_a_path_there_are_no_groups_and_a_wrong_path_is_an_error() {
    let none = given(UNIFIED, "").unwrap();
    assert_eq!((&none, none.oom_kills(), none.processes()), (&Cgroups::default(), 0, Vec::new()));
    assert!(none.join().is_ok() && none.kill_all().is_ok() && none.limit(&Limits::default()).is_empty());
    let error = given(UNIFIED, "/var/lib/x").unwrap_err();
    assert!(error.to_string().contains("/var/lib/x"), "{error}");
}

#[test]
fn groups_are_the_same_after_they_have_been_written_down() {
    for cgroups in [
        Cgroups::default(),
        given(UNIFIED, "/sys/fs/cgroup/nomad.slice/share.slice/a1.proxy.scope").unwrap(),
        given(TOGETHER, "/sys/fs/cgroup/cpuset/nomad/share").unwrap(),
    ] {
        let text = serde_json::to_string(&cgroups).unwrap();
        let read: Cgroups = serde_json::from_str(&text).unwrap();
        assert_eq!((&read, &read.made), (&cgroups, &cgroups.made), "{text}");
    }
}

/// A directory with the files of a group, to see what is written into them.
fn copied(recorded: &str, files: &[&str]) -> (tempfile::TempDir, Cgroups) {
    let root = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/resources/testdata").join(recorded);
    for file in fs::read_dir(from).unwrap().flatten() {
        fs::copy(file.path(), root.path().join(file.file_name())).unwrap();
    }
    for file in files {
        fs::write(root.path().join(file), "").unwrap();
    }
    let cgroups = Cgroups { kind: Kind::V2(V2::new(root.path())), made: Vec::new() };
    (root, cgroups)
}

const WRITTEN: [&str; 5] = ["memory.max", "memory.low", "cpu.weight", "cpuset.cpus", "cgroup.procs"];

#[test]
fn of_version_2_each_limit_goes_to_its_file() {
    let (root, cgroups) = copied("v2-linux-6.1", &WRITTEN);
    let limits = Limits {
        memory: Some(536_870_912),
        memory_reserve: Some(268_435_456),
        cpu_shares: Some(500),
        cpus: Some("2,3".into()),
    };
    assert_eq!(cgroups.limit(&limits), [""; 0]);
    cgroups.join().unwrap();
    let text = WRITTEN.map(|file| fs::read_to_string(root.path().join(file)).unwrap());
    assert_eq!(text, ["536870912", "268435456", "58", "2,3", "0"]);
}

#[test]
fn of_version_2_no_ceiling_is_written_as_such_and_what_is_not_asked_for_is_left_alone() {
    let (root, cgroups) = copied("v2-linux-6.1", &WRITTEN);
    assert_eq!(cgroups.limit(&Limits::default()), [""; 0]);
    let text = WRITTEN.map(|file| fs::read_to_string(root.path().join(file)).unwrap());
    assert_eq!(text, ["max", "0", "", "", ""]);
}

#[test]
fn a_limit_that_cannot_be_set_is_named_and_the_others_are_set() {
    let (root, cgroups) = copied("v2-linux-6.1", &["memory.max", "memory.low"]);
    let warnings = cgroups.limit(&Limits { cpu_shares: Some(500), ..Limits::default() });
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("cpu.weight: No such file"), "{warnings:?}");
    assert_eq!(fs::read_to_string(root.path().join("memory.max")).unwrap(), "max");
}

#[test]
fn a_limit_whose_controller_is_not_there_is_named_only_where_one_was_wanted() {
    let (_root, cgroups) = copied("v2-without-controllers", &[]);
    assert_eq!(cgroups.limit(&Limits::default()), [""; 0]);
    assert_eq!(cgroups.limit(&Limits { memory: Some(1 << 20), ..Limits::default() }).len(), 1);
    let without: String =
        SEPARATE.lines().filter(|line| !line.ends_with("memory")).map(|line| format!("{line}\n")).collect();
    let cgroups = given(&without, "/sys/fs/cgroup/cpuset/nomad-is-not-here/share").unwrap();
    assert_eq!(cgroups.limit(&Limits::default()), [""; 0]);
    let warnings = cgroups.limit(&Limits { memory: Some(1 << 20), ..Limits::default() });
    assert_eq!(warnings, ["no cgroup hierarchy has memory.limit_in_bytes"]);
}

#[test]
fn of_version_2_the_kernels_kills_are_counted() {
    assert_eq!(copied("v2-linux-6.1", &[]).1.oom_kills(), 2);
    assert_eq!(copied("v2-linux-5.10", &[]).1.oom_kills(), 0);
    assert_eq!(copied("v2-without-controllers", &[]).1.oom_kills(), 0);
}

fn file(groups: &Groups, controller: &str, name: &str) -> String {
    let mount = Mounts::here().unwrap().controller(controller).unwrap().to_owned();
    let scope = if controller == "cpuset" { "reserve/alloc.proxy" } else { "alloc.proxy" };
    let path = mount.join(&groups.parent).join(scope).join(name);
    fs::read_to_string(path).unwrap().trim().to_owned()
}

fn left(groups: &Groups) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let groups = hierarchies.map(|hierarchy| hierarchy.path().join(&groups.parent));
    groups.filter(|path| path.exists()).collect()
}

#[test]
fn real_groups_of_version_1_are_made_limited_and_removed() {
    let groups = Groups::v1();
    let limits = Limits {
        memory: Some(64 << 20),
        memory_reserve: Some(32 << 20),
        cpu_shares: Some(500),
        cpus: Some("0".into()),
    };
    assert_eq!(groups.cgroups.limit(&limits), [""; 0]);
    assert_eq!(file(&groups, "memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file(&groups, "memory", "memory.soft_limit_in_bytes"), "33554432");
    assert_eq!(file(&groups, "cpu", "cpu.shares"), "500");
    assert_eq!(file(&groups, "cpuset", "cpuset.cpus"), "0");
    assert_eq!(groups.cgroups.limit(&Limits::default()), [""; 0]);
    let unlimited: u64 = file(&groups, "memory", "memory.limit_in_bytes").parse().unwrap();
    assert!(unlimited > 1 << 60, "{unlimited}");
    assert_eq!(left(&groups).len(), 4);
    groups.cgroups.remove();
    assert!(left(&groups).is_empty(), "{:?}", left(&groups));
}

#[test]
fn what_nomad_made_stays_and_what_was_made_here_goes() {
    let groups = Groups::v1();
    let path = Mounts::here().unwrap().controller("cpuset").unwrap().join(&groups.parent);
    let given = path.join("reserve/alloc.proxy");
    let resources =
        LinuxResources { cpuset_cgroup: given.to_string_lossy().into_owned(), ..Default::default() };
    let mut again = Cgroups::of("alloc", "proxy", &resources).unwrap();
    again.make().unwrap();
    assert_eq!(again, groups.cgroups);
    again.remove();
    assert_eq!(left(&groups).len(), 4);
    assert!(given.is_dir());
}

#[test]
fn a_group_that_keeps_forking_is_killed_to_the_last_process() {
    for groups in [Groups::v1(), Groups::v2()] {
        let _shell = groups.shell("while :; do sleep 60 & sleep 0.01; done");
        let deadline = Instant::now() + Duration::from_secs(10);
        while groups.cgroups.processes().len() < 5 {
            assert!(Instant::now() < deadline, "the shell never got going");
            thread::sleep(Duration::from_millis(10));
        }
        groups.cgroups.kill_all().unwrap();
        let running = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let running: Vec<u32> = groups.cgroups.processes().into_iter().filter(running).collect();
        assert_eq!(running, [0; 0]);
        groups.cgroups.kill_all().unwrap();
    }
}

#[test]
fn of_version_2_who_is_in_a_group_inside_is_killed_too() {
    let groups = Groups::v2();
    let mut shell = groups.shell("while :; do sleep 1; done");
    let scope = PathBuf::from(paths(&groups.cgroups)[0].strip_prefix("scope ").unwrap());
    fs::create_dir(scope.join("inside")).unwrap();
    fs::write(scope.join("inside/cgroup.procs"), shell.0.id().to_string()).unwrap();
    groups.cgroups.kill_all().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while shell.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it lives on");
        thread::sleep(Duration::from_millis(5));
    }
    // Its child was killed as well, but may take a moment longer to be gone.
    while let Err(error) = fs::remove_dir(scope.join("inside")) {
        assert!(error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline, "{error}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killing_in_groups_that_are_gone_is_no_error() {
    for groups in [Groups::v1(), Groups::v2()] {
        groups.cgroups.remove();
        groups.cgroups.kill_all().unwrap();
        assert_eq!((groups.cgroups.processes(), groups.cgroups.oom_kills()), (Vec::new(), 0));
    }
}

#[test]
fn a_real_process_that_takes_too_much_is_counted_as_killed() {
    let groups = Groups::v1();
    let limit = Limits { memory: Some(8 << 20), ..Limits::default() };
    assert_eq!(groups.cgroups.limit(&limit), [""; 0]);
    assert_eq!(groups.cgroups.oom_kills(), 0);
    // `tail` keeps the last line, which is all of it.
    let mut shell = groups.shell("head -c 67108864 /dev/zero | tail -n 1 > /dev/null");
    let status = shell.0.wait().unwrap();
    assert!(!status.success(), "{status}");
    assert_eq!(groups.cgroups.oom_kills(), 1);
}

#[test]
fn a_real_group_of_version_2_tells_its_processes_and_their_time() {
    let groups = Groups::v2();
    let shell = groups.shell("while :; do :; done");
    assert_eq!(groups.cgroups.processes(), [shell.0.id()]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while groups.cgroups.times().unwrap().user < Duration::from_millis(20) {
        assert!(Instant::now() < deadline, "{:?}", groups.cgroups.times());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((groups.cgroups.memory(), groups.cgroups.throttled()), (None, None));
}
