//! The kinds of setups: ways to the server.

use clap::ValueEnum;

/// A way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum SetupKind {
    /// No proxy.
    Direct,
    /// A bare epoll loop.
    LowerBound,
    /// Debian's HAProxy.
    Haproxy,
    /// The same with `option splice-auto`, for COPY.
    HaproxySplice,
    /// The newest HAProxy (`benches/newest-peers`).
    HaproxyNew,
    /// Debian's PgBouncer in session mode.
    Pgbouncer,
    /// The newest PgBouncer (`benches/newest-peers`) in session mode.
    PgbouncerNew,
    /// This project.
    PgLeaderProxy,
}

impl SetupKind {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Direct,
        Self::LowerBound,
        Self::Haproxy,
        Self::HaproxySplice,
        Self::HaproxyNew,
        Self::Pgbouncer,
        Self::PgbouncerNew,
        Self::PgLeaderProxy,
    ];

    /// Its name in tables and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::LowerBound => "lower-bound",
            Self::Haproxy => "haproxy",
            Self::HaproxySplice => "haproxy-splice",
            Self::HaproxyNew => "haproxy-new",
            Self::Pgbouncer => "pgbouncer",
            Self::PgbouncerNew => "pgbouncer-new",
            Self::PgLeaderProxy => "pg-leader-proxy",
        }
    }

    /// Whether it is another proxy to compare with.
    pub(crate) fn is_peer(self) -> bool {
        self.is_haproxy() || self.is_pgbouncer()
    }

    /// Whether it is PgBouncer, which takes part in the protocol.
    pub(crate) fn is_pgbouncer(self) -> bool {
        matches!(self, Self::Pgbouncer | Self::PgbouncerNew)
    }

    /// Whether it is HAProxy.
    pub(crate) fn is_haproxy(self) -> bool {
        matches!(self, Self::Haproxy | Self::HaproxySplice | Self::HaproxyNew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_the_same_names() {
        for kind in SetupKind::ALL {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.name());
        }
    }
}
