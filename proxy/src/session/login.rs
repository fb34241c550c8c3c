//! Logins: how long a new session keeps the gate's permit, and how long the login takes.

use std::sync::Arc;
use std::time::Instant;

use pg_leader_proxy_core::Moment;

use crate::admission::Permit;
use crate::clock;
use crate::counters::{EpochCounters, MemberRouteCounters};

/// A session's login. A login is the most expensive part of a session for the server, so the clients that waited must not
/// all log in at once.
#[derive(Debug)]
pub(super) struct Login {
    /// Returned once the client has logged in, as far as that is visible, or before if the server is slow.
    permit: Option<Permit>,
    /// `None` once the session has settled.
    settles_at: Option<Instant>,
    /// When it began, and where its time is counted; `None` once the client has logged in, as far as that is visible.
    pending: Option<(Moment, Arc<MemberRouteCounters>)>,
    /// Where the first byte to a client of the epoch is recorded; `None` once this client has got one.
    unanswered: Option<Arc<EpochCounters>>,
}

impl Login {
    /// A login that keeps its permit until `settles_at` at most, whether the client has logged in by then or not.
    pub(super) fn new(
        permit: Option<Permit>,
        settles_at: Instant,
        (counters, epoch): (Arc<MemberRouteCounters>, Option<Arc<EpochCounters>>),
    ) -> Box<Self> {
        let pending = Some((clock::now(), counters));
        Box::new(Self { permit, settles_at: Some(settles_at), pending, unanswered: epoch })
    }

    /// When the session settles; `None` once it has.
    pub(super) const fn settles_at(&self) -> Option<Instant> {
        self.settles_at
    }

    /// The session has settled: the permit is returned.
    pub(super) fn settle(&mut self) {
        self.permit = None;
        self.settles_at = None;
    }

    /// Whether the session has settled and there is nothing to wait for any more: neither the login nor a first byte.
    pub(super) const fn is_over(&self) -> bool {
        self.settles_at.is_none() && self.pending.is_none() && self.unanswered.is_none()
    }

    /// The client has got bytes of the server, the first of them at `now` or before.
    pub(super) fn record_first_byte(&mut self, now: Moment) {
        if let Some(epoch) = self.unanswered.take() {
            epoch.record_first_byte(now);
        }
    }

    /// The client has logged in, or that cannot be seen (`visible`). Either way the server has answered.
    pub(super) fn finish(&mut self, visible: bool) {
        if let Some(mut permit) = self.permit.take() {
            permit.pause();
        }
        if let Some((began, counters)) = self.pending.take().filter(|_| visible) {
            counters.login_time.record(clock::now().since(began));
        }
    }

    /// Whose turn it is: the permit counts only while the server owes an answer.
    pub(super) fn set_turn(&mut self, server_owes_answer: bool) {
        match &mut self.permit {
            None => {}
            Some(permit) if server_owes_answer => permit.resume(),
            Some(permit) => permit.pause(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Gate, GateLimits, Ticket};

    /// With TLS or without a password the server's first answer is all that is seen of a login.
    #[test]
    fn a_login_that_is_over_with_the_first_answer_lets_more_clients_in() {
        let gate = Gate::new(GateLimits { max_held: 100, max_concurrent_logins: 100 });
        let mut tickets: Vec<Ticket> = (0..20).map(|_| gate.enqueue().unwrap()).collect();
        let mut enter = || tickets.iter_mut().filter_map(Ticket::try_permit).collect::<Vec<Permit>>();
        gate.set_open(true);
        let first = enter();
        let at_first = first.len();
        let login = |permit| Login::new(Some(permit), Instant::now(), (Arc::default(), None));
        let mut logins: Vec<_> = first.into_iter().map(login).collect();
        logins.iter_mut().for_each(|login| login.finish(false));
        assert_eq!(enter().len(), 2 * at_first);
    }

    #[test]
    fn a_login_is_timed_to_its_end_even_if_the_session_has_settled_before() {
        let gate = Gate::new(GateLimits { max_held: 1, max_concurrent_logins: 1 });
        gate.set_open(true);
        let counters = Arc::<MemberRouteCounters>::default();
        let begin = || {
            let permit = gate.enqueue().unwrap().try_permit().unwrap();
            Login::new(Some(permit), Instant::now(), (Arc::clone(&counters), None))
        };
        let mut slow = begin();
        slow.settle();
        assert!(slow.settles_at().is_none() && !slow.is_over());
        let mut hidden = begin();
        hidden.finish(false);
        hidden.settle();
        slow.finish(true);
        slow.finish(true);
        assert!(slow.is_over() && hidden.is_over());
        assert_eq!(counters.login_time.count(), 1, "what cannot be seen is not counted");
    }
}
