//! Files whose file system hangs.

use std::fs::{self, File};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

use rustix::process::Signal;

use crate::hung_file::HungFile;
use crate::lone::{Lone, config, member, program, words};
use crate::running::PROGRAM;

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

#[test]
fn a_start_whose_file_hangs_ends_and_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let password = HungFile::make(directory.path().join("password"));
    let file = directory.path().join("proxy.toml");
    let address = std::net::Ipv4Addr::LOCALHOST;
    fs::write(&file, config(address, &format!("probe.password_file = {:?}", password.path()))).unwrap();
    let whole = HungFile::make(directory.path().join("whole.toml"));
    let start = |command: &str, config: &str| program(&[command, "--config", config]);
    std::thread::scope(|scope| {
        let runs = [
            (scope.spawn(|| start("run", file.to_str().unwrap())), password.path()),
            (scope.spawn(|| start("check", file.to_str().unwrap())), password.path()),
            (scope.spawn(|| start("run", whole.path())), whole.path()),
        ];
        for (ended, hangs) in runs {
            let ended = ended.join().unwrap();
            // A service manager that knows the code of an invalid configuration would not try again.
            assert_eq!(ended.status.code(), Some(1), "{}", words(&ended));
            let expected = format!("{hangs} cannot be read within 10 s: its file system does not answer");
            assert!(words(&ended).contains(&expected), "{}", words(&ended));
        }
    });
}

#[test]
fn the_certificates_of_the_system_are_read_like_every_other_file() {
    let made = tempfile::tempdir().unwrap();
    let bundle = made.path().join("bundle.pem");
    fs::write(&bundle, "").unwrap();
    let (member, probes) = member();
    let members = format!(
        "cluster.members = [\"{member}\"]\nprobe.interval = \"50ms\"\nprobe.sslmode = \"verify-full\"\n"
    );
    let mut command = Command::new(PROGRAM);
    command.env("SSL_CERT_FILE", &bundle);
    let lone = Lone::launch(command, &members, |log| log.into());
    fs::remove_file(&bundle).unwrap();
    let bundle = HungFile::make(bundle);
    lone.reload(&members);
    let writer = wait_for_reader(&lone, &bundle);
    let probed = probes.load(Relaxed);
    lone.wait("servers are still probed", |_| probes.load(Relaxed) > probed + 10);
    assert_eq!(lone.get("/live").as_deref(), Some("alive\n"));
    drop(writer);
    lone.wait("the reload ends", |lone| lone.log().contains("configuration reloaded"));
}
