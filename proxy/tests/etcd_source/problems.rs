//! What keeps etcd from telling about the cluster, as the router is told it.

use pg_leader_proxy::config::Secret;
use pg_leader_proxy_core::{DcsProblemKind, Observation};

use crate::login::require_login;
use crate::patroni::{PREFIX, Patroni, Source, config};
use crate::server::Etcd;

/// Waits for a problem in whose text each of these stands. Returns its kind.
pub(crate) async fn wait_for_problem(source: &mut Source, parts: &[&str]) -> DcsProblemKind {
    let told = |seen: &Observation| match seen {
        Observation::DcsProblem(Some(problem)) => {
            parts.iter().all(|part| problem.text.contains(part)).then_some(problem.kind)
        }
        _ => None,
    };
    source.wait_for(&format!("{parts:?}"), told).await
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_named_until_it_answers() {
    let mut etcd = Etcd::alone(&[]);
    Patroni(etcd.client().await).bootstrap(600).await;
    etcd.kill();
    let mut source = Source::start(config(vec![etcd.url()]));
    let kind = wait_for_problem(&mut source, &[&etcd.url(), "Connection refused"]).await;
    assert_eq!(kind, DcsProblemKind::Unreachable);
    etcd.start();
    let solved = |seen: &Observation| (*seen == Observation::DcsProblem(None)).then_some(());
    source.wait_for("that there is no problem any more", solved).await;
}

#[tokio::test]
async fn a_failed_login_is_told() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    require_login(&mut patroni).await;
    let mut wrong = config(vec![etcd.url()]);
    wrong.login = Some(("proxy".to_owned(), Secret::new("sesame".to_owned())));
    let mut source = Source::start(wrong);
    let parts = [&etcd.url(), "cannot log in", "invalid user ID or password"];
    assert_eq!(wait_for_problem(&mut source, &parts).await, DcsProblemKind::Denied);
    assert!(!format!("{:?}", source.received).contains("sesame"));
}

#[tokio::test]
async fn a_prefix_without_keys_is_told() {
    let mut etcd = Etcd::alone(&[]);
    etcd.client().await;
    let mut source = Source::start(config(vec![etcd.url()]));
    let none = format!("etcd has none of Patroni's keys under {PREFIX}: compare cluster.scope");
    assert_eq!(wait_for_problem(&mut source, &[&none]).await, DcsProblemKind::NoKeys);
}
