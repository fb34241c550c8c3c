//! The two routes, for writers and for readers.

/// Which of the two routes a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Sessions that write.
    Write,
    /// Sessions that only read.
    Read,
}

impl RouteKind {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Write, Self::Read];

    /// The name in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}
