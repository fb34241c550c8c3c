//! Admission: who may connect, which server a client may use, when, and for how long bytes may be forwarded.

mod access;
mod addresses;
mod gate;
mod grant;
mod hold_terms;
#[cfg(test)]
#[cfg(feature = "races")]
mod races;
mod targets;

pub use self::access::{Access, RouteAccess};
pub use self::addresses::{AddressLimit, AddressLimits, ClientAddresses};
pub use self::gate::{Gate, GateLimits, Permit, Ticket, TooManyHeld};
pub use self::grant::{DisconnectReason, Grant};
pub use self::hold_terms::HoldTerms;
pub use self::targets::{SessionGuard, Target, TargetSessions, Targets};
