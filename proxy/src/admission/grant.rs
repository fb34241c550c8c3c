//! Passes: the right of a session to exchange bytes with one server, for one epoch, until it is revoked or runs out.

use std::pin::pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pg_leader_proxy_core::{Moment, Reason};
use tokio::sync::Notify;

/// Why sessions were severed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The route no longer leads to their server.
    Route(Reason),
    /// The route leads to another epoch already.
    NewLeader,
    /// The proxy is being stopped and the time to drain is over.
    Stopping,
}

impl std::fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Route(reason) => reason.fmt(f),
            Self::NewLeader => f.write_str("another leadership has begun"),
            Self::Stopping => f.write_str("the proxy is being stopped"),
        }
    }
}

/// The right to pass bytes. All sessions of one epoch share one pass.
///
/// A revoked pass never becomes valid again, so there is no moment between choosing a server and registering with it
/// in which a session could miss the end of its epoch: it holds the pass that it was chosen with, and looks at it
/// before each byte.
#[derive(Debug)]
pub struct Grant {
    /// Nanoseconds since boot up to which the pass is valid; 0 when revoked.
    until: AtomicU64,
    /// Wakes the sessions; that the pass is revoked is said by `until`.
    revocation: Notify,
    disconnect_reason: OnceLock<DisconnectReason>,
}

impl Grant {
    /// A pass that is valid up to `until`.
    pub fn until(until: Moment) -> Self {
        Self {
            until: AtomicU64::new(nanos(until)),
            revocation: Notify::new(),
            disconnect_reason: OnceLock::new(),
        }
    }

    /// Whether a byte may pass at `now`. A pass that ran out forbids it also before anybody has revoked it: a machine
    /// that was suspended wakes up to this answer.
    pub fn allows(&self, now: Moment) -> bool {
        nanos(now) < self.until.load(Ordering::Acquire)
    }

    /// Moves the end of the pass; of a revoked pass nothing moves.
    pub fn extend(&self, until: Moment) {
        // Only control calls this and `revoke`, from one task, so nothing comes between the two steps.
        if !self.is_revoked() {
            self.until.store(nanos(until), Ordering::Release);
        }
    }

    /// Ends the pass for good and wakes every session that holds it.
    pub fn revoke(&self, disconnect_reason: DisconnectReason) {
        let _ = self.disconnect_reason.set(disconnect_reason);
        self.until.store(0, Ordering::Release);
        self.revocation.notify_waiters();
    }

    /// Whether the pass was revoked.
    pub fn is_revoked(&self) -> bool {
        self.until.load(Ordering::Acquire) == 0
    }

    /// Why it was revoked.
    pub fn disconnect_reason(&self) -> Option<&DisconnectReason> {
        self.disconnect_reason.get()
    }

    /// Resolves once the pass is revoked.
    pub async fn revoked(&self) {
        // Made before the look, so that no revocation can come between the two.
        let told = pin!(self.revocation.notified());
        if !self.is_revoked() {
            told.await;
        }
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
    fn a_pass_runs_out_unless_it_is_extended() {
        let grant = Grant::until(at(5));
        assert!(grant.allows(at(4)));
        assert!(!grant.allows(at(5)));
        grant.extend(at(9));
        assert!(grant.allows(at(5)));
    }

    #[tokio::test]
    async fn a_revoked_pass_stays_revoked_and_says_why() {
        let grant = Grant::until(at(2_000_000));
        assert!(grant.allows(at(1_000_000)));
        grant.revoke(DisconnectReason::Route(Reason::NoLeader));
        grant.extend(at(9));
        assert!(!grant.allows(at(1)));
        assert_eq!(grant.disconnect_reason(), Some(&DisconnectReason::Route(Reason::NoLeader)));
        grant.revoked().await;
    }
}
