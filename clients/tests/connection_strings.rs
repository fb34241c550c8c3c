//! The connection strings of the documentation: each client waits in the proxy for longer than its own defaults allow, and
//! gets in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clients::connect::{self, Connects};
use clients::server::{APP, PASSWORD};
use clients::{Major, Proxy, Server, program};
use lab::{Link, LinkMode};
use tokio::runtime;

/// The page with the strings.
const PAGE: &str = "../docs/src/how-to/client-settings.md";
/// The proxies, the user and the database in the strings of the page.
const HOSTS: &str = "10.0.0.1:5433,10.0.0.2:5433";
const HOST: &str = "10.0.0.1:5433";
/// PgJDBC waits for 5 s unless it is told to wait longer.
const HELD: Duration = Duration::from_secs(8);
/// From the end of the hold until a client has logged in, on a machine busy with other tests.
const BOUND: Duration = Duration::from_secs(60);

#[test]
fn every_client_outlasts_the_hold_with_the_settings_of_the_page() {
    let server = Server::start(Major::NEWEST).unwrap();
    let at = &server.addresses;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let link = Link::start(runtime.handle(), at.server_recorder(), at.server()).unwrap();
    let _proxy = Proxy::start(at, link.address(), &[]).unwrap();
    link.set(LinkMode::Cut);
    let password: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let proxy = at.proxy().to_string();
    let mut held = Vec::new();
    for (name, string, settings) in strings() {
        let string = string
            .replace(HOSTS, &format!("{proxy},{proxy}"))
            .replace(HOST, &proxy)
            .replace("app@", &format!("{APP}:{password}@"))
            .replace("user=app", &format!("user={APP}&password={password}"))
            .replace("/shop", &format!("/{APP}"));
        for client in Connects::named(&name) {
            let command: Command = connect::command(client, &string, &settings).unwrap();
            let begun = Instant::now();
            held.push((
                client,
                thread::spawn(move || (program::succeed(command, HELD + BOUND), begun.elapsed())),
            ));
        }
    }
    assert_eq!(held.len(), Connects::ALL.len(), "the page has a string for each client that can be tried");
    thread::sleep(HELD);
    link.set(LinkMode::Open);
    for (client, program) in held {
        let (output, took) = program.join().unwrap();
        let output = output.unwrap_or_else(|error| panic!("{client:?} after {took:?}: {error:#}"));
        assert!(output.contains("connected"), "{client:?}: {output}");
        assert!(took >= HELD, "{client:?} was not held: {took:?}");
    }
}

/// The rows of the page: the client's name, the string, and settings that stand beside it.
fn strings() -> Vec<(String, String, Vec<String>)> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let section = page.split("## Connection strings").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.map(|row| {
        let mut spans = row.split('`').skip(1).step_by(2).map(str::to_owned);
        let name = row.trim_start_matches("| ").split(" |").next().unwrap().to_owned();
        let string = spans.next().unwrap();
        // `name: value` is how JavaScript writes it.
        (name, string, spans.map(|setting| setting.replace(": ", "=")).collect())
    })
    .collect()
}
