//! Decides which member of a Patroni cluster may be written to, and which may be read from.
//!
//! [`Observation`]s go into the [`Router`], and one standing decision, the [`Routing`], comes out. Time is an argument
//! ([`Moment`]); there is no IO, clock or runtime here. The same observations at the same moments always give the same
//! routing, so any failover can be written down as a text file and replayed.
//!
//! ```text
//! observation  ->  evidence        ->  leadership         ->  routing
//! a fact           the latest facts    what they prove        what to do
//! ```
//!
//! # Laws
//!
//! 1. At most one leader per epoch, and epochs only grow.
//! 2. No byte of a session passes to a server after its epoch ended, and none before the epoch was checked.
//!    (Here: an ended epoch never returns. The `pg-leader-proxy` crate does the rest.)
//! 3. Never forward past the lease horizon without the all-members rule.
//! 4. The same observations at the same moments give the same routing.
//! 5. A new router refuses.
//! 6. After any fault ends, routing resumes without a restart.
//! 7. No acknowledgement reaches a client from a server that the router knew not to be the leader.
//! 8. A session of a leader whose lease is confirmed ends only for a reason that makes it unsafe or dead: the key is gone or
//!    another's, the horizon passes, the server says otherwise or is down, or the cluster follows another one.
//!
//! `tests/laws.rs` checks each law against thousands of random histories, and `tests/exhaustive.rs` against every short
//! history of a small alphabet.

mod admission;
mod alarm;
mod cluster;
mod dcs_problem;
pub mod display;
mod epoch;
mod event;
mod evidence;
mod failover;
mod leadership;
mod lease_read;
mod moment;
mod notifier;
mod observation;
mod policy;
mod reason;
mod replicas;
mod restrictions;
mod router;
mod routing;
mod session_end;
mod urgency;
mod waiting;

pub use admission::Admission;
pub use alarm::{AddressLeadsTo, Alarm};
pub use cluster::{
    ClusterConfig, LeaderKey, Lsn, Member, MemberName, Revision, ServerAddr, ServerId, StartTime, SystemId,
    Timeline,
};
pub use dcs_problem::{DcsProblem, DcsProblemKind};
pub use epoch::RouteEpoch;
pub use event::{Event, Impact, LeaderChange, LeaderEvent};
pub use evidence::{Dcs, Evidence, LeaseEvidence, MemberView, SocketView};
pub use failover::{FailoverLog, FailoverReport, FailoverStep};
pub use leadership::{Basis, Leader};
pub use lease_read::lease_read_pause;
pub use moment::{Moment, Stamped};
pub use notifier::Notifier;
pub use observation::{ConfigProblem, Observation, ProbeConnection, ProbeFailure, ProbeReply, Role};
pub use policy::{AgeLimit, OnDcsLoss, Policy, PolicyError, PolicyOptions, ReadFallback, Sources};
pub use reason::{ClientText, Reason};
pub use restrictions::Restrictions;
pub use router::Router;
pub use routing::{OpenSessions, ProbeUrgency, ReadRoute, ReadServer, Routing, WriteRoute};
pub use session_end::SessionEnd;
