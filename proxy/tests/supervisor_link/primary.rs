//! A fake primary: it replies to probes, and answers every message of a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// AuthenticationOk.
pub(crate) const AUTH_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
/// ReadyForQuery.
pub(crate) const READY: &[u8] = b"Z\0\0\0\x05I";

/// The columns of the probe's query, in order, and the reply of a primary on timeline 4.
const ANSWER: [(&str, Option<&str>); 8] = [
    ("recovers", Some("false")),
    ("system_id", Some("7")),
    ("started", None),
    ("timeline", Some("00000004")),
    ("written", Some("0/1000")),
    ("received", None),
    ("replayed", None),
    ("streaming", Some("false")),
];

/// A fake server that reports to be a primary, unless it is set to be in recovery.
pub(crate) struct Primary {
    pub(crate) addr: SocketAddr,
    in_recovery: Arc<AtomicBool>,
    _serving: JoinSet<()>,
}

impl Primary {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let in_recovery = Arc::new(AtomicBool::new(false));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&in_recovery), addr.port()));
        Self { addr, in_recovery, _serving: serving }
    }

    /// Sets what probes are told from now on.
    pub(crate) fn set_in_recovery(&self, is: bool) {
        self.in_recovery.store(is, Ordering::Relaxed);
    }
}

/// The port also is the time at which the server started, so that each is another one.
async fn serve(listener: TcpListener, in_recovery: Arc<AtomicBool>, port: u16) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(converse(client, Arc::clone(&in_recovery), port));
    }
}

/// Asks for TLS.
pub(crate) const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// Answers until the client leaves. TLS is refused.
async fn converse(mut client: TcpStream, in_recovery: Arc<AtomicBool>, port: u16) -> std::io::Result<()> {
    let mut startup = first_packet(&mut client).await?;
    if startup == SSL_REQUEST[4..] {
        client.write_all(b"N").await?;
        startup = first_packet(&mut client).await?;
    }
    client.write_all(&[AUTH_OK, READY].concat()).await?;
    let probe = startup.windows(7).any(|part| part == b"monitor");
    loop {
        client.read_u8().await?;
        let mut message = vec![0; client.read_u32().await? as usize - 4];
        client.read_exact(&mut message).await?;
        if probe {
            client.write_all(&row(in_recovery.load(Ordering::Relaxed), &port.to_string())).await?;
        }
        client.write_all(READY).await?;
    }
}

/// A first packet without its length.
async fn first_packet(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; client.read_u32().await? as usize - 4];
    client.read_exact(&mut packet).await?;
    Ok(packet)
}

/// RowDescription, DataRow and CommandComplete.
fn row(in_recovery: bool, started: &str) -> Vec<u8> {
    let (mut names, mut values) = (columns(), columns());
    for (name, value) in ANSWER {
        names.extend_from_slice(name.as_bytes());
        // No table, type text, any length, text format.
        names.extend_from_slice(b"\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        let value = match (name, in_recovery) {
            ("started", _) => Some(started),
            ("recovers" | "streaming", true) => Some("true"),
            ("timeline", true) => Some("4"),
            ("written", true) => None,
            _ => value,
        };
        let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
        values.extend_from_slice(&length.to_be_bytes());
        values.extend_from_slice(value.unwrap_or_default().as_bytes());
    }
    [message(b'T', &names), message(b'D', &values), message(b'C', b"SELECT 1\0")].concat()
}

fn columns() -> Vec<u8> {
    u16::try_from(ANSWER.len()).unwrap().to_be_bytes().to_vec()
}

/// A message of the protocol.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}
