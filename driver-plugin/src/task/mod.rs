//! Tasks as the plugin knows them: what Nomad keeps of one, what lives, and the map of all.

mod events;
mod kept;
mod known;
mod launching;
mod store;

pub use self::events::Events;
pub use self::kept::{Unreadable, read, version, write};
pub use self::known::{Stage, Task, result};
pub use self::launching::{Prepared, Unlaunchable, prepare};
pub use self::store::{Occupied, Place, Store};
