//! The page: what it shows, that it runs nothing of what it shows, and the streams that keep it up to date.

use std::collections::BTreeMap;
use std::time::Duration;

use pg_leader_proxy::clock;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy_core::{Member, Observation, ServerAddr};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::proxy::{CONNECTIONS, Proxy, fail_over, name};

/// The part of the connections that streams may take.
const STREAMS: usize = CONNECTIONS / 4;
/// Much longer than anything here takes.
const BOUND: Duration = Duration::from_secs(60);
/// What a member may be called in the DCS by somebody who means harm.
const HARMFUL: &str =
    "</section><script>alert(1)</script>\r\n\r\nevent: x\rdata: <img src=x onerror=alert(1)>";

/// A stream of updates, after its head.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn open(proxy: &Proxy) -> Result<Self, u16> {
        Self::read_head(TcpStream::connect(proxy.addr).await.unwrap()).await
    }

    /// Opens one and then reads nothing, with the least buffer for what arrives.
    async fn open_without_reading(proxy: &Proxy) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let mut stream = socket.connect(proxy.addr).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        stream
    }

    async fn read_head(mut stream: TcpStream) -> Result<Self, u16> {
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).await.unwrap() > 0, "{head}");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 200 {
            return Err(status);
        }
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        Ok(Self(lines))
    }

    /// The next update: what the page shows now, and the changes of leader if they are told.
    async fn next(&mut self) -> (String, Option<String>) {
        let mut line = String::new();
        loop {
            line.clear();
            let read = timeout(BOUND, self.0.read_line(&mut line)).await.expect("an update");
            assert!(read.unwrap() > 0, "the stream has ended");
            // Other lines are the sizes of chunks and what separates events.
            if let Some(json) = line.strip_prefix("data: ") {
                let mut parts: BTreeMap<String, String> = serde_json::from_str(json).unwrap();
                let failovers = parts.remove("failovers");
                return (parts.remove("now").unwrap(), failovers);
            }
        }
    }

    /// Waits for an update that shows a text.
    async fn showing(&mut self, text: &str) -> (String, Option<String>) {
        let shown = async {
            loop {
                let update = self.next().await;
                if update.0.contains(text) {
                    return update;
                }
            }
        };
        timeout(BOUND, shown).await.unwrap_or_else(|_| panic!("no update shows {text}"))
    }
}

/// Nothing of the name is left as it was, and all of it can be read.
fn assert_escaped(html: &str) {
    assert!(!html.contains("<script>") && !html.contains("<img") && !html.contains("onerror=alert(1)>"));
    assert!(html.contains("&#60;/section&#62;&#60;script&#62;alert(1)&#60;/script&#62;"), "{html}");
}

async fn add_harmful_member(proxy: &Proxy) {
    let member = |host| Member { addr: ServerAddr::new(host, 5432), no_load_balance: false };
    let names = [("a", "10.0.0.1"), ("b", "10.0.0.2"), (HARMFUL, "10.0.0.3")];
    let members = names.map(|(known, host)| (name(known), member(host)));
    proxy.observe([Observation::Members(BTreeMap::from(members))]).await;
}

#[tokio::test]
async fn the_page_says_where_writes_go_and_why() {
    let proxy = Proxy::with_leader().await;
    let (status, page) = proxy.get("/").await;
    assert_eq!(status, 200);
    for text in [
        "<title>main · pg-leader-proxy</title>",
        "<h1>Writes go to <b>a</b></h1>",
        "because it holds the leader key, its lease is valid, and it answers that it is not in recovery",
        "lease valid for ",
        "replica, healthy",
        "<dt>write address</dt><dd>10.0.0.9:5433</dd>",
        "None so far.",
    ] {
        assert!(page.contains(text), "{text} is missing in {page}");
    }
    proxy.observe([Observation::LeaderKey { key: None, lease: None, seen: clock::now() }]).await;
    let (_, page) = proxy.get("/").await;
    assert!(
        page.contains("<h1>Writes wait</h1>\n<p class=\"why\">because no member holds the leader key</p>")
    );
    assert!(page.contains("a → no leader yet") && page.contains("the leader key was deleted"), "{page}");
}

