//! What a check of an endpoint reports.

use pg_leader_proxy::sources::etcd::check_endpoint;

use crate::patroni::{PREFIX, Patroni, config};
use crate::server::Etcd;

#[tokio::test]
async fn without_keys_a_check_says_where_there_are_some() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.put("0/leader", "a").await;
    let hint = |prefix: &str| {
        let (config, url) = (config(vec![etcd.url()]), etcd.url());
        let config = pg_leader_proxy::config::Etcd { prefix: prefix.to_owned(), ..config };
        async move { check_endpoint(&config, &url).await.unwrap().hint.unwrap_or_default() }
    };
    assert!(hint(PREFIX).await.contains("Citus groups (0): set cluster.citus_group"));
    assert!(hint("/service/other/").await.contains("there are the scopes test: compare cluster.scope"));
    assert!(hint("/elsewhere/test/").await.contains("v2 API"));
    assert_eq!(hint("/service/test/0/").await, "");
}

#[tokio::test]
async fn a_check_reports_what_it_found_and_what_is_wrong() {
    let mut etcd = Etcd::alone(&[]);
    let mut patroni = Patroni(etcd.client().await);
    patroni.bootstrap(60).await;
    let report = check_endpoint(&config(vec![etcd.url()]), &etcd.url()).await.unwrap();
    let keys: Vec<&str> = report.keys.iter().map(String::as_str).collect();
    assert_eq!(keys, ["config", "initialize", "leader", "members/a", "members/b", "status"]);
    assert!(report.version.is_some() && report.lease.is_some());

    etcd.freeze();
    let error = check_endpoint(&config(vec![etcd.url()]), &etcd.url()).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 1 s"), "{error}");
    etcd.kill();
    let error = check_endpoint(&config(vec![etcd.url()]), &etcd.url()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("Connection refused"), "{error}: {cause}");
}
