//! Connect failures: why a client's server did not answer, told truly to the client and to the log.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Moment};
use tracing::{debug, warn};

use crate::admission::Target;
use crate::clock;
use crate::net;

/// How often a fault of this machine is logged at most. It usually concerns every client.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The last attempt of a client to reach a server.
#[derive(Clone, Debug)]
pub(super) struct ConnectFailure {
    member: MemberName,
    socket: std::net::SocketAddr,
    cause: Cause,
}

#[derive(Clone, Debug)]
enum Cause {
    /// The server answered that it takes no connections now, or its epoch ended meanwhile.
    NotReady,
    /// The server or the network failed.
    Server(String),
    /// This machine failed: what it lacks, and the operating system's error.
    ThisMachine(&'static str, String),
}

impl ConnectFailure {
    pub(super) fn not_ready(target: &Target) -> Self {
        Self { member: target.member.clone(), socket: target.socket, cause: Cause::NotReady }
    }

    pub(super) fn new(target: &Target, error: &io::Error) -> Self {
        Self { member: target.member.clone(), socket: target.socket, cause: Cause::of(error) }
    }

    /// Whether this machine is the cause, so that the server is not to blame.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self.cause, Cause::ThisMachine(..))
    }
}

impl Cause {
    fn of(error: &io::Error) -> Self {
        match net::local_fault(error) {
            Some(lacks) => Self::ThisMachine(lacks, error.to_string()),
            None => Self::Server(error.to_string()),
        }
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { member, socket, cause } = self;
        match cause {
            Cause::NotReady => write!(f, "{member} at {socket} takes no connections at the moment"),
            Cause::Server(error) => write!(f, "{member} at {socket} does not accept the connection: {error}"),
            Cause::ThisMachine(lacks, error) => {
                write!(f, "the proxy cannot connect to {member} at {socket}: {lacks} ({error})")
            }
        }
    }
}

/// Logs failures. Those of this machine are warnings, at most one in ten seconds.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    warned: Cell<Option<Moment>>,
    suppressed: Cell<u64>,
}

impl FailureLog {
    pub(super) fn record(&self, failure: &ConnectFailure) {
        if !failure.is_local() {
            debug!(member = %failure.member, "{failure}; the client keeps waiting");
        } else if let Some(suppressed) = self.due(clock::now()) {
            warn!(member = %failure.member, suppressed, "{failure}");
        }
    }

    /// How many failures were not logged since the last warning, if another one is due.
    fn due(&self, now: Moment) -> Option<u64> {
        if self.warned.get().is_some_and(|warned| now < warned + LOG_INTERVAL) {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.warned.set(Some(now));
        Some(self.suppressed.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_limited_and_the_rest_is_counted() {
        let log = FailureLog::default();
        let at = |seconds| Moment::from_boot(Duration::from_secs(seconds));
        assert_eq!(log.due(at(1)), Some(0));
        assert_eq!([log.due(at(2)), log.due(at(10))], [None, None]);
        assert_eq!(log.due(at(11)), Some(2));
        assert_eq!(log.due(at(30)), Some(0));
    }

    #[test]
    fn a_client_hears_whose_fault_it_is() {
        let failure = |errno: rustix::io::Errno| {
            let (member, socket) = (MemberName::new("a"), ([10, 0, 0, 1], 5432).into());
            ConnectFailure { member, socket, cause: Cause::of(&errno.into()) }.to_string()
        };
        assert_eq!(
            failure(rustix::io::Errno::CONNREFUSED),
            "a at 10.0.0.1:5432 does not accept the connection: Connection refused (os error 111)"
        );
        assert_eq!(
            failure(rustix::io::Errno::MFILE),
            "the proxy cannot connect to a at 10.0.0.1:5432: no file descriptor is left (Too many open files (os error 24))"
        );
    }
}
