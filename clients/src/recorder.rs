//! A TCP relay that records every byte of both directions.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::retry;
use parking_lot::Mutex;

/// A listener that relays each connection to `target` and records it.
#[derive(Debug)]
pub(crate) struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// The bytes of one connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recording {
    /// Everything the client sent.
    pub from_client: Vec<u8>,
    /// Everything the server sent.
    pub from_server: Vec<u8>,
    /// Whether the server ended its stream before the client did.
    pub server_ended_first: bool,
}

impl Recorder {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address is taken.
    pub(crate) fn start(address: SocketAddr, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("record on {address}"))?;
        let shared = Arc::new(Shared::default());
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, target, &shared)
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// The recordings so far of the connections that `wanted` accepts. Waits until these have ended in both directions.
    ///
    /// # Errors
    /// When one is still open after `bound`.
    pub(crate) fn recordings(
        &self,
        bound: Duration,
        wanted: impl Fn(&Recording) -> bool,
    ) -> Result<Vec<Recording>> {
        retry("every recorded connection to end", bound, || {
            let connections = self.shared.connections.lock();
            let mut ended = Vec::new();
            for connection in connections.iter().filter(|connection| wanted(&connection.recording.lock())) {
                let recording = connection.recording.lock().clone();
                ensure!(
                    *connection.directions_open.lock() == 0,
                    "open: {:?}, {} bytes from the client, {} from the server",
                    excerpt(&recording.from_client, 0),
                    recording.from_client.len(),
                    recording.from_server.len()
                );
                ended.push(recording);
            }
            Ok(ended)
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // The acceptor checks the flag when it accepts, so it needs one more connection.
        let _ = TcpStream::connect(self.address);
        for connection in self.shared.connections.lock().iter() {
            connection.close();
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Checks that both sides of the proxy had the same connections with the same bytes. Returns their number.
///
/// Only what a client sends after the server has ended its stream may be missing, because nobody reads it any more. TLS
/// clients always send something then: their close_notify.
///
/// # Errors
/// When a connection differs. The error says where.
pub(crate) fn same_bytes(at_client: &[Recording], at_server: &[Recording]) -> Result<usize> {
    let mut rest: Vec<&Recording> = at_server.iter().collect();
    for recording in at_client {
        match rest.iter().position(|other| is_unchanged(recording, other)) {
            Some(found) => {
                rest.swap_remove(found);
            }
            None => bail!("a connection was changed: {}", first_difference(recording, &rest)),
        }
    }
    if let Some(extra) = rest.first() {
        bail!("a connection reached the server that no client made: {:?}", excerpt(&extra.from_client, 0));
    }
    Ok(at_client.len())
}

fn is_unchanged(at_client: &Recording, at_server: &Recording) -> bool {
    let received = if at_server.server_ended_first {
        at_client.from_client.starts_with(&at_server.from_client)
    } else {
        at_client.from_client == at_server.from_client
    };
    received && at_client.from_server == at_server.from_server
}

/// Says where `recording` and the most similar of `others` begin to differ.
fn first_difference(recording: &Recording, others: &[&Recording]) -> String {
    let similarity = |other: &Recording| {
        common(&recording.from_client, &other.from_client)
            + common(&recording.from_server, &other.from_server)
    };
    let Some(other) = others.iter().max_by_key(|other| similarity(other)) else {
        return format!("there is no other; it begins {:?}", excerpt(&recording.from_client, 0));
    };
    let direction = |name: &str, before: &[u8], after: &[u8]| {
        let at = common(before, after);
        let (was, is) = (excerpt(before, at), excerpt(after, at));
        format!(
            "{name}: {} and {} bytes, the same up to {at}, then {was:?} and {is:?}",
            before.len(),
            after.len()
        )
    };
    let from_client = direction("from the client", &recording.from_client, &other.from_client);
    let from_server = direction("from the server", &recording.from_server, &other.from_server);
    format!("at the client's side of the proxy and at the server's: {from_client}; {from_server}")
}

fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn excerpt(bytes: &[u8], at: usize) -> String {
    bytes[at..].iter().take(64).copied().flat_map(std::ascii::escape_default).map(char::from).collect()
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    recording: Mutex<Recording>,
    directions_open: Mutex<u8>,
}

impl Connection {
    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        // Without a server the client's connection ends.
        let Ok(server) = TcpStream::connect(target) else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let connection = Arc::new(Connection {
            client,
            server,
            recording: Mutex::default(),
            directions_open: Mutex::new(2),
        });
        shared.connections.lock().push(Arc::clone(&connection));
        let other = Arc::clone(&connection);
        std::thread::spawn(move || relay(&connection, Direction::FromClient));
        std::thread::spawn(move || relay(&other, Direction::FromServer));
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    FromClient,
    FromServer,
}

/// Copies one direction until its source ends or is reset. Goes on when the sink is gone or the other direction has ended:
/// what the source still sends belongs in the recording.
fn relay(connection: &Connection, direction: Direction) {
    let (mut source, mut sink) = match direction {
        Direction::FromClient => (&connection.client, &connection.server),
        Direction::FromServer => (&connection.server, &connection.client),
    };
    let mut buffer = vec![0; 64 * 1024];
    let mut sink_open = true;
    loop {
        match source.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(length) => {
                let mut recording = connection.recording.lock();
                match direction {
                    Direction::FromClient => recording.from_client.extend_from_slice(&buffer[..length]),
                    Direction::FromServer => recording.from_server.extend_from_slice(&buffer[..length]),
                }
                drop(recording);
                sink_open = sink_open && sink.write_all(&buffer[..length]).is_ok();
            }
        }
    }
    let mut open = connection.directions_open.lock();
    // Before the end is passed on: a client that has seen it sends to a server that is gone.
    if direction == Direction::FromServer && *open == 2 {
        connection.recording.lock().server_ended_first = true;
    }
    *open -= 1;
    drop(open);
    let _ = sink.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(from_client: &[u8], from_server: &[u8]) -> Recording {
        Recording {
            from_client: from_client.to_vec(),
            from_server: from_server.to_vec(),
            ..Recording::default()
        }
    }

    #[test]
    fn the_order_of_connections_does_not_matter() {
        let (one, two) = (recording(b"ask", b"answer"), recording(b"ask", b"another"));
        assert_eq!(same_bytes(&[one.clone(), two.clone()], &[two, one]).unwrap(), 2);
    }

    #[test]
    fn the_error_for_a_changed_byte_says_where_it_is() {
        let error = same_bytes(&[recording(b"ask", b"answer")], &[recording(b"ask", b"ansWer")]).unwrap_err();
        assert!(error.to_string().contains("the same up to 3, then \"wer\" and \"Wer\""), "{error}");
    }

    #[test]
    fn only_a_server_that_ended_first_may_miss_bytes() {
        let at_client = recording(b"ask, and leave", b"answer");
        let mut at_server = recording(b"ask", b"answer");
        assert!(!is_unchanged(&at_client, &at_server));
        at_server.server_ended_first = true;
        assert!(is_unchanged(&at_client, &at_server));
        at_server.from_client = b"asK".to_vec();
        assert!(!is_unchanged(&at_client, &at_server));
        let mut shorter = recording(b"ask, and leave", b"answe");
        shorter.server_ended_first = true;
        assert!(!is_unchanged(&at_client, &shorter));
    }

    #[test]
    fn a_lost_or_added_connection_is_an_error() {
        let one = recording(b"ask", b"answer");
        let twice = [one.clone(), one];
        assert!(same_bytes(&twice, &twice[..1]).is_err());
        assert!(same_bytes(&twice[..1], &twice).is_err());
    }

    #[test]
    fn what_is_sent_after_the_other_side_ended_is_recorded() {
        let at = crate::addresses::Addresses::take().unwrap();
        let server = TcpListener::bind(at.server()).unwrap();
        let recorder = Recorder::start(at.client_recorder(), at.server()).unwrap();
        let mut client = TcpStream::connect(at.client_recorder()).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        accepted.write_all(b"last word").unwrap();
        accepted.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        client.write_all(b"late").unwrap();
        drop(client);
        let recordings = recorder.recordings(Duration::from_secs(5), |_| true).unwrap();
        let ended_first = Recording { server_ended_first: true, ..recording(b"late", b"last word") };
        assert_eq!(recordings, [ended_first]);
        assert_eq!(received, b"last word");
    }
}
