//! A recorder on a TCP connection: passes both directions on and keeps every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::wait_for;

/// A listener that connects each client to `target` and records the connection.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What passed on one connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recording {
    /// Everything the client sent.
    pub from_client: Vec<u8>,
    /// Everything the server sent.
    pub from_server: Vec<u8>,
    /// Whether the server's stream ended while the client's was open.
    pub server_ended_first: bool,
}

impl Tap {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(address: SocketAddr, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("record on {address}"))?;
        let shared = Arc::new(Shared::default());
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, target, &shared)
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// The recordings so far, once every connection that `wanted` accepts has ended in both directions.
    ///
    /// # Errors
    /// When one is still open after `bound`.
    pub fn recordings(&self, bound: Duration, wanted: impl Fn(&Recording) -> bool) -> Result<Vec<Recording>> {
        let mut open = None;
        let ended = wait_for("the end of every recorded connection", bound, || {
            let connections = lock(&self.shared.connections);
            let wanted = connections.iter().filter(|connection| wanted(&lock(&connection.recording)));
            let wanted: Vec<_> = wanted.collect();
            open = wanted.iter().find(|connection| *lock(&connection.directions_open) > 0).map(|found| {
                let recording = lock(&found.recording);
                let said = excerpt(&recording.from_client, 0);
                format!(
                    "open: {said:?}, {} bytes, answered by {}",
                    recording.from_client.len(),
                    recording.from_server.len()
                )
            });
            let ended = wanted.iter().map(|connection| lock(&connection.recording).clone());
            Ok(if open.is_some() { None } else { Some(ended.collect()) })
        });
        ended.with_context(|| open.unwrap_or_default())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // The acceptor looks at the flag when it accepts, so it gets one more connection.
        let _ = TcpStream::connect(self.address);
        for connection in lock(&self.shared.connections).iter() {
            connection.close();
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Says that both sides of the proxy saw the same connections with the same bytes. Gives their number.
///
/// Only what a client says to a server that has ended already may be missing: nobody is there to hear it. TLS clients do
/// that each time a server ends first, because they take their leave.
///
/// # Errors
/// When a connection differs; the error says where.
pub fn same_bytes(front: &[Recording], back: &[Recording]) -> Result<usize> {
    let mut rest: Vec<&Recording> = back.iter().collect();
    for recording in front {
        match rest.iter().position(|other| is_whole(recording, other)) {
            Some(found) => {
                rest.swap_remove(found);
            }
            None => bail!("a connection passed changed: {}", nearest(recording, &rest)),
        }
    }
    if let Some(extra) = rest.first() {
        bail!("the server got a connection that no client made: {:?}", excerpt(&extra.from_client, 0));
    }
    Ok(front.len())
}

fn is_whole(front: &Recording, back: &Recording) -> bool {
    let heard = if back.server_ended_first {
        front.from_client.starts_with(&back.from_client)
    } else {
        front.from_client == back.from_client
    };
    heard && front.from_server == back.from_server
}

/// Describes where `recording` leaves the most similar of `others`.
fn nearest(recording: &Recording, others: &[&Recording]) -> String {
    let likeness = |other: &Recording| {
        common(&recording.from_client, &other.from_client)
            + common(&recording.from_server, &other.from_server)
    };
    let Some(other) = others.iter().max_by_key(|other| likeness(other)) else {
        return format!("nothing like it arrived; it began {:?}", excerpt(&recording.from_client, 0));
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
    format!("(client's side of the proxy and server's side) {from_client}; {from_server}")
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
        // Without a server the client sees its connection end, as it would without us.
        let Ok(server) = TcpStream::connect(target) else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let connection = Arc::new(Connection {
            client,
            server,
            recording: Mutex::default(),
            directions_open: Mutex::new(2),
        });
        lock(&shared.connections).push(Arc::clone(&connection));
        let other = Arc::clone(&connection);
        std::thread::spawn(move || pass(&connection, Direction::FromClient));
        std::thread::spawn(move || pass(&other, Direction::FromServer));
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    FromClient,
    FromServer,
}

/// Copies one direction until its source ends, by a reset as well. A sink that is gone does not stop the reading, nor does
/// the end of the other direction: what the source still sends was sent, and belongs into the recording.
fn pass(connection: &Connection, direction: Direction) {
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
                let mut recording = lock(&connection.recording);
                match direction {
                    Direction::FromClient => recording.from_client.extend_from_slice(&buffer[..length]),
                    Direction::FromServer => recording.from_server.extend_from_slice(&buffer[..length]),
                }
                drop(recording);
                sink_open = sink_open && sink.write_all(&buffer[..length]).is_ok();
            }
        }
    }
    let mut open = lock(&connection.directions_open);
    // Marked before the end is passed on: what comes after was sent to a server known to be gone.
    if direction == Direction::FromServer && *open == 2 {
        lock(&connection.recording).server_ended_first = true;
    }
    *open -= 1;
    drop(open);
    let _ = sink.shutdown(Shutdown::Write);
}

/// A test that panicked while holding a lock has failed already; the others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn the_same_connections_in_another_order_are_the_same() {
        let (one, two) = (recording(b"ask", b"answer"), recording(b"ask", b"another"));
        assert_eq!(same_bytes(&[one.clone(), two.clone()], &[two, one]).unwrap(), 2);
    }

    #[test]
    fn a_changed_byte_is_told_with_its_place() {
        let error = same_bytes(&[recording(b"ask", b"answer")], &[recording(b"ask", b"ansWer")]).unwrap_err();
        assert!(error.to_string().contains("the same up to 3, then \"wer\" and \"Wer\""), "{error}");
    }

    #[test]
    fn only_a_server_that_ended_first_may_miss_something() {
        let front = recording(b"ask, and leave", b"answer");
        let mut back = recording(b"ask", b"answer");
        assert!(!is_whole(&front, &back));
        back.server_ended_first = true;
        assert!(is_whole(&front, &back));
        back.from_client = b"asK".to_vec();
        assert!(!is_whole(&front, &back));
        let mut shorter = recording(b"ask, and leave", b"answe");
        shorter.server_ended_first = true;
        assert!(!is_whole(&front, &shorter));
    }

    #[test]
    fn a_lost_or_added_connection_is_told() {
        let one = recording(b"ask", b"answer");
        let twice = [one.clone(), one];
        assert!(same_bytes(&twice, &twice[..1]).is_err());
        assert!(same_bytes(&twice[..1], &twice).is_err());
    }

    #[test]
    fn what_is_sent_after_the_other_side_ended_is_kept() {
        let at = crate::Loopback::pick().unwrap();
        let server = TcpListener::bind(at.server()).unwrap();
        let tap = Tap::start(at.client_tap(), at.server()).unwrap();
        let mut client = TcpStream::connect(at.client_tap()).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        accepted.write_all(b"last word").unwrap();
        accepted.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).unwrap();
        client.write_all(b"late").unwrap();
        drop(client);
        let recordings = tap.recordings(Duration::from_secs(5), |_| true).unwrap();
        let ended_first = Recording { server_ended_first: true, ..recording(b"late", b"last word") };
        assert_eq!(recordings, [ended_first]);
        assert_eq!(heard, b"last word");
    }
}
