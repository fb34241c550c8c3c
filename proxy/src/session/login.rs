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

    /// The client has logged in, or that cannot be seen.
    pub(super) fn finish(&mut self) {
        self.permit = None;
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
