//! The program as a systemd service: what it reports, and sockets that outlive it.
#![allow(clippy::unwrap_used)]

mod loopback;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use loopback::own_address;
use rustix::process::{Pid, Signal, kill_process};

/// Longer than any step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const PROXY: &str = env!("CARGO_BIN_EXE_pg-leader-proxy");

/// The settings of a proxy before a server that does not exist, so that clients wait for one second and are rejected.
fn settings(write: SocketAddr) -> [String; 5] {
    [
        "--member=127.0.0.1:1".to_owned(),
        "--probe-user=monitor".to_owned(),
        "--write-hold-timeout=1s".to_owned(),
        format!("--write-listen={write}"),
        "--admin-listen=off".to_owned(),
    ]
}

/// Ends the process with the test.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads notifications until one has a line that begins with `wanted`, and returns that notification.
fn notification(socket: &UnixDatagram, wanted: &str) -> String {
    let began = Instant::now();
    let mut buffer = [0; 4096];
    while began.elapsed() < SOON {
        let length = socket.recv(&mut buffer).unwrap();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        if text.lines().any(|line| line.starts_with(wanted)) {
            return text;
        }
    }
    panic!("systemd was never told {wanted}");
}

#[test]
fn systemd_is_told_of_readiness_status_reload_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let spare = SocketAddr::from((own_address(), 5433));
    let child = Command::new(PROXY)
        .arg("run")
        .args(settings(spare))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "2000000")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut proxy = Running(child);

    notification(&socket, "READY=1");
    TcpStream::connect(spare).unwrap();
    let status = notification(&socket, "STATUS=");
    assert!(status.starts_with("STATUS=writes wait: "), "{status}");
    notification(&socket, "WATCHDOG=1");
    notification(&socket, "WATCHDOG=1");

    proxy.signal(Signal::HUP);
    let reloading = notification(&socket, "RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    notification(&socket, "READY=1");

    proxy.signal(Signal::TERM);
    notification(&socket, "STOPPING=1");
    assert!(proxy.0.wait().unwrap().success());
}

/// Waits until `is` is true.
fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < SOON, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_systemd_that_does_not_read_costs_one_thread_and_hears_the_rest_later() {
    let directory = tempfile::tempdir().unwrap();
    let (path, log) = (directory.path().join("notify"), directory.path().join("log"));
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"FULL=1", &path).is_ok() {}
    let child = Command::new(PROXY)
        .arg("run")
        .args(settings(SocketAddr::from((own_address(), 5433))))
        .env("NOTIFY_SOCKET", &path)
        .stdin(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let proxy = Running(child);
    let logged = |words: &str| fs::read_to_string(&log).unwrap().matches(words).count();
    let threads = || fs::read_dir(format!("/proc/{}/task", proxy.0.id())).unwrap().count();

    wait("the proxy listens", || logged("systemd does not read notifications") > 0);
    let before = threads();
    for reload in 1..=3 {
        proxy.signal(Signal::HUP);
        wait("the configuration is reloaded", || logged("configuration reloaded") == reload);
    }
    // The one that reads the configuration may still be there.
    assert!(threads() <= before + 2, "{} threads, {before} before", threads());
    assert_eq!(logged("systemd does not read notifications"), 1);

    notification(&socket, "RELOADING=1");
    notification(&socket, "READY=1");
}

/// Runs the proxy with `listener` as the one socket of a socket unit: descriptor 3, announced by `LISTEN_FDS`.
fn activated(listener: &TcpListener) -> Running {
    let addr = listener.local_addr().unwrap();
    let child = Command::new("sh")
        .args(["-c", r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#, "sh", PROXY, "run"])
        .args(settings(addr))
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Running(child)
}

/// Sends a start-up packet for user `u`, and returns the first byte of the answer.
fn answer(mut client: TcpStream) -> u8 {
    client.set_read_timeout(Some(SOON)).unwrap();
    client.write_all(b"\0\0\0\x10\0\x03\0\0user\0u\0\0").unwrap();
    let mut first = [0];
    client.read_exact(&mut first).unwrap();
    first[0]
}

#[test]
fn a_client_that_connects_while_the_service_restarts_is_served_by_the_next_process() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut first = activated(&listener);
    assert_eq!(answer(TcpStream::connect(addr).unwrap()), b'E', "the proxy rejects it after its hold");

    first.signal(Signal::TERM);
    assert!(first.0.wait().unwrap().success());
    let between = TcpStream::connect(addr).unwrap();
    let _second = activated(&listener);
    assert_eq!(answer(between), b'E');
}

#[test]
fn a_passed_socket_that_no_route_listens_on_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let spare = SocketAddr::from((own_address(), 5433));
    let output = Command::new("sh")
        .args(["-c", r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#, "sh", PROXY, "run"])
        .args(settings(spare))
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let named = format!("no route listens on {}", listener.local_addr().unwrap());
    assert!(!output.status.success() && error.contains(&named), "{error}");
}
