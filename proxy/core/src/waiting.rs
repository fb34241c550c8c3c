//! Since when new sessions have waited although there is a leader.

use std::time::Duration;

use crate::epoch::RouteEpoch;
use crate::moment::Moment;
use crate::reason::Reason;
use crate::routing::WriteRoute;

/// Since when new sessions have waited for the standing leader, if they do. Its open sessions go on meanwhile. A pause by an
/// operator does not count: it is no outage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting(Option<(RouteEpoch, Moment)>);

impl Waiting {
    /// They do not wait.
    pub(crate) const NONE: Self = Self(None);

    /// Records the write route that is in force from `now` on.
    pub(crate) fn observe(&mut self, route: &WriteRoute, now: Moment) {
        let waits = route.leader().filter(|leader| leader.admission().waits().is_some_and(is_an_outage));
        let known = self.0;
        self.0 = waits.map(|leader| {
            let epoch = leader.epoch();
            known.filter(|(waited_for, _)| *waited_for == epoch).unwrap_or((epoch, now))
        });
    }

    /// Since when.
    pub(crate) fn since(&self) -> Option<Moment> {
        self.0.map(|(_, since)| since)
    }

    /// For how long until `now`; zero if they do not wait.
    pub(crate) fn lasting(&self, now: Moment) -> Duration {
        self.since().map_or(Duration::ZERO, |since| now.since(since))
    }
}

fn is_an_outage(reason: &Reason) -> bool {
    *reason != Reason::PausedByOperator
}
