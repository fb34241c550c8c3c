//! Moments: the core's only notion of time, always passed in by the caller.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on a monotonic clock that also counts suspended time (Linux: `CLOCK_BOOTTIME`).
///
/// `std::time::Instant` is not enough: it stops while the machine is suspended, but leases keep running out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// The moment this long after the clock's zero.
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// The time since the clock's zero.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// The time since `earlier`; zero if this is not later.
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

    /// Saturates at the clock's zero.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

impl Hash for Moment {
    /// As nanoseconds in 128 bits. Nothing else in this crate is hashed with that width, so a [`Hasher`] can tell moments
    /// from other numbers and take them relative to now: two routers are then alike when they will act alike.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.0.as_nanos());
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// A fact, stamped with when its question was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamped<T> {
    /// When the question was sent.
    pub sent: Moment,
    /// The fact.
    pub fact: T,
}
