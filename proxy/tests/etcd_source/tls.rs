//! TLS with etcd: what etcdctl accepts is accepted, and files are read again.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use pg_leader_proxy::config::{Etcd as Config, EtcdTls};
use pg_leader_proxy::sources::etcd::check_endpoint;
use pg_leader_proxy_core::{DcsProblemKind, MemberName};

use crate::certificates::OpenSsl;
use crate::hung_file::HungFile;
use crate::patroni::{Patroni, Source, config};
use crate::problems::wait_for_problem;
use crate::server::Etcd;

/// A root and a certificate that it has signed for `address`; etcd demands one of its clients, too.
fn signed(made: &OpenSsl, address: Ipv4Addr) -> Vec<String> {
    made.root("root");
    made.signed("leaf", "etcd", Some(&format!("IP:{address}")), "root");
    let mut arguments = certificate(made);
    let root = made.path("root.crt").to_str().unwrap().to_owned();
    arguments.extend(["--client-cert-auth".to_owned(), "--trusted-ca-file".to_owned(), root]);
    arguments
}

fn certificate(made: &OpenSsl) -> Vec<String> {
    let path = |file: &str| made.path(file).to_str().unwrap().to_owned();
    vec!["--cert-file".to_owned(), path("leaf.crt"), "--key-file".to_owned(), path("leaf.key")]
}

fn verifying(etcd: &Etcd, made: &OpenSsl, ca: &str) -> Config {
    let mut config = config(vec![etcd.url()]);
    config.tls.ca_file = Some(made.path(ca));
    config
}

/// Whether etcdctl accepts the server's certificate.
fn etcdctl_accepts(etcd: &Etcd, made: &OpenSsl, ca: &str) -> bool {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &etcd.url(), "--dial-timeout", "2s", "--command-timeout", "3s", "--cacert"])
        .arg(made.path(ca))
        .args(["get", "x"])
        .stdin(Stdio::null())
        .output()
        .expect("etcdctl must be on the PATH");
    output.status.success()
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let made = OpenSsl::new();
    let mut etcd = Etcd::with_tls(|address| signed(&made, address));
    etcd.start();
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    let mut tls = verifying(&etcd, &made, "root.crt");
    tls.tls.identity = Some((made.path("leaf.crt"), made.path("leaf.key")));
    Source::start(tls.clone()).lease("a").await;
    let report = check_endpoint(&tls, &etcd.url()).await.unwrap();
    assert_eq!(report.leader, Some(MemberName::new("a")));
    assert!(report.lease.is_some());

    let without = EtcdTls { identity: None, ..tls.tls.clone() };
    check_endpoint(&Config { tls: without, ..tls.clone() }, &etcd.url()).await.unwrap_err();
    let missing = EtcdTls { ca_file: Some("/nonexistent/ca.pem".into()), ..tls.tls.clone() };
    let error = check_endpoint(&Config { tls: missing, ..tls }, &etcd.url()).await.unwrap_err().to_string();
    assert_eq!(error, "cannot read /nonexistent/ca.pem for TLS with etcd");
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_as_etcdctl_accepts_it_with_keys_of_every_kind() {
    for key in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-521"] {
        let made = OpenSsl::new();
        let mut etcd = Etcd::with_tls(|address| {
            made.self_signed("leaf", "etcd", &format!("IP:{address}"), key);
            certificate(&made)
        });
        etcd.start();
        let mut patroni = Patroni(etcd.client().await);
        patroni.bootstrap(60).await;
        assert!(made.text("leaf").contains("CA:TRUE"), "{}", made.text("leaf"));
        assert!(etcdctl_accepts(&etcd, &made, "leaf.crt"));
        check_endpoint(&verifying(&etcd, &made, "leaf.crt"), &etcd.url()).await.unwrap();

        made.root("other");
        assert!(!etcdctl_accepts(&etcd, &made, "other.crt"));
        let error = check_endpoint(&verifying(&etcd, &made, "other.crt"), &etcd.url()).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("etcd's certificate: self-signed certificate"), "{cause}");
        let mut source = Source::start(verifying(&etcd, &made, "other.crt"));
        let parts = [&etcd.url(), "etcd's certificate: self-signed certificate"];
        assert_eq!(wait_for_problem(&mut source, &parts).await, DcsProblemKind::Unreachable);
    }
}

#[tokio::test]
async fn a_common_name_is_no_name_as_for_etcdctl() {
    let made = OpenSsl::new();
    let mut etcd = Etcd::with_tls(|address| {
        made.root("root");
        made.signed("leaf", &address.to_string(), None, "root");
        certificate(&made)
    });
    etcd.start();
    etcd.client().await;
    assert!(!etcdctl_accepts(&etcd, &made, "root.crt"));
    let error = check_endpoint(&verifying(&etcd, &made, "root.crt"), &etcd.url()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("IP address mismatch"), "{cause}");
}

#[tokio::test]
async fn renewed_certificates_at_the_same_path_are_used() {
    let made = OpenSsl::new();
    let mut etcd = Etcd::with_tls(|address| signed(&made, address));
    etcd.start();
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    let mut tls = verifying(&etcd, &made, "root.crt");
    tls.tls.identity = Some((made.path("leaf.crt"), made.path("leaf.key")));
    let mut source = Source::start(tls);
    source.lease("a").await;

    etcd.kill();
    signed(&made, etcd.address);
    etcd.start();
    let mut patroni = Patroni(etcd.client().await);
    let lease = patroni.grant(60).await;
    patroni.put_leader("b", lease).await;
    source.lease("b").await;
}

#[tokio::test]
async fn certificates_that_cannot_be_read_again_stay_in_use() {
    let made = OpenSsl::new();
    let mut etcd = Etcd::with_tls(|address| signed(&made, address));
    etcd.start();
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    fs::copy(made.path("root.crt"), made.path("ours.crt")).unwrap();
    let mut tls = verifying(&etcd, &made, "ours.crt");
    tls.tls.identity = Some((made.path("leaf.crt"), made.path("leaf.key")));
    let mut source = Source::start(tls.clone());
    source.lease("a").await;

    etcd.kill();
    fs::remove_file(made.path("ours.crt")).unwrap();
    let hung = HungFile::make(made.path("ours.crt"));
    etcd.start();
    let mut patroni = Patroni(etcd.client().await);
    let lease = patroni.grant(60).await;
    patroni.put_leader("b", lease).await;
    source.lease("b").await;

    let never_read = check_endpoint(&tls, &etcd.url()).await.unwrap_err().to_string();
    let named = format!("cannot read {} for TLS with etcd: its file system does not answer", hung.path());
    assert_eq!(never_read, named);
}
