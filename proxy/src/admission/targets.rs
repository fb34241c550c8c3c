//! Targets: the routing as sessions use it, with the grant of each server.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pg_leader_proxy_core::{Admission, MemberName, Reason, RouteEpoch, ServerAddr};

use super::grant::Grant;
use crate::counters::{EpochCounters, MemberRouteCounters};
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
    /// The sessions that use it, including those that are still connecting.
    pub sessions: Arc<TargetSessions>,
}

/// Counts the sessions of a target.
#[derive(Debug, Default)]
pub struct TargetSessions {
    count: AtomicUsize,
    /// What is counted of its member, over all epochs.
    counters: Arc<MemberRouteCounters>,
    /// How many of the encrypted ones each client address has. Addresses without one are not in it, so it is no larger
    /// than the number of sessions.
    encrypted: Mutex<HashMap<IpAddr, usize>>,
}

impl TargetSessions {
    /// No session yet.
    pub fn new(counters: Arc<MemberRouteCounters>) -> Self {
        Self { counters, ..Self::default() }
    }

    /// What is counted of its member, over all epochs.
    pub const fn counters(&self) -> &Arc<MemberRouteCounters> {
        &self.counters
    }

    fn encrypted(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // A panic under the lock cannot leave the map inconsistent.
        self.encrypted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encrypted_of(&self, client: IpAddr) -> usize {
        self.encrypted().get(&client).copied().unwrap_or(0)
    }
}

impl Target {
    /// Counts one more session until the guard is dropped. `client` is the client's address if the session is encrypted.
    fn add_session(&self, client: Option<IpAddr>) -> SessionGuard {
        self.sessions.count.fetch_add(1, Relaxed);
        self.sessions.counters.open.increment();
        if let Some(client) = client {
            *self.sessions.encrypted().entry(client).or_default() += 1;
        }
        SessionGuard {
            member: self.member.clone(),
            epoch: self.epoch,
            counters: self.counters.clone(),
            sessions: Arc::clone(&self.sessions),
            client,
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
    sessions: Arc<TargetSessions>,
    client: Option<IpAddr>,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.sessions.count.fetch_sub(1, Relaxed);
        self.sessions.counters.open.decrement();
        let Some(client) = self.client else { return };
        let mut encrypted = self.sessions.encrypted();
        if let Some(count) = encrypted.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                encrypted.remove(&client);
            }
        }
    }
}

impl Targets {
    /// What is known at the start: nothing.
    pub const fn starting() -> Self {
        Self { write: Err(Reason::Starting(None)), read: Err(Reason::Starting(None)) }
    }

    /// Chooses the server for a new session, and counts the session there: the leader, or the replica with the fewest
    /// sessions.
    ///
    /// `client` is the client's address if it asked for encryption. A cancel request inside TLS looks like a new session
    /// until the server has decrypted it, so it must reach the replica that has the session to cancel. Such a client
    /// therefore stays with the replica that has most of its sessions, as long as that takes new ones.
    ///
    /// # Errors
    /// The [`Reason`] if there is none.
    pub fn reserve(
        &self,
        route: RouteKind,
        client: Option<IpAddr>,
    ) -> Result<(Target, SessionGuard), Reason> {
        if let Some(reason) = self.waits(route) {
            return Err(reason.clone());
        }
        let of_client = |target: &Target| client.map_or(0, |client| target.sessions.encrypted_of(client));
        let preference = |target: &&Target| (Reverse(of_client(target)), target.sessions.count.load(Relaxed));
        let chosen = match route {
            RouteKind::Write => self.write.as_ref().ok(),
            RouteKind::Read => self.admitting_readers().min_by_key(preference),
        };
        let target = chosen.ok_or(Reason::NoReplica)?;
        // On the write route every cancel request goes to the leader anyway.
        let client = client.filter(|_| route == RouteKind::Read);
        Ok((target.clone(), target.add_session(client)))
    }

    /// Why new sessions of `route` wait; `None` if they do not.
    pub fn waits(&self, route: RouteKind) -> Option<&Reason> {
        match route {
            RouteKind::Write => match &self.write {
                Ok(leader) => leader.admission.waits(),
                Err(reason) => Some(reason),
            },
            RouteKind::Read => match &self.read {
                Ok(servers) => Admission::waits_for_any(servers.iter().map(|target| &target.admission)),
                Err(reason) => Some(reason),
            },
        }
    }

    fn admitting_readers(&self) -> impl Iterator<Item = &Target> {
        self.all(RouteKind::Read).iter().filter(|target| target.admission == Admission::Open)
    }

    /// Every server that a session of `route` may use, and so every server that a cancel request may be meant for.
    pub fn all(&self, route: RouteKind) -> &[Target] {
        match route {
            RouteKind::Write => self.write.as_ref().map_or(&[], std::slice::from_ref),
            RouteKind::Read => self.read.as_ref().map_or(&[], Vec::as_slice),
        }
    }
}
