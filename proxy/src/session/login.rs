//! Logins: how long a new session keeps the gate's permit.

use std::time::Instant;

use crate::admission::Permit;

/// A session's login. A login is the most expensive part of a session for the server, so the clients that waited must not
/// all log in at once.
#[derive(Debug)]
pub(super) struct Login {
    /// Returned once the client has logged in, as far as that is visible.
    permit: Option<Permit>,
    settles_at: Instant,
}

impl Login {
    /// A login that ends at `settles_at`, whether the client has logged in or not.
    pub(super) fn new(permit: Permit, settles_at: Instant) -> Box<Self> {
        Box::new(Self { permit: Some(permit), settles_at })
    }

    pub(super) const fn settles_at(&self) -> Instant {
        self.settles_at
    }

    /// The client has logged in, or that cannot be seen. Either way the server has answered.
    pub(super) fn finish(&mut self) {
        if let Some(mut permit) = self.permit.take() {
            permit.pause();
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
        let mut logins: Vec<_> = first.into_iter().map(|permit| Login::new(permit, Instant::now())).collect();
        logins.iter_mut().for_each(|login| login.finish());
        assert_eq!(enter().len(), 2 * at_first);
    }
}
