//! `roles.sql` and `bootstrap.sh`: users and databases, made once and again.

use std::process::Command;

use crate::server::{Server, database};

const PASSWORDS: [(&str, &str); 3] = [
    ("BOOT_VIETMARKET_PASSWORD", "it's \"quoted\""),
    ("BOOT_MONITOR_PASSWORD", "m"),
    ("BOOT_GVFX_PASSWORD", "g"),
];

fn roles(server: &Server, environment: &[(&str, &str)]) -> crate::server::Said {
    server.psql("postgres", environment, &["-f", &database().join("roles.sql").display().to_string()])
}

#[test]
fn roles_and_databases_are_made_and_made_again() {
    let server = Server::plain();
    roles(&server, &PASSWORDS).passes();
    let first =
        server.sql("SELECT rolname, rolsuper, rolcanlogin FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1");
    assert_eq!(first, "gvfx|f|t\nmonitor|f|t\npostgres|t|t\nvietmarket|f|t");
    roles(&server, &PASSWORDS).passes();
    assert_eq!(
        server.sql("SELECT datname, rolname FROM pg_database JOIN pg_roles r ON r.oid = datdba WHERE datname !~ '^template' ORDER BY 1"),
        "gvfx|gvfx\npostgres|postgres\nvietmarket|vietmarket"
    );
    // The owner makes the schema; the monitor may connect and no more.
    let as_role = |role: &str, sql: &str| {
        server.psql("vietmarket", &[], &["-c", &format!("SET ROLE {role}"), "-c", sql])
    };
    as_role("vietmarket", "CREATE TABLE mine ()").passes();
    as_role("monitor", "CREATE TABLE mine_too ()").refuses(&["permission denied for schema public"]);
    as_role("monitor", "SELECT * FROM mine").refuses(&["permission denied for table mine"]);
    as_role("monitor", "SELECT pg_is_in_recovery()").passes();
}

#[test]
fn a_missing_password_changes_nothing() {
    let server = Server::plain();
    roles(&server, &PASSWORDS[..2]).refuses(&["BOOT_GVFX_PASSWORD"]);
    assert_eq!(server.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'vietmarket'"), "0");
}

#[test]
fn the_extension_is_made_where_it_is_wanted() {
    let server = Server::apache();
    let environment = [PASSWORDS[0], PASSWORDS[1], PASSWORDS[2], ("BOOT_TIMESCALEDB", "1")];
    roles(&server, &environment).passes();
    let installed = server.psql(
        "vietmarket",
        &[],
        &["-c", "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"],
    );
    assert_eq!(installed.passes(), "1");
    // Without superuser rights, as the owner: the way of an operator after the bootstrap.
    let file = database().join("schema.sql").display().to_string();
    server
        .psql("vietmarket", &[], &["-v", "require=apache", "-c", "SET ROLE vietmarket", "-f", &file])
        .passes();
}

/// Patroni calls it with a connection string, and throws the new cluster away when it fails.
#[test]
fn the_bootstrap_script_tells_a_failure_by_its_exit_code() {
    let server = Server::plain();
    let bootstrap = |environment: &[(&str, &str)]| {
        Command::new("/bin/sh")
            .arg(database().join("bootstrap.sh"))
            .arg(server.connection_string())
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    };
    assert_eq!(bootstrap(&PASSWORDS[1..]).status.code(), Some(3));
    let output = bootstrap(&PASSWORDS);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(server.sql("SELECT rolname FROM pg_roles").contains("vietmarket"));
}
