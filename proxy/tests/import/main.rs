//! `import` on configurations in the style of public ones: what comes out stands beside each, and `check` takes it once
//! its gaps are filled.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pg_leader_proxy::config::{Config, Origins};
use pg_leader_proxy::import::{ImportError, Imported, Kind, MAX_BYTES, import};

/// The sources; what comes out of `NAME` is expected in `NAME.expected`.
const SOURCES: [&str; 10] = [
    "autobase.cfg",
    "cluster-control.cfg",
    "container.cfg",
    "crunchy.cfg",
    "edb.cfg",
    "patroni-template.cfg",
    "patroni_proxy.yaml",
    "pgbouncer.ini",
    "two-ports.cfg",
    "write-and-read.cfg",
];

/// Set this variable to write the expectations anew, and read the difference.
const UPDATE: &str = "UPDATE_EXPECTED";

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(source(name)).unwrap()
}

fn imported(text: &str) -> Imported {
    import(Kind::guess(text).unwrap(), text).unwrap()
}

/// Standard output, a line, and standard error.
fn told(imported: &Imported, name: &str) -> String {
    format!("{}\n--- standard error ---\n{}\n", imported.toml(name), imported.losses(name).join("\n"))
}

/// The errors of `toml` as a configuration.
fn errors(toml: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.toml");
    fs::write(&file, toml).unwrap();
    match Config::load(&Origins { file: Some(file), ..Origins::default() }) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(|error| error.subject.clone()).collect(),
    }
}

/// The configuration with what an operator would fill in.
fn filled(toml: &str) -> String {
    toml.replace("scope = \"\"", "scope = \"main\"")
        .replace("endpoints = []", "endpoints = [\"http://10.0.0.1:2379\"]")
        .replace("user = \"\"", "user = \"monitor\"")
        .replace("listen = []", "listen = [\"0.0.0.0:15432\"]")
}

#[test]
fn each_comes_out_as_expected() {
    for name in SOURCES {
        let told = told(&imported(&text(name)), name);
        let expected = source(&format!("{name}.expected"));
        if std::env::var_os(UPDATE).is_some() {
            fs::write(&expected, &told).unwrap();
        }
        let expected = fs::read_to_string(expected).unwrap_or_default();
        assert_eq!(told, expected, "{name}: if this is right, set {UPDATE}=1 once and read the difference");
    }
}

#[test]
fn check_names_the_gaps_and_nothing_else_and_takes_the_rest() {
    for name in SOURCES {
        let imported = imported(&text(name));
        let toml = imported.toml(name);
        let missing: Vec<&str> = imported.missing.iter().map(|missing| missing.path).collect();
        let mut named = errors(&toml);
        named.sort_by_key(|subject| missing.iter().position(|path| path == subject));
        assert_eq!(named, missing, "{name}:\n{toml}");
        assert_eq!(errors(&filled(&toml)), Vec::<String>::new(), "{name}:\n{toml}");
    }
}

#[test]
fn no_secret_comes_out() {
    for name in SOURCES {
        assert!(!told(&imported(&text(name)), name).contains("hunter2"), "{name}");
    }
}

/// A directive that is neither carried over nor named as lost would vanish without a word.
#[test]
fn every_directive_is_accounted_for() {
    for name in SOURCES.iter().filter(|name| name.ends_with(".cfg")) {
        let text = text(name);
        let imported = imported(&text);
        let origins = imported.carried.iter().chain(&imported.servers).flat_map(|carried| &carried.origins);
        let mut lines: Vec<usize> = origins.map(|(line, _)| *line).collect();
        lines.extend(imported.lost.iter().flat_map(|lost| &lost.lines));
        let mut section_is_lost = false;
        for (index, line) in text.lines().enumerate() {
            let (number, word) = (index + 1, line.split_whitespace().next().unwrap_or("#"));
            let sections =
                ["listen", "frontend", "backend", "userlist", "peers", "resolvers", "global", "defaults"];
            if sections.contains(&word) && !line.contains("default_backend") {
                section_is_lost = lines.contains(&number);
            } else if !word.starts_with('#') && !section_is_lost {
                let of_page = word == "mode";
                assert!(of_page || lines.contains(&number), "{name}:{number}: {line}");
            }
        }
    }
}

#[test]
fn bad_input_is_an_error_that_names_its_line() {
    let error = |kind, text: &str| import(kind, text).unwrap_err().to_string();
    assert_eq!(error(Kind::Haproxy, "global\n  log \"open\n"), "line 2: a quote is not closed");
    assert!(error(Kind::Haproxy, "[databases]\n").contains("no section"));
    assert_eq!(error(Kind::Pgbouncer, "[databases]\nshop\n"), "line 2: neither a section nor `key = value`");
    assert!(error(Kind::PatroniProxy, "clusters:\n  a: [\n").starts_with("line "));
    assert_eq!(import(Kind::Haproxy, &" ".repeat(MAX_BYTES + 1)), Err(ImportError::TooLong));
    assert_eq!(Kind::guess("scope: batman\nrestapi:\n"), None);
}

/// Lines out of which a file of each kind can be made, put together in every order that a simple generator comes to.
#[test]
fn whatever_comes_in_what_comes_out_is_valid() {
    const PARTS: [&str; 24] = [
        "global",
        "defaults",
        "listen x",
        "frontend master",
        "backend y",
        "bind *:5000",
        "bind *:9433",
        "bind :::1-9",
        "bind *:5000,*:5001",
        "option httpchk /replica?lag=x&lag=1MB&&",
        "option httpchk",
        "server a b:1 inter 9h port",
        "server",
        "default_backend y",
        "timeout queue 9999d",
        "timeout check 1ms",
        "maxconn 0",
        "mode http",
        "stats auth a:b",
        "[databases]",
        "a = host=,, port=x",
        "[pgbouncer]",
        "listen_addr = *,é,::1",
        "clusters: {a: &x [*x]}",
    ];
    let mut seed: u64 = 1;
    for _ in 0..150 {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(PARTS[usize::try_from(seed >> 33).unwrap() % PARTS.len()]);
            text.push(if seed >> 62 == 0 { ' ' } else { '\n' });
        }
        for (_, kind) in Kind::ALL {
            if let Ok(imported) = import(kind, &text) {
                let toml = imported.toml("x");
                assert_eq!(errors(&filled(&toml)), Vec::<String>::new(), "{text}\n{toml}");
            }
        }
    }
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pg-leader-proxy")).args(arguments).output().unwrap()
}

#[test]
fn the_command_writes_a_new_file_and_tells_what_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("proxy.toml");
    let (from, to) = (source("two-ports.cfg"), output.to_str().unwrap());
    let arguments = ["import", from.to_str().unwrap(), "--output", to];
    let first = program(&arguments);
    let losses = String::from_utf8(first.stderr).unwrap();
    assert_eq!((first.status.code(), first.stdout.as_slice()), (Some(0), &b""[..]), "{losses}");
    assert!(losses.contains("two-ports.cfg:19: `stats auth` is `admin.token_file` here"), "{losses}");
    let imported = imported(&text("two-ports.cfg"));
    assert_eq!(fs::read_to_string(&output).unwrap(), imported.toml("two-ports.cfg"));

    let again = program(&arguments);
    assert_eq!(again.status.code(), Some(1), "a file that is there is not overwritten");
    let check = program(&["check", "--config", to]);
    let named = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(78), "{named}");
    assert!(named.contains("cluster.scope") && named.contains("probe.user"), "{named}");
    let unknown = program(&["import", "/proc/version"]);
    assert_eq!(unknown.status.code(), Some(78));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("`--from` says which"));
}
