//! Changes of where an operator wants no new sessions.

use pg_leader_proxy_core::{Evidence, MemberName, Restrictions};

/// A change of the restrictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestrictionChange {
    /// All new sessions wait.
    Pause,
    /// They no longer do.
    Resume,
    /// New sessions of the read route do not go to this member.
    Drain(MemberName),
    /// They do again.
    Undrain(MemberName),
}

/// Why restrictions were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestrictionError {
    /// The cluster has no such member.
    #[error("the cluster has no member {member}; {}", known_members(known))]
    UnknownMember {
        /// The member that was named.
        member: MemberName,
        /// Those that there are.
        known: Vec<MemberName>,
    },
    /// Control has stopped.
    #[error("the proxy is shutting down")]
    Stopped,
}

fn known_members(known: &[MemberName]) -> String {
    let names: Vec<&str> = known.iter().map(MemberName::as_str).collect();
    if names.is_empty() { "it has none yet".to_owned() } else { format!("it has {}", names.join(", ")) }
}

impl RestrictionChange {
    /// The restrictions after the change.
    ///
    /// # Errors
    /// If it names an unknown member.
    pub(super) fn applied_to(
        self,
        restrictions: &Restrictions,
        evidence: &Evidence,
    ) -> Result<Restrictions, RestrictionError> {
        let mut restrictions = restrictions.clone();
        match self {
            Self::Pause => restrictions.paused = true,
            Self::Resume => restrictions.paused = false,
            Self::Drain(member) | Self::Undrain(member) if evidence.member(&member).is_none() => {
                let known = evidence.members().keys().cloned().collect();
                return Err(RestrictionError::UnknownMember { member, known });
            }
            Self::Drain(member) => drop(restrictions.drained.insert(member)),
            Self::Undrain(member) => drop(restrictions.drained.remove(&member)),
        }
        Ok(restrictions)
    }
}
