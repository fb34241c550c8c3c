//! Admission: which server a client may use, when it may connect, and for how long bytes may be forwarded.

mod gate;
mod grant;
mod hold_terms;
mod targets;

pub use self::gate::{Gate, GateLimits, Permit, Ticket, TooManyHeld};
pub use self::grant::{DisconnectReason, Grant};
pub use self::hold_terms::HoldTerms;
pub use self::targets::{SessionGuard, Target, TargetSessions, Targets};
