//! Everything the guard waits for, and that each wait has a bound.

use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::scene::{Ended, KEY, Scene, status};

const NEEDS_LOGIN: &str = r#"{"BackendState":"NeedsLogin","Self":{"Online":false}}"#;

#[test]
fn a_tailscaled_that_never_answers_is_given_up() {
    let silent = Scene::new();
    std::fs::remove_file(silent.path("status")).unwrap();
    let ended = silent.run(&[]);
    assert_eq!(ended.code, Some(3), "{}", ended.log);
    assert!(ended.took >= Duration::from_secs(2), "gave up after {:?}", ended.took);
    assert!(silent.selected().is_empty());

    let hanging = Scene::new().set("TS_GUARD_DEADLINE", "3").with("status-hangs", "");
    let ended = hanging.run(&[]);
    assert!([Some(3), Some(5)].contains(&ended.code), "{:?} {}", ended.code, ended.log);
}

#[test]
fn a_tailscaled_that_is_not_online_is_given_up() {
    for text in
        [r#"{"BackendState":"Running","Self":{"Online":false}}"#, r#"{"BackendState":"Stopped"}"#, "no JSON"]
    {
        let ended = Scene::new().with("status", text).run(&[]);
        assert_eq!(ended.code, Some(3), "{}", ended.log);
    }
}

#[test]
fn a_tailscaled_that_comes_late_is_waited_for() {
    let scene = Scene::new().set("TS_WAIT_SECONDS", "30");
    std::fs::remove_file(scene.path("status")).unwrap();
    let child = scene.start(&[]);
    let began = Instant::now();
    sleep(Duration::from_secs(2));
    scene.write("status", &status("", false));
    let ended = scene.ended(&child.wait_with_output().unwrap(), began.elapsed());
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn without_a_key_nobody_logs_in() {
    let scene = Scene::new().with("status", NEEDS_LOGIN);
    let ended = scene.run(&[]);
    assert_eq!(ended.code, Some(3), "{}", ended.log);
    assert!(ended.log.contains("state=NeedsLogin"));
    assert!(!scene.calls().contains(" up "), "{}", scene.calls());
}

#[test]
fn with_a_key_there_is_one_login_and_the_key_is_in_a_file_only() {
    let scene = Scene::new()
        .with("status", NEEDS_LOGIN)
        .with("status.logged-in", &status("", false))
        .set("TS_AUTHKEY", KEY);
    let ended = scene.run(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(scene.calls().matches(" up ").count(), 1);
    assert_eq!(scene.read("key"), KEY);
    assert_eq!(scene.read("key-mode").trim(), "600");
}

#[test]
fn a_set_that_hangs_ends_with_the_deadline() {
    let scene = Scene::new().set("TS_GUARD_DEADLINE", "3").with("set-hangs.primary", "");
    let ended = scene.run(&[]);
    assert!([Some(4), Some(5)].contains(&ended.code), "{:?} {}", ended.code, ended.log);
    assert!(ended.took >= Duration::from_secs(2), "gave up after {:?}", ended.took);
    assert_eq!(scene.read("state"), "");
}

fn terminate(child: &Child) {
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
}

/// Processes that carry this text in their command line.
fn processes_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path().join("cmdline");
        let line = std::fs::read_to_string(path).unwrap_or_default().replace('\0', " ");
        if line.contains(text) {
            found.push(line);
        }
    }
    found
}

#[test]
fn a_termination_ends_the_guard_and_its_children() {
    let scene = Scene::new().with("set-hangs.primary", "");
    let child = scene.start(&[]);
    let place = scene.path("bin").display().to_string();
    eventually("the guard waits for tailscale", || !processes_of(&place).is_empty());
    let began = Instant::now();
    terminate(&child);
    let ended = scene.ended(&child.wait_with_output().unwrap(), began.elapsed());
    assert_eq!(ended.code, Some(143), "{}", ended.log);
    assert!(ended.took < Duration::from_secs(5), "took {:?}", ended.took);
    eventually("no child is left", || processes_of(&place).is_empty());
}

#[test]
fn the_watch_moves_to_a_fallback_when_the_primary_goes() {
    let scene = Scene::new();
    let child = scene.start(&["--watch", "1"]);
    eventually("the primary is selected", || scene.read("state").contains("SELECTED_EXIT_NODE=primary"));
    scene.write("status.primary", &status("primary", false));
    eventually("the fallback is selected", || scene.read("state").contains("SELECTED_EXIT_NODE=fallback"));
    terminate(&child);
    let ended = scene.ended(&child.wait_with_output().unwrap(), Duration::ZERO);
    assert_eq!(ended.code, Some(143), "{}", ended.log);
}

#[test]
fn the_watch_ends_when_every_node_goes() {
    let scene = Scene::new();
    let child = scene.start(&["--watch", "1"]);
    eventually("the primary is selected", || scene.read("state").contains("SELECTED_EXIT_NODE=primary"));
    scene.write("status.fallback", &status("fallback", false));
    scene.write("answer.primary", "198.51.100.7");
    let ended: Ended = scene.ended(&child.wait_with_output().unwrap(), Duration::ZERO);
    assert_eq!(ended.code, Some(4), "{}", ended.log);
    assert!(ended.log.contains("rejected node=primary reason=address-not-expected"));
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited 30 s: {what}");
        sleep(Duration::from_millis(50));
    }
}
