//! The session log: one line at the end of each session that says how it ended, in codes that stay the same.

use std::io;
use std::time::{Duration, Instant};

use tracing::field::display;
use tracing::info;

use super::identity::Identity;
use super::record::StartupProgress;
use super::relay::End;
use super::snapshot::SessionSnapshot;
use super::{Session, Shared, termination};
use crate::clock;
use crate::counters::{RejectionKind, TerminationKind};

/// How a session ended.
struct Ending<'a> {
    /// `client_closed`, `server_closed`, `client_failed`, `server_failed`, `terminated`, `rejected` or `left`.
    end: &'static str,
    /// Why the proxy terminated or rejected it.
    reason: Option<&'static str>,
    /// How a connection broke.
    error: Option<&'a io::Error>,
    /// From the accepted connection to the server's first answer.
    first_byte: Option<Duration>,
}

/// Logs the end of a session that was relayed.
pub(super) fn relayed(session: &Session, end: &End) {
    let Session { accepted, target, relay } = session;
    let (end, reason, error) = match end {
        End::Finished if relay.server_ended(end) => ("server_closed", None, None),
        End::Finished => ("client_closed", None, None),
        End::ClientFailed(error) => ("client_failed", None, Some(error)),
        End::ServerFailed(error) => ("server_failed", None, Some(error)),
        End::Terminated => {
            let kind = termination::kind(relay.grant(), accepted.route, &target.member);
            ("terminated", Some(kind.code()), None)
        }
        End::TerminatedByOperator => ("terminated", Some(TerminationKind::Operator.code()), None),
    };
    let first_byte = Some(Duration::from_millis(relay.record.first_byte_ms.into()));
    let ending = Ending { end, reason, error, first_byte };
    log(&accepted.shared, &ending, || session.snapshot(clock::now()));
}

/// Logs the end of a client that was rejected before it had a server.
pub(super) fn rejected(shared: &Shared, progress: &StartupProgress, kind: RejectionKind) {
    unserved(shared, progress, "rejected", Some(kind.code()));
}

/// Logs the end of a client that left while it waited for a server.
pub(super) fn left(shared: &Shared, progress: &StartupProgress) {
    unserved(shared, progress, "left", None);
}

fn unserved(shared: &Shared, progress: &StartupProgress, end: &'static str, reason: Option<&'static str>) {
    let ending = Ending { end, reason, error: None, first_byte: None };
    log(shared, &ending, || progress.snapshot(clock::now()));
}

fn log(shared: &Shared, ending: &Ending<'_>, snapshot: impl FnOnce() -> SessionSnapshot) {
    if !shared.settings.borrow().log_sessions {
        return;
    }
    let Some(left_out) = shared.counters.session_log.due(Instant::now()) else { return };
    if left_out > 0 {
        info!(left_out, "sessions ended that the session log leaves out, because too many did at once");
    }
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let session = snapshot();
    let identity = session.identity.as_ref();
    let (error, member) = (ending.error.map(display), session.member.as_ref().map(display));
    info!(
        session = session.id.0,
        end = ending.end,
        reason = ending.reason,
        error,
        state = session.state.code(),
        route = session.route.code(),
        client = %session.client,
        member,
        server_port = session.server_port,
        user = identity.map(Identity::user),
        database = identity.map(Identity::database),
        application_name = identity.map(Identity::application_name),
        waited_ms = ms(session.waited),
        first_byte_ms = ending.first_byte.map(ms),
        duration_ms = ms(session.age),
        bytes_to_server = session.bytes_to_server,
        bytes_to_client = session.bytes_to_client,
        "session ended"
    );
}
