//! Who is answered: allowed networks and the token, also after a reload.

use pg_leader_proxy::cli;
use pg_leader_proxy::config::{AdminAccess, Secret};
use pg_leader_proxy::counters::AdminRefusal;
use pg_leader_proxy::networks::Networks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::proxy::Proxy;

const GUARDED: [&str; 10] = [
    "/",
    "/page.js",
    "/page.css",
    "/icon.svg",
    "/leader",
    "/primary",
    "/replica",
    "/routing",
    "/failovers",
    "/metrics",
];

fn with_token(token: &str) -> AdminAccess {
    AdminAccess { allowed_networks: None, token: Some(Secret::new(token.to_owned())) }
}

/// The status of the answer to a request with this header.
async fn status(proxy: &Proxy, path: &str, header: &str) -> u16 {
    proxy.exchange(&format!("GET {path} HTTP/1.0\r\n{header}\r\n\r\n")).await.0
}

#[tokio::test]
async fn a_token_is_needed_for_all_but_the_two_health_checks() {
    let proxy = Proxy::with_leader().await;
    proxy.access.send_replace(with_token("s3cret"));
    for path in GUARDED {
        for wrong in
            ["X: y", "Authorization: Bearer s3cre", "Authorization: Bearer s3crett", "Authorization: s3cret"]
        {
            assert_eq!(status(&proxy, path, wrong).await, 401, "{path} with {wrong}");
        }
        // The second one has `any` as the user.
        for right in ["Authorization: Bearer s3cret", "Authorization: Basic YW55OnMzY3JldA=="] {
            let answered = status(&proxy, path, right).await;
            assert!(answered == 200, "{path} with {right}: {answered}");
        }
    }
    for path in ["/live", "/ready"] {
        assert_eq!(proxy.get(path).await.0, 200, "{path}");
    }
    assert_eq!(proxy.exchange("OPTIONS /leader HTTP/1.0\r\n\r\n").await.0, 401);
    assert_eq!(proxy.get("/events").await.0, 401);
    let (_, head, body) = proxy.exchange("GET / HTTP/1.0\r\n\r\n").await;
    assert!(head.contains("www-authenticate: Bearer") && head.contains("www-authenticate: Basic"), "{head}");
    assert!(body.contains("admin.token_file"), "{body}");
    let refused = proxy.counters.admin_refusals(AdminRefusal::BadToken).value();
    assert_eq!(refused, 4 * GUARDED.len() as u64 + 3);

    proxy.access.send_replace(with_token("other"));
    assert_eq!(status(&proxy, "/leader", "Authorization: Bearer s3cret").await, 401, "the old one");
    assert_eq!(status(&proxy, "/leader", "Authorization: Bearer other").await, 200);
    proxy.access.send_replace(AdminAccess::default());
    assert_eq!(proxy.get("/leader").await.0, 200);
}

#[tokio::test]
async fn connections_from_outside_the_allowed_networks_are_closed() {
    let proxy = Proxy::with_leader().await;
    let allow = |network: &str| {
        let allowed_networks = Some(Networks::from(vec![network.parse().unwrap()]));
        proxy.access.send_replace(AdminAccess { allowed_networks, token: None });
    };
    allow("10.0.0.0/8");
    for path in ["/live", "/metrics"] {
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        // It may be closed already.
        let _ = stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{path}");
    }
    assert_eq!(proxy.counters.admin_refusals(AdminRefusal::NetworkNotAllowed).value(), 2);
    allow("127.0.0.0/8");
    assert_eq!(proxy.get("/live").await.0, 200);
    let samples = proxy.samples().await;
    let refusals = "pg_leader_proxy_admin_refusals_total{cluster=\"main\",reason=\"network_not_allowed\"}";
    assert_eq!(samples[refusals], 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_sends_the_token() {
    let proxy = Proxy::with_leader().await;
    proxy.access.send_replace(with_token("s3cret"));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (right, wrong, config) = (path("right"), path("wrong"), path("proxy.toml"));
    std::fs::write(&right, "s3cret\n").unwrap();
    std::fs::write(&wrong, "guess\n").unwrap();
    std::fs::write(&config, format!("admin.listen = \"{}\"\nadmin.token_file = {right:?}\n", proxy.addr))
        .unwrap();
    let admin = proxy.addr.to_string();
    let run = |arguments: &[&str]| {
        let line = ["pg-leader-proxy"].iter().chain(arguments).map(|word| (*word).to_owned());
        let start = cli::Start { arguments: line.collect(), ..Default::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = tokio::task::block_in_place(|| cli::answer(&start, &mut out, &mut err));
        (exit, String::from_utf8([out, err].concat()).unwrap())
    };
    for command in ["status", "failovers"] {
        let (exit, told) = run(&[command, "--admin", &admin, "--token-file", &right]);
        assert_eq!(exit, cli::Exit::Success, "{told}");
        assert_eq!(
            run(&[command, "--config", &config]).0,
            cli::Exit::Success,
            "the configuration names the file"
        );
        let (exit, told) = run(&[command, "--admin", &admin, "--token-file", &wrong]);
        assert_eq!(exit, cli::Exit::Unreachable);
        assert!(told.contains("401") && told.contains("a token is needed (admin.token_file)"), "{told}");
        let (_, told) = run(&[command, "--config", &config, "--admin", &admin]);
        assert!(told.contains("401"), "the token of a configuration goes to its own address alone: {told}");
        let (exit, told) = run(&[command, "--token-file", "/nowhere"]);
        assert_eq!(exit, cli::Exit::Configuration);
        assert!(told.contains("admin.token_file = \"/nowhere\": the file cannot be read"), "{told}");
    }
}