#[tokio::test]
async fn the_page_runs_nothing_that_it_shows() {
    let proxy = Proxy::with_leader().await;
    add_harmful_member(&proxy).await;
    let (_, head, page) = proxy.exchange("GET / HTTP/1.0\r\n\r\n").await;
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    let directives: Vec<&str> = policy.split("; ").collect();
    assert_eq!(directives[0], "default-src 'none'");
    assert!(directives.iter().all(|of| of.ends_with(" 'none'") || of.ends_with(" 'self'")), "{policy}");
    for directive in ["script-src", "style-src", "img-src", "connect-src"] {
        assert!(directives.contains(&format!("{directive} 'self'").as_str()), "{policy}");
    }
    assert_escaped(&page);
    assert_eq!(page.matches("<script").count(), 1, "its own, which is a file");
    // The policy forbids all of these, so they would not work.
    assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains(" onclick="), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("=\"//"), "{page}");
}

#[tokio::test]
async fn every_file_that_the_page_names_is_there() {
    let proxy = Proxy::with_leader().await;
    let (_, page) = proxy.get("/").await;
    let named = page.split(['"', ' ']).collect::<Vec<_>>();
    for (file, content_type) in
        [("page.js", "text/javascript"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")]
    {
        assert!(named.contains(&file), "{page}");
        let (status, head, body) = proxy.exchange(&format!("GET /{file} HTTP/1.0\r\n\r\n")).await;
        assert_eq!(status, 200);
        assert!(head.contains(content_type) && head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(!body.is_empty());
    }
}

#[tokio::test]
async fn an_open_page_learns_of_a_change_of_leader() {
    let proxy = Proxy::with_leader().await;
    let mut events = Events::open(&proxy).await.unwrap_or_else(|status| panic!("{status}"));
    let (now, failovers) = events.next().await;
    assert!(now.contains("<h1>Writes go to <b>a</b></h1>"), "{now}");
    assert!(failovers.unwrap().contains("None so far."), "the first update has everything");
    let (_, failovers) = events.next().await;
    assert_eq!(failovers, None, "what has not changed is not sent again");
    fail_over(&proxy).await;
    let (_, failovers) = events.showing("<h1>Writes go to <b>b</b></h1>").await;
    let failovers = failovers.expect("the change of leader");
    assert!(failovers.contains("a → b") && failovers.contains("b took the leader key"), "{failovers}");
}

#[tokio::test]
async fn an_update_is_escaped_and_cannot_be_split() {
    let proxy = Proxy::with_leader().await;
    add_harmful_member(&proxy).await;
    let mut events = Events::open(&proxy).await.unwrap_or_else(|status| panic!("{status}"));
    let (now, _) = events.next().await;
    assert_escaped(&now);
    assert!(now.contains("\r\n\r\nevent: x\rdata: "), "it arrives as it is, within one event: {now}");
}

#[tokio::test]
async fn sessions_and_held_clients_are_drawn() {
    let proxy = Proxy::with_leader().await;
    let mut events = Events::open(&proxy).await.unwrap_or_else(|status| panic!("{status}"));
    // After this one there is a sample that the next can be compared with.
    events.next().await;
    let write = proxy.counters.route(RouteKind::Write);
    write.open.add(7);
    write.waited.add(3);
    let (now, _) = events.showing("Open sessions without held clients <b>7</b>").await;
    assert!(now.contains("at most 3 in five minutes"), "clients that waited for less than a second: {now}");
}

#[tokio::test]
async fn streams_are_bounded_and_keep_no_health_check_out() {
    let proxy = Proxy::with_leader().await;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        open.push(Events::open(&proxy).await.unwrap_or_else(|status| panic!("{status}")));
    }
    assert_eq!(Events::open(&proxy).await.err(), Some(503));
    for path in ["/live", "/ready", "/leader", "/"] {
        assert_eq!(proxy.get(path).await.0, 200, "{path}");
    }
    // One that is closed makes room for another.
    open.pop();
    timeout(BOUND, async {
        while Events::open(&proxy).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("room for another stream");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_loses_its_stream() {
    let proxy = Proxy::with_leader().await;
    let mut stuck = Vec::new();
    for _ in 0..STREAMS {
        stuck.push(Events::open_without_reading(&proxy).await);
    }
    assert_eq!(Events::open(&proxy).await.err(), Some(503));
    let dropped = async {
        while Events::open(&proxy).await.is_err() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(BOUND, dropped).await.expect("the slow readers are dropped");
    for mut stream in stuck {
        // The kernel still has what had arrived by then; after it comes the end.
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_millis(10), stream.read_to_end(&mut rest)).await;
        assert!(rest.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_stream_outlasts_other_connections() {
    let proxy = Proxy::with_leader().await;
    let mut events = Events::open(&proxy).await.unwrap_or_else(|status| panic!("{status}"));
    // One a second, and an ordinary connection lasts ten.
    for _ in 0..12 {
        events.next().await;
    }
}
