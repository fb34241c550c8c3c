//! Termination: what a client is told when the proxy ends its session.

use std::io::{ErrorKind, Write};

use mio::net::TcpStream;
use pg_leader_proxy_core::{MemberName, SessionEnd};
use rustix::net::{RecvFlags, recv};

use super::boundary::Boundary;
use crate::admission::{DisconnectReason, Grant};
use crate::counters::TerminationKind;
use crate::route::RouteKind;
use crate::wire::{self, SqlState};

/// More than an ErrorResponse has that ends a session, in bytes.
const LAST_WORD_MAX: usize = 4 * 1024;

/// Sends the client `error`, if it can be told anything now; otherwise its connection must be reset. `boundary` is the
/// position of the last byte that it was sent.
///
/// A client hears exactly one error that ends its session. If the server has sent its own, nothing is added. If the
/// server's is still unread, it is never forwarded, and the proxy's takes its place. Other unread bytes are the answer to
/// a command, whose outcome an error would misreport.
pub(super) fn tell(
    [mut client, server]: [&TcpStream; 2],
    boundary: &Boundary,
    error: impl FnOnce() -> Vec<u8>,
) -> bool {
    if boundary.ends_with_error() {
        return true;
    }
    if !boundary.takes_error() || answers(server) {
        return false;
    }
    let error = error();
    client.write(&error).is_ok_and(|written| written == error.len())
}

/// Whether the server has sent something that was not read yet, other than an error that ends the session.
fn answers(server: &TcpStream) -> bool {
    let mut unread = [0; LAST_WORD_MAX];
    match recv(server, &mut unread[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => false,
        Ok((_, length)) => !wire::is_fatal(&unread[..length]),
        // A broken connection answers nothing any more.
        Err(error) => error.kind() == ErrorKind::Interrupted,
    }
}

/// The error for a client of `route` whose session with `member` ends with this grant.
pub(super) fn error(grant: &Grant, route: RouteKind, member: &MemberName) -> Vec<u8> {
    let what = match kind(grant, route, member) {
        TerminationKind::Server(end) => end.text(),
        TerminationKind::EndedByServer => SessionEnd::ServerDown.text(),
        TerminationKind::Operator => "an operator has ended this session",
        TerminationKind::Stopping => "the proxy is shutting down",
    };
    let why = match (grant.disconnect_reason(), route) {
        (Some(DisconnectReason::Stopping), _) => "session.drain_timeout is over".to_owned(),
        (Some(DisconnectReason::NewLeader), _) => "there is a new leader".to_owned(),
        (Some(DisconnectReason::Route(reason)), _) => reason.for_clients().to_string(),
        (None, RouteKind::Read) if grant.ends_when_idle() => "the read route leads to replicas".to_owned(),
        (None, RouteKind::Read) => String::new(),
        (None, RouteKind::Write) => "its lease has expired".to_owned(),
    };
    wire::fatal(SqlState::AdminShutdown, &format!("terminating connection: {what}"), &why)
}

/// Why a session of `route` with `member` ends with this grant.
pub(super) fn kind(grant: &Grant, route: RouteKind, member: &MemberName) -> TerminationKind {
    TerminationKind::Server(match (grant.disconnect_reason(), route) {
        (Some(DisconnectReason::Stopping), _) => return TerminationKind::Stopping,
        (Some(DisconnectReason::NewLeader), _) => SessionEnd::NoLongerLeader,
        (Some(DisconnectReason::Route(reason)), _) => reason.end_of_sessions(member),
        (None, RouteKind::Read) if grant.ends_when_idle() => SessionEnd::Promoted,
        (None, RouteKind::Read) => SessionEnd::Silent,
        (None, RouteKind::Write) => SessionEnd::UnconfirmedLeader,
    })
}

/// The error for a client whose session an operator ended: PostgreSQL's own for `pg_terminate_backend`.
pub(super) fn operator_error() -> Vec<u8> {
    wire::fatal(SqlState::AdminShutdown, "terminating connection due to administrator command", "")
}

#[cfg(test)]
mod tests {
    use pg_leader_proxy_core::{Moment, ProbeFailure, Reason};

    use super::*;

    fn told(route: RouteKind, change: impl FnOnce(&Grant)) -> String {
        let grant = Grant::until(Moment::default());
        change(&grant);
        let error = error(&grant, route, &MemberName::new("a"));
        let fields = error[5..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let texts = fields.filter_map(|field| field.strip_prefix(['M', 'D']).map(str::to_owned));
        texts.collect::<Vec<_>>().join("; ").replace("terminating connection: ", "")
    }

    fn for_reason(route: RouteKind, reason: Reason) -> String {
        told(route, |grant| grant.revoke(DisconnectReason::Route(reason)))
    }

    #[test]
    fn a_writer_hears_what_became_of_its_leader() {
        let (a, b) = (|| MemberName::new("a"), || MemberName::new("b"));
        let write = |reason| for_reason(RouteKind::Write, reason);
        for (reason, text) in [
            (Reason::NoLeader, "the server is no longer the leader; no member holds the leader key"),
            (
                Reason::LeaderProbeFailed(a(), ProbeFailure::ShuttingDown),
                "the server is down; a holds the leader key but is shutting down",
            ),
            (
                Reason::LeaderProbeFailed(b(), ProbeFailure::Refused),
                "the server is no longer the leader; b holds the leader key but refuses connections",
            ),
            (
                Reason::LeaseExpiring(a()),
                "the server can no longer be confirmed as the leader; a does not renew its lease",
            ),
        ] {
            assert_eq!(write(reason), text);
        }
        assert_eq!(
            told(RouteKind::Write, |grant| grant.revoke(DisconnectReason::NewLeader)),
            "the server is no longer the leader; there is a new leader"
        );
        assert_eq!(
            told(RouteKind::Write, |_| {}),
            "the server can no longer be confirmed as the leader; its lease has expired"
        );
    }

    #[test]
    fn a_reader_hears_what_became_of_its_replica() {
        let a = || MemberName::new("a");
        let read = |reason| for_reason(RouteKind::Read, reason);
        for (reason, text) in [
            (
                Reason::MemberRecordGone(a()),
                "the server has left the cluster; the cluster does not name a any more",
            ),
            (Reason::ReplicaSilent(a()), "the server does not reply any more; a does not reply any more"),
            (Reason::ReplicaRestarted(a()), "the server was restarted; a was restarted"),
            (Reason::ReplicaPromoted(a()), "the server is a primary now; a was promoted"),
        ] {
            assert_eq!(read(reason), text);
        }
        let promoted = told(RouteKind::Read, |grant| grant.set_ends_when_idle(true));
        assert_eq!(promoted, "the server is a primary now; the read route leads to replicas");
    }

    #[test]
    fn a_shutdown_is_told_to_both() {
        for route in RouteKind::ALL {
            assert_eq!(
                told(route, |grant| grant.revoke(DisconnectReason::Stopping)),
                "the proxy is shutting down; session.drain_timeout is over"
            );
        }
    }
}
