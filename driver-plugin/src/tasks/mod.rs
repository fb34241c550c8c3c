//! The tasks that the plugin knows: how one is prepared, what is known of it, and what Nomad stores of it.

mod accounts;
mod driver_state;
mod events;
mod prepare;
mod store;
mod task;

pub use self::accounts::Accounts;
pub use self::driver_state::{DriverStateError, decode, encode, version};
pub use self::events::TaskEvents;
pub use self::prepare::{PrepareError, Prepared, prepare};
pub use self::store::{Reservation, TaskExists, TaskStore};
pub use self::task::{Task, TaskPhase, exit_result};
