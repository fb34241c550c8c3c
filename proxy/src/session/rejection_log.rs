//! The log of clients that may not connect: a line in ten seconds for each reason.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Instant;

use tracing::warn;

use super::rejection::Rejection;
use crate::counters::RejectionKind;
use crate::logging::Seldom;
use crate::route::RouteKind;

/// Logs rejections that an operator has configured, or that the configuration may cause.
#[derive(Debug, Default)]
pub(super) struct RejectionLog(RefCell<[Seldom; RejectionKind::ALL.len()]>);

impl RejectionLog {
    pub(super) fn record(&self, rejection: &Rejection, client: SocketAddr, route: RouteKind) {
        match rejection.kind {
            RejectionKind::NetworkNotAllowed
            | RejectionKind::TooManySessionsOfAddress
            | RejectionKind::TooManyConnectionsOfAddress
            | RejectionKind::BadProxyHeader => {
                let (kind, route) = (rejection.kind, route.code());
                let due = self.0.borrow_mut()[kind as usize].due(Instant::now());
                if let Some(times) = due {
                    warn!(%client, route, reason = kind.code(), times, "client rejected: {rejection}");
                }
            }
            // Others are told at the end of the session (`log.sessions`), or by alarms.
            RejectionKind::NoServer
            | RejectionKind::TooManyHeld
            | RejectionKind::TooManySessions
            | RejectionKind::BadPacket
            | RejectionKind::Silent
            | RejectionKind::Stopping
            | RejectionKind::Terminated => {}
        }
    }
}
