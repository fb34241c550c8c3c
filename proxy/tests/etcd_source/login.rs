//! Authentication at etcd: a user with a password, and one that is not needed.

use std::time::Duration;

use etcd_client::{ConnectOptions, Permission};
use pg_leader_proxy::config::Secret;
use pg_leader_proxy::sources::etcd::check_endpoint;

use crate::patroni::{PREFIX, Patroni, Source, config};
use crate::server::Etcd;

#[tokio::test]
async fn a_user_logs_in_and_again_when_the_token_has_expired() {
    let mut etcd = Etcd::alone(&["--auth-token-ttl", "1"]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    require_login(&mut patroni).await;
    let root = ConnectOptions::new().with_user("root", "rootpw").with_auto_token_refresh(true);
    let mut patroni = Patroni(etcd.client_at(&etcd.url(), root).await);

    let mut right = config(vec![etcd.url()]);
    right.login = Some(("proxy".to_owned(), Secret::new("proxypw".to_owned())));
    // Longer than a token lasts.
    right.refresh_interval = Duration::from_secs(4);
    let mut source = Source::start(right.clone());
    let (_, first) = source.lease("a").await;
    let (_, second) = source.lease("a").await;
    assert!(second.sent > first.sent);
    patroni.delete("leader").await;
    source.wait_for_no_leader().await;

    let report = check_endpoint(&right, &etcd.url()).await.unwrap();
    assert!(report.keys.contains("members/a") && report.leader.is_none());
    let mut wrong = right;
    wrong.login = Some(("proxy".to_owned(), Secret::new("sesame".to_owned())));
    let error = check_endpoint(&wrong, &etcd.url()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}: cannot log in", etcd.url()));
    let shown = format!("{error:?} {}", std::error::Error::source(&error).unwrap());
    assert!(shown.contains("invalid user ID or password") && !shown.contains("sesame"), "{shown}");
}

#[tokio::test]
async fn a_login_is_not_used_while_authentication_is_disabled() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    let mut unneeded = config(vec![etcd.url()]);
    unneeded.login = Some(("proxy".to_owned(), Secret::new("proxypw".to_owned())));
    Source::start(unneeded.clone()).lease("a").await;
    let report = check_endpoint(&unneeded, &etcd.url()).await.unwrap();
    assert!(report.login_ignored && report.leader.is_some());

    require_login(&mut patroni).await;
    let report = check_endpoint(&unneeded, &etcd.url()).await.unwrap();
    assert!(!report.login_ignored && report.leader.is_some());
}

/// Enables authentication, with a user who may read what Patroni writes.
pub(crate) async fn require_login(patroni: &mut Patroni) {
    let client = &mut patroni.0;
    client.user_add("root", "rootpw", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.role_add("reader").await.unwrap();
    let read = Permission::read(PREFIX).with_prefix();
    client.role_grant_permission("reader", read).await.unwrap();
    client.user_add("proxy", "proxypw", None).await.unwrap();
    client.user_grant_role("proxy", "reader").await.unwrap();
    client.auth_enable().await.unwrap();
}
