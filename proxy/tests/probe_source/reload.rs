//! A reload of the program: certificates that were replaced at the same path are used from then on.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::http;
use rustix::process::{Pid, Signal, kill_process};

use crate::certificates::OpenSsl;
use crate::loopback::own_address;
use crate::server::Postgres;
use crate::tls::{TLS_WITH_CERTIFICATE, install_all, server};

/// Beyond anything that a healthy step takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The program, which follows one server without etcd.
struct Program {
    child: Child,
    admin: SocketAddr,
}

impl Program {
    fn start(server: &Postgres, made: &OpenSsl) -> Self {
        let admin = SocketAddr::from((own_address(), 9433));
        let file = |name: &str| made.path(name).to_str().unwrap().to_owned();
        let settings = format!(
            "cluster.members = [\"{}\"]\nwrite.listen = \"127.0.0.1:0\"\nadmin.listen = \"{admin}\"\n[probe]\n\
             user = \"monitor\"\nsslmode = \"verify-full\"\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
            server.addr(),
            file("root.crt"),
            file("client.crt"),
            file("client.key"),
        );
        fs::write(made.path("proxy.toml"), settings).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pg-leader-proxy"))
            .args(["run", "--config", &file("proxy.toml")])
            .env("PGLP_PROBE_PASSWORD", "monitorpw")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(made.path("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, admin }
    }

    fn reload(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    }

    /// Waits until the server is the leader, or is not any more.
    async fn wait_for_leader(&self, leads: bool, made: &OpenSsl) {
        let began = Instant::now();
        loop {
            let answer = http::get(self.admin, "/leader", SOON).await;
            if answer.is_ok_and(|answer| (answer.status == 200) == leads) {
                return;
            }
            let log = fs::read_to_string(made.path("log")).unwrap();
            assert!(began.elapsed() < SOON, "leads: {leads}\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn make(made: &OpenSsl, server: &Postgres) {
    made.root("root");
    made.signed("leaf", &server.address.to_string(), None, "root");
    made.signed("client", "monitor", None, "root");
    install_all(made, server);
}

#[tokio::test]
async fn a_reload_reads_certificates_at_the_same_path_again() {
    let made = OpenSsl::new();
    let mut server =
        server(&["ssl_ca_file = 'root.crt'"], TLS_WITH_CERTIFICATE, |server| make(&made, server)).await;
    let program = Program::start(&server, &made);
    program.wait_for_leader(true, &made).await;

    // The server changes its authority and the proxy has not been told yet: it trusts neither side of the new pair.
    make(&made, &server);
    server.signal(Signal::INT);
    server.wait().await;
    program.wait_for_leader(false, &made).await;
    server.start().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    program.wait_for_leader(false, &made).await;
    program.reload();
    program.wait_for_leader(true, &made).await;

    // A reload with a file that cannot be used leaves the old ones in force.
    fs::write(made.path("root.crt"), "not a certificate").unwrap();
    program.reload();
    let began = Instant::now();
    while !fs::read_to_string(made.path("log")).unwrap().contains("holds no certificate in PEM form") {
        assert!(began.elapsed() < SOON, "{}", fs::read_to_string(made.path("log")).unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    program.wait_for_leader(true, &made).await;
}
