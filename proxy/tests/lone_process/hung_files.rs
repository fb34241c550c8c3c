//! Files whose file system hangs.

use std::fs::File;
use std::sync::atomic::Ordering::Relaxed;

use rustix::process::Signal;

use crate::hung_file::HungFile;
use crate::lone::{Lone, member};

/// A password file that hangs, and settings that name it.
fn password(lone: &Lone) -> (HungFile, String) {
    let file = HungFile::make(lone.directory.path().join("password"));
    let setting = format!("probe.password_file = {:?}", file.path());
    (file, setting)
}

/// Waits until the proxy reads the file. It hangs until the writer is dropped.
fn wait_for_reader(lone: &Lone, file: &HungFile) -> File {
    let mut writer = None;
    lone.wait("the proxy reads the file", |_| {
        writer = file.writer();
        writer.is_some()
    });
    writer.unwrap()
}

#[test]
fn a_reload_whose_file_hangs_is_refused_and_stops_no_decision() {
    let (member, probes) = member();
    let members = format!("cluster.members = [\"{member}\"]\nprobe.interval = \"50ms\"\n");
    let lone = Lone::start(&members);
    let (file, setting) = password(&lone);
    lone.reload(&format!("{members}{setting}"));
    let writer = wait_for_reader(&lone, &file);
    let probed = probes.load(Relaxed);
    lone.wait("servers are still probed", |_| probes.load(Relaxed) > probed + 10);
    assert_eq!(lone.get("/live").as_deref(), Some("alive\n"));
    let refused = format!("the old one stays: {} cannot be read within 10 s", file.path());
    lone.wait("the reload is refused", |lone| lone.log().contains(&refused));
    assert_eq!(lone.metric("config_reload_refused"), 1.0);

    // One reading is enough: each more would be one more thread that hangs.
    lone.signal(Signal::HUP);
    let refused = format!("the old one stays: an earlier reload still waits for {}", file.path());
    lone.wait("another reload is refused", |lone| lone.log().contains(&refused));
    drop(writer);
    lone.wait("a reload is applied when the file system is back", |lone| {
        lone.reload(&members);
        lone.metric("config_reload_refused") == 0.0
    });
}

#[test]
fn a_proxy_whose_reload_hangs_still_stops() {
    let mut lone = Lone::start("");
    let (file, setting) = password(&lone);
    lone.reload(&setting);
    let _writer = wait_for_reader(&lone, &file);
    lone.signal(Signal::TERM);
    assert!(lone.wait_end().success());
}
