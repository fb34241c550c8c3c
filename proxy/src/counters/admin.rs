//! Why the admin address gives no answer.

/// Why a connection or a request on the admin address is refused: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRefusal {
    /// The connection comes from none of the allowed networks.
    NetworkNotAllowed,
    /// The request does not carry the token.
    BadToken,
}

impl AdminRefusal {
    /// All of them, for metrics with one series for each.
    pub const ALL: [Self; 2] = [Self::NetworkNotAllowed, Self::BadToken];

    /// The name in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NetworkNotAllowed => "network_not_allowed",
            Self::BadToken => "bad_token",
        }
    }
}
