//! Connect failures: why a client's server did not answer, told truly to the client and to the log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use pg_leader_proxy_core::{MemberName, Moment};
use tracing::{debug, warn};

use crate::admission::Target;
use crate::clock;
use crate::net;

/// A fault of this machine that comes back after this time is another one. One usually concerns every client.
const QUIET: Duration = Duration::from_secs(60);

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
            Cause::Server(error) => write!(f, "the connection to {member} at {socket} failed: {error}"),
            Cause::ThisMachine(lacks, error) => {
                write!(f, "the proxy cannot connect to {member} at {socket}: {lacks} ({error})")
            }
        }
    }
}

/// Logs failures: those of this machine as warnings, one when such a fault begins.
#[derive(Debug, Default)]
pub(super) struct FailureLog {
    /// What this machine lacked, and when that was noticed last.
    lacked: RefCell<BTreeMap<&'static str, Moment>>,
}

impl FailureLog {
    pub(super) fn record(&self, failure: &ConnectFailure) {
        if let Cause::ThisMachine(lacks, _) = failure.cause
            && self.begins(lacks, clock::now())
        {
            let again = "it is logged again when it comes back after a minute without it";
            warn!(member = %failure.member, "{failure}; {again}");
        } else {
            debug!(member = %failure.member, "{failure}; the client keeps waiting");
        }
    }

    fn begins(&self, lacks: &'static str, now: Moment) -> bool {
        self.lacked.borrow_mut().insert(lacks, now).is_none_or(|last| last + QUIET <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_logged_when_it_begins_whatever_else_fails_meanwhile() {
        let log = FailureLog::default();
        let begins = |lacks, seconds| log.begins(lacks, Moment::from_boot(Duration::from_secs(seconds)));
        assert!(begins("port", 1));
        assert!(!begins("port", 2) && begins("route", 3) && !begins("port", 40) && !begins("port", 90));
        assert!(begins("port", 150) && begins("route", 151));
    }

    #[test]
    fn a_client_hears_whose_fault_it_is() {
        let failure = |errno: rustix::io::Errno| {
            let (member, socket) = (MemberName::new("a"), ([10, 0, 0, 1], 5432).into());
            ConnectFailure { member, socket, cause: Cause::of(&errno.into()) }.to_string()
        };
        assert_eq!(
            failure(rustix::io::Errno::CONNREFUSED),
            "the connection to a at 10.0.0.1:5432 failed: Connection refused (os error 111)"
        );
        assert_eq!(
            failure(rustix::io::Errno::MFILE),
            "the proxy cannot connect to a at 10.0.0.1:5432: no file descriptor is left (Too many open files (os error 24))"
        );
    }
}
