//! A law that was broken: which, by which proxy, and what happened.

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broken {
    /// Its number in the list of `pg_leader_proxy_core`.
    pub law: u8,
    /// The proxy that broke it.
    pub proxy: usize,
    /// What happened.
    pub why: String,
}

impl Broken {
    pub(crate) fn new(law: u8, why: impl Into<String>) -> Self {
        Self { law, proxy: 0, why: why.into() }
    }
}
