//! Targets: the routing as sessions use it, with the grant of each server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pg_leader_proxy_core::{Admission, MemberName, Reason, RouteEpoch, ServerAddr};

use super::grant::Grant;
use crate::counters::EpochCounters;
use crate::route::RouteKind;

/// Where sessions of each route go.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The confirmed leader, or why there is none.
    pub write: Result<Target, Reason>,
    /// The servers of the read route, or why there is none.
    pub read: Result<Vec<Target>, Reason>,
}

/// A server and the grant for it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The member's name.
    pub member: MemberName,
    /// The address that the cluster publishes.
    pub addr: ServerAddr,
    /// The socket address that answered the probe: sessions go there.
    pub socket: SocketAddr,
    /// The epoch that the grant belongs to.
    pub epoch: RouteEpoch,
    /// The right to forward bytes.
    pub grant: Arc<Grant>,
    /// Whether it takes new sessions.
    pub admission: Admission,
    /// The counters of its epoch, on the write route.
    pub counters: Option<Arc<EpochCounters>>,
    /// How many sessions use it.
    pub sessions: Arc<AtomicUsize>,
}

impl Target {
    /// Counts one more session until the guard is dropped.
    pub fn add_session(&self) -> SessionGuard {
        self.sessions.fetch_add(1, Relaxed);
        SessionGuard {
            member: self.member.clone(),
            epoch: self.epoch,
            counters: self.counters.clone(),
            sessions: Arc::clone(&self.sessions),
        }
    }
}

/// One session of a target, and what the session needs to know about it.
#[derive(Debug)]
pub struct SessionGuard {
    /// The member's name.
    pub member: MemberName,
    /// The epoch of the session.
    pub epoch: RouteEpoch,
    /// The counters of the epoch, on the write route.
    pub counters: Option<Arc<EpochCounters>>,
    sessions: Arc<AtomicUsize>,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.sessions.fetch_sub(1, Relaxed);
    }
}

impl Targets {
    /// The server for a new session: the leader, or the replica with the fewest sessions.
    ///
    /// # Errors
    /// The [`Reason`] if there is none.
    pub fn choose(&self, route: RouteKind) -> Result<&Target, &Reason> {
        let target = match route {
            RouteKind::Write => self.write.as_ref()?,
            RouteKind::Read => {
                let admitting =
                    self.read.as_ref()?.iter().filter(|target| target.admission == Admission::Open);
                admitting.min_by_key(|target| target.sessions.load(Relaxed)).ok_or(&Reason::NoReplica)?
            }
        };
        target.admission.waits().map_or(Ok(target), Err)
    }

    /// Every server that a session of `route` may use, and so every server that a cancel request may be meant for.
    pub fn all(&self, route: RouteKind) -> &[Target] {
        match route {
            RouteKind::Write => self.write.as_ref().map_or(&[], std::slice::from_ref),
            RouteKind::Read => self.read.as_ref().map_or(&[], Vec::as_slice),
        }
    }
}
