//! Paths and error cases, without real cgroups. `tests/resources` has the others.

use super::*;

#[test]
fn of_version_1_the_other_directories_follow_from_the_cpuset() {
    let groups = |cpuset: &str, parent: &str| Cgroups::V1 {
        freezer: format!("/sys/fs/cgroup/freezer/{parent}/a1.proxy").into(),
        memory: format!("/sys/fs/cgroup/memory/{parent}/a1.proxy").into(),
        cpu: format!("/sys/fs/cgroup/cpu/{parent}/a1.proxy").into(),
        cpuset: cpuset.into(),
    };
    for (cpuset, parent) in [
        ("/sys/fs/cgroup/cpuset/nomad/share", "nomad"),
        ("/sys/fs/cgroup/cpuset/nomad/reserve/a1.proxy", "nomad"),
        ("/sys/fs/cgroup/cpuset/prod/reserve/a1.proxy", "prod"),
    ] {
        assert_eq!(Cgroups::v1(Path::new(cpuset), "a1.proxy"), Some(groups(cpuset, parent)));
    }
}

fn given(path: &Path) -> io::Result<Cgroups> {
    let cpuset_cgroup = path.to_string_lossy().into_owned();
    Cgroups::of("a1", "proxy", &LinuxResources { cpuset_cgroup, ..LinuxResources::default() })
}

#[test]
fn a_path_without_a_cgroup_is_an_error_that_names_it() {
    for path in
        ["/var/lib/x", "/sys/fs/cgroup/cpuset/nomad-is-not-here/share", "/sys/fs/cgroup/nomad.slice/no"]
    {
        let error = given(Path::new(path)).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
}

#[test]
fn without_a_path_there_are_no_cgroups() {
    let none = given(Path::new("")).unwrap();
    assert_eq!((&none, none.oom_kills(), none.pids()), (&Cgroups::None, 0, Vec::new()));
    let limits = Limits { memory: Some(1), ..Limits::default() };
    assert!(none.join().is_ok() && none.kill_all().is_ok() && none.limit(&limits).is_empty());
}

/// A directory with these files, as version 2.
fn v2(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroups) {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files.iter().chain(&[("cgroup.controllers", "cpu memory")]) {
        fs::write(root.path().join(name), text).unwrap();
    }
    let cgroups = given(root.path()).unwrap();
    (root, cgroups)
}

#[test]
fn of_version_2_every_limit_has_its_file_and_a_missing_one_is_reported() {
    let files = ["memory.max", "memory.low", "cpu.weight", "cpuset.cpus", "cgroup.procs"];
    let (root, cgroups) = v2(&files.map(|name| (name, "")));
    let limits = Limits {
        memory: Some(536_870_912),
        memory_reserve: Some(268_435_456),
        cpu_shares: Some(500),
        cpus: Some("2,3".into()),
    };
    assert_eq!(cgroups.limit(&limits), [""; 0]);
    cgroups.join().unwrap();
    let text = |name| fs::read_to_string(root.path().join(name)).unwrap();
    assert_eq!(files.map(text), ["536870912", "268435456", "58", "2,3", "0"]);

    fs::remove_file(root.path().join("cpu.weight")).unwrap();
    let warnings = cgroups.limit(&limits);
    assert!(warnings.len() == 1 && warnings[0].contains("cpu.weight: No such file"), "{warnings:?}");
    assert!(!root.path().join("cpu.weight").exists(), "it is not created");
}

#[test]
fn of_version_2_oom_kills_and_memory_are_read() {
    let (_root, cgroups) = v2(&[
        ("memory.events", "low 0\nhigh 0\nmax 5\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ("memory.current", "21532672\n"),
        ("memory.peak", "29970432\n"),
    ]);
    assert_eq!(cgroups.oom_kills(), 2);
    assert_eq!(cgroups.memory(), (Some(21_532_672), Some(29_970_432)));
    let (_root, without_controller) = v2(&[]);
    assert_eq!((without_controller.oom_kills(), without_controller.memory()), (0, (None, None)));
}

#[test]
fn a_process_that_does_not_end_is_named_after_a_bounded_time() {
    let (_root, cgroups) =
        v2(&[("cgroup.procs", &format!("0\n{}\n", std::process::id())), ("cgroup.kill", "")]);
    let error = cgroups.kill_all().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn cgroups_survive_json() {
    let v1 = Cgroups::v1(Path::new("/sys/fs/cgroup/cpuset/nomad/share"), "a1.proxy").unwrap();
    for cgroups in [Cgroups::None, v1, Cgroups::V2 { scope: "/sys/fs/cgroup/x.scope".into() }] {
        let text = serde_json::to_string(&cgroups).unwrap();
        assert_eq!(serde_json::from_str::<Cgroups>(&text).unwrap(), cgroups);
    }
}
