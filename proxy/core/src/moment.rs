//! A moment: the only notion of time in the core, always passed in.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on a clock that never goes back and that counts the time a machine spent suspended.
///
/// Linux calls that clock `CLOCK_BOOTTIME`. `std::time::Instant` will not do: it stands still while the machine is
/// suspended, and leases elsewhere run out meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment `since_boot` after the clock's zero.
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// How long after the clock's zero this is.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// How much later this is than `earlier`; zero when it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    /// Stops at the clock's zero.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// A fact and the moment its question was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped<T> {
    /// When the question was sent.
    pub sent: Moment,
    /// The fact.
    pub fact: T,
}
