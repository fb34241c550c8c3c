//! Restrictions: where an operator wants no new sessions, whatever the evidence allows. Open sessions go on.

use std::collections::BTreeSet;

use crate::admission::Admission;
use crate::cluster::MemberName;
use crate::reason::Reason;

/// Where an operator wants no new sessions.
///
/// That a member is drained is one fact of several about a server of the read route. The pause comes last, after everything
/// that concludes something from an admission: it hides no other reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Restrictions {
    /// Whether all new sessions wait, on both routes.
    pub paused: bool,
    /// The members that new sessions of the read route do not go to.
    pub drained: BTreeSet<MemberName>,
}

impl Restrictions {
    /// Why new readers do not go to this member, if an operator has drained it.
    pub(crate) fn drained(&self, member: &MemberName) -> Option<Reason> {
        self.drained.contains(member).then(|| Reason::MemberDrained(member.clone()))
    }

    /// The admission of a server, given what it is without the pause.
    pub(crate) fn paused(&self, admission: &Admission) -> Admission {
        match admission {
            Admission::Open if self.paused => Admission::Waits(Reason::PausedByOperator),
            Admission::Open | Admission::Waits(_) => admission.clone(),
        }
    }
}
