//! A link relays bytes, keeps them while paused, resets when cut, and recovers from both.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use lab::{Link, LinkMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(5);
/// Long enough to see a byte that should not arrive.
const SILENCE: Duration = Duration::from_millis(150);

/// A server that sends back what it reads, and a link to it.
async fn link() -> Link {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = server.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = server.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.into_split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Link::start(&Handle::current(), any, target).unwrap()
}

async fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    stream.read_exact(&mut [0; 4]).await.map(drop)
}

#[tokio::test]
async fn bytes_pass_and_so_does_the_end_of_a_stream() {
    let link = link().await;
    let mut stream = TcpStream::connect(link.address()).await.unwrap();
    stream.write_all(b"all of it").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "all of it");
}

#[tokio::test]
async fn a_paused_link_keeps_connections_and_bytes_for_later() {
    let link = link().await;
    let mut old = TcpStream::connect(link.address()).await.unwrap();
    echo(&mut old).await.unwrap();
    link.set(LinkMode::Paused);
    let mut new = TcpStream::connect(link.address()).await.unwrap();
    assert!(timeout(SILENCE, echo(&mut old)).await.is_err(), "a byte passed");
    assert!(timeout(SILENCE, echo(&mut new)).await.is_err(), "a byte passed");
    link.set(LinkMode::Open);
    for stream in [&mut old, &mut new] {
        timeout(SOON, stream.read_exact(&mut [0; 4])).await.unwrap().unwrap();
        timeout(SOON, echo(stream)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_cut_link_resets_and_refuses_until_it_is_open_again() {
    let link = link().await;
    let mut old = TcpStream::connect(link.address()).await.unwrap();
    echo(&mut old).await.unwrap();
    link.set(LinkMode::Cut);
    let reset = timeout(SOON, old.read_exact(&mut [0; 1])).await.unwrap().unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    let refused = TcpStream::connect(link.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    link.set(LinkMode::Open);
    let opened = async {
        loop {
            if let Ok(mut stream) = TcpStream::connect(link.address()).await {
                return echo(&mut stream).await;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, opened).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_cut_ends_connections_that_were_paused() {
    let link = link().await;
    link.set(LinkMode::Paused);
    let mut stream = TcpStream::connect(link.address()).await.unwrap();
    assert!(timeout(SILENCE, echo(&mut stream)).await.is_err());
    link.set(LinkMode::Cut);
    assert!(timeout(SOON, stream.read_exact(&mut [0; 1])).await.unwrap().is_err());
}

#[tokio::test]
async fn while_a_server_refuses_so_does_the_link() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let link = Link::start(&Handle::current(), "127.0.0.1:0".parse().unwrap(), gone).unwrap();
    // The first connection shows the link that nobody listens.
    let mut stream = TcpStream::connect(link.address()).await.unwrap();
    assert!(timeout(SOON, stream.read_exact(&mut [0; 1])).await.unwrap().is_err());
    let refused = async {
        while TcpStream::connect(link.address()).await.map_err(|error| error.kind()).err()
            != Some(ErrorKind::ConnectionRefused)
        {
            tokio::time::sleep(RETRY).await;
        }
    };
    timeout(SOON, refused).await.unwrap();

    let server = TcpListener::bind(gone).await.unwrap();
    let accepting = async {
        while TcpStream::connect(link.address()).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
    };
    timeout(SOON, accepting).await.unwrap();
    drop(server);
}

#[tokio::test]
async fn a_link_that_refuses_new_connections_serves_the_open_ones() {
    let link = link().await;
    let mut open = TcpStream::connect(link.address()).await.unwrap();
    echo(&mut open).await.unwrap();
    link.set(LinkMode::RefusesNew);
    timeout(SOON, async {
        while TcpStream::connect(link.address()).await.is_ok() {
            tokio::time::sleep(RETRY).await;
        }
    })
    .await
    .unwrap();
    timeout(SOON, echo(&mut open)).await.unwrap().unwrap();
    link.set(LinkMode::Open);
    timeout(SOON, async {
        while TcpStream::connect(link.address()).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
    })
    .await
    .unwrap();
    timeout(SOON, echo(&mut open)).await.unwrap().unwrap();
}
