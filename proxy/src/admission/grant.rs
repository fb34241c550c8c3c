//! Grants: the right of sessions to exchange bytes with a server for one epoch, until it expires or is revoked.

use std::pin::pin;
use std::sync::OnceLock;

use pg_leader_proxy_core::{Moment, Reason};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Why sessions were terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The route no longer forwards to their server.
    Route(Reason),
    /// The route already forwards in another epoch.
    NewLeader,
    /// The proxy is shutting down and the drain time is over.
    Stopping,
}

/// The right to forward bytes. All sessions of one epoch share one grant.
///
/// A session takes its grant together with its server and checks it before it forwards any byte. A revoked grant never
/// becomes valid again. So a session cannot miss the end of its epoch, and no registry of sessions is needed.
#[derive(Debug)]
pub struct Grant {
    /// When the grant expires, in nanoseconds since boot; 0 if it is revoked. It is in the past while the sessions are
    /// suspended.
    until: AtomicU64,
    /// Until when suspended sessions are kept, in nanoseconds since boot.
    kept_until: AtomicU64,
    ends_when_idle: AtomicBool,
    /// Wakes the sessions. What has changed is stored in the other fields.
    change: Notify,
    disconnect_reason: OnceLock<DisconnectReason>,
}

impl Grant {
    /// A grant that expires at `until`.
    pub fn until(until: Moment) -> Self {
        Self {
            until: AtomicU64::new(nanos(until)),
            kept_until: AtomicU64::new(0),
            ends_when_idle: AtomicBool::new(false),
            change: Notify::new(),
            disconnect_reason: OnceLock::new(),
        }
    }

    /// Whether bytes may be forwarded at `now`. An expired grant forbids it even before control revokes it, for example
    /// when the machine has just woken up from suspension.
    pub fn allows(&self, now: Moment) -> bool {
        nanos(now) < self.until.load(Ordering::Acquire)
    }

    /// Moves the end of the grant, forth or back, unless it is revoked.
    pub fn set_end(&self, until: Moment) {
        // Only control calls this and `revoke`, from one task, so there is no race between the two steps.
        if !self.is_revoked() {
            self.until.store(nanos(until), Ordering::Release);
        }
    }

    /// Keeps sessions until `until` although none of their bytes may be forwarded.
    pub fn keep_suspended(&self, until: Moment) {
        self.kept_until.store(nanos(until), Ordering::Release);
    }

    /// Whether a session is kept at `now` although none of its bytes may be forwarded.
    pub fn is_kept(&self, now: Moment) -> bool {
        nanos(now) < self.kept_until.load(Ordering::Acquire)
    }

    /// Sets whether each session ends as soon as it is idle.
    pub fn set_ends_when_idle(&self, ends: bool) {
        if self.ends_when_idle.swap(ends, Ordering::AcqRel) != ends {
            self.change.notify_waiters();
        }
    }

    /// Whether each session is to end as soon as it is idle.
    pub fn ends_when_idle(&self) -> bool {
        self.ends_when_idle.load(Ordering::Acquire)
    }

    /// Revokes the grant for good and wakes every session that holds it.
    pub fn revoke(&self, disconnect_reason: DisconnectReason) {
        let _ = self.disconnect_reason.set(disconnect_reason);
        self.until.store(0, Ordering::Release);
        self.change.notify_waiters();
    }

    /// Whether the grant is revoked.
    pub fn is_revoked(&self) -> bool {
        self.until.load(Ordering::Acquire) == 0
    }

    /// Why it was revoked.
    pub fn disconnect_reason(&self) -> Option<&DisconnectReason> {
        self.disconnect_reason.get()
    }

    /// Waits until the grant is revoked.
    pub async fn revoked(&self) {
        loop {
            // Created before the check, so that a revocation in between is not missed.
            let notified = pin!(self.change.notified());
            if self.is_revoked() {
                return;
            }
            notified.await;
        }
    }

    /// Resolves at the next revocation or change of [`ends_when_idle`](Self::ends_when_idle) after this call.
    pub fn changed(&self) -> Notified<'_> {
        self.change.notified()
    }
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.since_boot().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn a_grant_expires_unless_it_is_extended() {
        let grant = Grant::until(at(5));
        assert!(grant.allows(at(4)));
        assert!(!grant.allows(at(5)));
        grant.set_end(at(9));
        assert!(grant.allows(at(5)));
    }

    #[test]
    fn suspended_sessions_forward_nothing_and_are_kept() {
        let grant = Grant::until(at(9));
        grant.set_end(at(4));
        grant.keep_suspended(at(8));
        assert!(!grant.allows(at(5)) && grant.is_kept(at(5)) && !grant.is_kept(at(8)) && !grant.is_revoked());
        grant.set_end(at(9));
        assert!(grant.allows(at(5)));
    }

    #[tokio::test]
    async fn a_change_of_either_kind_wakes_the_sessions() {
        let grant = Grant::until(at(9));
        let change = grant.changed();
        grant.set_ends_when_idle(true);
        change.await;
        let change = grant.changed();
        grant.revoke(DisconnectReason::NewLeader);
        change.await;
        grant.revoked().await;
    }

    #[tokio::test]
    async fn a_revoked_grant_stays_revoked_and_has_a_reason() {
        let grant = Grant::until(at(2_000_000));
        assert!(grant.allows(at(1_000_000)));
        grant.revoke(DisconnectReason::Route(Reason::NoLeader));
        grant.set_end(at(9));
        assert!(!grant.allows(at(1)));
        assert_eq!(grant.disconnect_reason(), Some(&DisconnectReason::Route(Reason::NoLeader)));
        grant.revoked().await;
    }
}
