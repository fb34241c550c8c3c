//! TLS and authentication as libpq has them: certificates of every kind, pg_hba.conf with and without TLS, `require_auth`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use pg_leader_proxy::config::{self, PemFile, RequireAuth, SslMode};
use pg_leader_proxy::files::FileReader;
use pg_leader_proxy::sources::probe::{ProbeError, check_member};
use pg_leader_proxy_core::{ProbeFailure, ServerAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::certificates::OpenSsl;
use crate::loopback::own_address;
use crate::probes::config;
use crate::server::Postgres;

const ENCRYPTING: [SslMode; 4] = [SslMode::Prefer, SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull];

fn pem(made: &OpenSsl, name: &str) -> PemFile {
    PemFile::read(&FileReader::default(), &made.path(name)).unwrap()
}

/// Gives `server` the certificate `leaf`, and to verify clients with the certificate `root`, if it was made.
pub(crate) fn install_all(made: &OpenSsl, server: &Postgres) {
    for (from, to) in [("leaf.crt", "server.crt"), ("leaf.key", "server.key"), ("root.crt", "root.crt")] {
        if made.path(from).exists() {
            install(server, &made.path(from), to);
        }
    }
}

fn install(server: &Postgres, from: &Path, name: &str) {
    let to = server.data().join(name);
    let owner = fs::metadata(server.data()).unwrap();
    fs::copy(from, &to).unwrap();
    fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// A running server with TLS, whose pg_hba.conf has these lines and one for the superuser.
pub(crate) async fn server(settings: &[&str], hba: &str, install: impl FnOnce(&Postgres)) -> Postgres {
    let mut server = Postgres::initialized(&["ssl = on"]);
    for setting in settings {
        server.set(setting);
    }
    fs::write(server.data().join("pg_hba.conf"), format!("host all postgres 127.0.0.0/8 trust\n{hba}\n"))
        .unwrap();
    install(&server);
    server.start().await;
    server.execute("CREATE USER monitor PASSWORD 'monitorpw'").await;
    server
}

fn with(sslmode: SslMode, ca_file: Option<PemFile>) -> config::Probe {
    let ca_file = ca_file.filter(|_| sslmode >= SslMode::Require);
    config::Probe { sslmode, ca_file, ..config() }
}

/// Only this line admits the monitoring user, and only with TLS.
const TLS_ONLY: &str = "hostssl all monitor 127.0.0.0/8 scram-sha-256";

/// Only this line admits the monitoring user, and only with a client certificate.
pub(crate) const TLS_WITH_CERTIFICATE: &str =
    "hostssl all monitor 127.0.0.0/8 scram-sha-256 clientcert=verify-ca";

async fn accepted(server: &Postgres, ca_file: &PemFile, modes: &[SslMode]) {
    for sslmode in modes {
        let outcome = check_member(&with(*sslmode, Some(ca_file.clone())), &server.addr()).await;
        assert!(outcome.is_ok(), "{sslmode:?}: {:?}", outcome.unwrap_err());
    }
}

#[tokio::test]
async fn a_certificate_as_the_manual_makes_it_is_accepted_in_every_mode() {
    let made = OpenSsl::new();
    let install = |server: &Postgres| {
        made.root("root");
        made.signed("leaf", &server.address.to_string(), None, "root");
        install_all(&made, server);
    };
    let server = server(&[], TLS_ONLY, install).await;
    assert!(made.text("leaf").contains("Version: 1 "), "{}", made.text("leaf"));
    accepted(&server, &pem(&made, "root.crt"), &ENCRYPTING).await;

    made.root("other");
    for sslmode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let error =
            check_member(&with(sslmode, Some(pem(&made, "other.crt"))), &server.addr()).await.unwrap_err();
        assert!(matches!(error, ProbeError::Handshake { .. }), "{sslmode:?}: {error}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_by_itself_with_keys_of_every_kind() {
    for key in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-521", "ed25519"] {
        let made = OpenSsl::new();
        let install = |server: &Postgres| {
            made.self_signed("leaf", "x", &format!("IP:{}", server.address), key);
            install_all(&made, server);
        };
        let server = server(&[], TLS_ONLY, install).await;
        assert!(made.text("leaf").contains("CA:TRUE"), "{}", made.text("leaf"));
        accepted(&server, &pem(&made, "leaf.crt"), &ENCRYPTING).await;
    }
}

#[tokio::test]
async fn verify_full_demands_the_name_and_verify_ca_does_not() {
    let made = OpenSsl::new();
    let install = |server: &Postgres| {
        made.root("root");
        made.signed("leaf", "elsewhere.example", None, "root");
        install_all(&made, server);
    };
    let server = server(&[], TLS_ONLY, install).await;
    let root = pem(&made, "root.crt");
    accepted(&server, &root, &[SslMode::Prefer, SslMode::Require, SslMode::VerifyCa]).await;
    let error = check_member(&with(SslMode::VerifyFull, Some(root)), &server.addr()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, format!("the server's certificate is not for {}", server.address));
    let error = check_member(&with(SslMode::VerifyFull, None), &server.addr()).await.unwrap_err();
    assert!(matches!(error, ProbeError::Handshake { .. }), "{error}");
}

/// A server with a self-signed certificate.
async fn self_signed(settings: &[&str], hba: &str) -> Postgres {
    let made = OpenSsl::new();
    let install = |server: &Postgres| {
        made.self_signed("leaf", "x", "DNS:x", "rsa:2048");
        install_all(&made, server);
    };
    server(settings, hba, install).await
}

#[tokio::test]
async fn pg_hba_conf_decides_whether_prefer_and_allow_use_tls() {
    let plain_only = self_signed(&[], "hostnossl all monitor 127.0.0.0/8 scram-sha-256").await;
    for sslmode in [SslMode::Disable, SslMode::Allow, SslMode::Prefer] {
        check_member(&with(sslmode, None), &plain_only.addr()).await.unwrap();
    }
    let error = check_member(&with(SslMode::Require, None), &plain_only.addr()).await.unwrap_err();
    assert_eq!(error.failure(), ProbeFailure::Denied, "{error}");
    assert!(error.to_string().contains("with TLS: pg_hba.conf has no line"), "{error}");

    let tls_only = self_signed(&[], TLS_ONLY).await;
    for sslmode in [SslMode::Allow, SslMode::Prefer, SslMode::Require] {
        check_member(&with(sslmode, None), &tls_only.addr()).await.unwrap();
    }
    let error = check_member(&with(SslMode::Disable, None), &tls_only.addr()).await.unwrap_err();
    assert!(error.to_string().contains("without TLS: pg_hba.conf has no line"), "{error}");

    let neither = self_signed(&[], "host all monitor 127.0.0.0/8 reject").await;
    let error = check_member(&with(SslMode::Prefer, None), &neither.addr()).await.unwrap_err();
    assert_eq!(error.failure(), ProbeFailure::Denied, "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_not_again_without_tls() {
    let server = self_signed(&["log_connections = on"], "host all monitor 127.0.0.0/8 scram-sha-256").await;
    let mut wrong = with(SslMode::Prefer, None);
    wrong.password = Some(config::Secret::new("sesame".to_owned()));
    let error = check_member(&wrong, &server.addr()).await.unwrap_err();
    assert!(error.to_string().contains("with TLS: the user or the password is wrong"), "{error}");
    assert_eq!(server.log().matches("password authentication failed").count(), 1, "{}", server.log());
}

#[tokio::test]
async fn prefer_goes_on_without_tls_when_the_handshake_fails() {
    let old = ["ssl_min_protocol_version = 'TLSv1'", "ssl_max_protocol_version = 'TLSv1.1'"];
    let server = self_signed(&old, "host all monitor 127.0.0.0/8 scram-sha-256").await;
    check_member(&with(SslMode::Prefer, None), &server.addr()).await.unwrap();
    let error = check_member(&with(SslMode::Require, None), &server.addr()).await.unwrap_err();
    assert!(error.to_string().contains("TLS failed"), "{error}");
    assert_eq!(error.failure(), ProbeFailure::Failed, "{error:?}");
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let made = OpenSsl::new();
    let install = |server: &Postgres| {
        made.root("root");
        made.signed("leaf", &server.address.to_string(), None, "root");
        made.signed("client", "monitor", None, "root");
        install_all(&made, server);
    };
    let hba = format!("{TLS_WITH_CERTIFICATE}\nhostssl all certified 127.0.0.0/8 cert map=any");
    let server = server(&["ssl_ca_file = 'root.crt'"], &hba, install).await;
    let mut probe = with(SslMode::VerifyFull, Some(pem(&made, "root.crt")));
    let error = check_member(&probe, &server.addr()).await.unwrap_err();
    assert_eq!(error.failure(), ProbeFailure::Denied, "{error}");
    probe.identity = Some((pem(&made, "client.crt"), pem(&made, "client.key")));
    check_member(&probe, &server.addr()).await.unwrap();

    // Without a password, by the certificate alone.
    fs::write(server.data().join("pg_ident.conf"), "any /.* certified\n").unwrap();
    server.execute("CREATE USER certified; SELECT pg_reload_conf()").await;
    (probe.user, probe.password) = ("certified".to_owned(), None);
    for _ in 0..100 {
        if check_member(&probe, &server.addr()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check_member(&probe, &server.addr()).await.unwrap();
}

#[tokio::test]
async fn only_the_allowed_methods_of_authentication_are_used() {
    let cleartext = self_signed(&[], "host all monitor 127.0.0.0/8 password").await;
    let addr = cleartext.addr();
    let error = check_member(&with(SslMode::Disable, None), &addr).await.unwrap_err();
    assert_eq!(error.failure(), ProbeFailure::Denied, "{error}");
    assert!(error.to_string().contains("wants the password itself, without TLS"), "{error}");
    check_member(&with(SslMode::Require, None), &addr).await.unwrap();
    let allowing = |methods: &str, sslmode| config::Probe {
        require_auth: RequireAuth::parse(methods).unwrap(),
        ..with(sslmode, None)
    };
    check_member(&allowing("password", SslMode::Disable), &addr).await.unwrap();
    let error = check_member(&allowing("scram-sha-256", SslMode::Require), &addr).await.unwrap_err();
    assert!(error.to_string().contains("asks for \"password\""), "{error}");

    let trusting = self_signed(&[], "host all monitor 127.0.0.0/8 trust").await;
    let error =
        check_member(&allowing("scram-sha-256", SslMode::Disable), &trusting.addr()).await.unwrap_err();
    assert!(error.to_string().contains("asks for no password"), "{error}");
    check_member(&allowing("!password,!md5", SslMode::Disable), &trusting.addr()).await.unwrap();

    let scram = self_signed(&[], "host all monitor 127.0.0.0/8 scram-sha-256").await;
    for sslmode in [SslMode::Disable, SslMode::Require] {
        check_member(&allowing("scram-sha-256", sslmode), &scram.addr()).await.unwrap();
        check_member(&allowing("!scram-sha-256", sslmode), &scram.addr()).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_server_that_asks_for_the_password_in_the_clear_does_not_get_it() {
    for sslmode in [SslMode::Disable, SslMode::Allow, SslMode::Prefer] {
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let thief = async {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut received = vec![0; 8];
            client.read_exact(&mut received).await.unwrap();
            if received.ends_with(&[0x04, 0xd2, 0x16, 0x2f]) {
                client.write_all(b"N").await.unwrap();
            }
            client.write_all(b"R\0\0\0\x08\0\0\0\x03").await.unwrap();
            // Ends when the probe gives up.
            client.read_to_end(&mut received).await.unwrap();
            received
        };
        let probe = with(sslmode, None);
        let server = ServerAddr::new(&addr.ip().to_string(), addr.port());
        let (outcome, received) = tokio::join!(check_member(&probe, &server), thief);
        assert!(outcome.unwrap_err().to_string().contains("wants the password itself"));
        let received = String::from_utf8_lossy(&received);
        assert!(received.contains("monitor\0") && !received.contains("monitorpw"), "{received:?}");
    }
}
