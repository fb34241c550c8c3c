//! Probes through a pooler: `cluster.prefer_proxy_url` leads there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use pg_leader_proxy::sources::probe::check_member;
use pg_leader_proxy_core::{ProbeUrgency, Role, ServerAddr};
use rustix::process::geteuid;
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::probes::{ProbeOutcome, Probes, config};
use crate::server::Postgres;

/// PgBouncer in front of a server. It is killed when this is dropped.
struct PgBouncer {
    child: Child,
    addr: ServerAddr,
    _directory: TempDir,
}

impl PgBouncer {
    fn start(server: &Postgres, pool_mode: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let users = directory.path().join("users");
        fs::write(&users, "\"monitor\" \"monitorpw\"\n").unwrap();
        let address = server.address;
        let settings = format!(
            "[databases]\n* = host={address} port=5432\n[pgbouncer]\nlisten_addr = {address}\nlisten_port = 6432\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {pool_mode}\n",
            users.display()
        );
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        let child = command
            .args(["--pdeathsig", "KILL", "pgbouncer", "--quiet"])
            .arg(&file)
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv (util-linux) and pgbouncer must be installed");
        Self { child, addr: ServerAddr::new(&address.to_string(), 6432), _directory: directory }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A setting as the pooler's next client finds it, on a connection that the probes have used.
async fn setting(pooler: &ServerAddr, name: &str) -> String {
    let login = format!(
        "host={} port={} user=monitor password=monitorpw dbname=postgres",
        pooler.host(),
        pooler.port()
    );
    let (client, connection) = tokio_postgres::connect(&login, NoTls).await.unwrap();
    tokio::spawn(connection);
    let messages = client.simple_query(&format!("SHOW {name}")).await.unwrap();
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap().to_owned()
}

#[tokio::test]
async fn a_pooler_takes_the_probe_and_nothing_of_it_stays_on_the_poolers_connection() {
    let server = Postgres::primary(&[]).await;
    for pool_mode in ["session", "transaction"] {
        let mut pooler = PgBouncer::start(&server, pool_mode);
        let mut probes = Probes::of_one(config(), pooler.addr.clone(), ProbeUrgency::Elevated);
        let reply = probes.wait_for("its word", ProbeOutcome::is_primary).await.outcome.unwrap();
        assert!(matches!(reply.role, Role::Primary { .. }));
        check_member(&config(), &pooler.addr).await.unwrap();
        assert_eq!(setting(&pooler.addr, "statement_timeout").await, "0", "{pool_mode}");
        assert_eq!(setting(&pooler.addr, "default_transaction_read_only").await, "off", "{pool_mode}");
        assert!(pooler.child.try_wait().unwrap().is_none(), "PgBouncer has ended");
    }
}
