//! Descriptors: the limit of open files, and how many clients it allows when enough is set aside for everything else.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::session::ClientLimits;

/// How many descriptors are set aside for etcd, probes, look-ups of names, files, the admin address and the control socket, if there are enough.
pub(crate) const SET_ASIDE: u64 = 256;
/// How many clients beyond the limit of sessions are told so, unless descriptors are scarce.
const REJECTED_AT_ONCE: u64 = 256;
/// How many connections the admin address may have, unless descriptors are scarce.
const ADMIN_CONNECTIONS: u64 = 64;
/// How many connections the control socket may have, unless descriptors are scarce.
const CONTROL_CONNECTIONS: u64 = 8;

/// Raises the soft limit to the hard one. Each session takes two descriptors, and the usual soft limit of 1,024 exists
/// only for programs that use `select`.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

/// How the descriptors of the process are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// For clients and their servers.
    sessions: u64,
    /// For everything that is opened later.
    aside: u64,
}

impl Descriptors {
    /// Shares out what this process has not opened yet.
    pub(super) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        // Without /proc nothing is known to be open.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64);
        Self::of(limit.saturating_sub(open))
    }

    fn of(free: u64) -> Self {
        let aside = SET_ASIDE.min(free / 2);
        Self { sessions: free - aside, aside }
    }

    /// The limits of clients: those of the configuration, or fewer if descriptors are scarce.
    pub(super) fn client_limits(&self, config: &Config) -> ClientLimits {
        let wanted = config.session.max_sessions as u64;
        let sessions = wanted.min(self.sessions / 2).max(1);
        let left = self.sessions.saturating_sub(2 * sessions);
        let rejected = left.clamp(self.aside / 8, REJECTED_AT_ONCE);
        ClientLimits { sessions: to_usize(sessions), rejected_at_once: to_usize(rejected) }
    }

    /// How many connections the admin address may have.
    pub(super) fn admin_connections(&self) -> usize {
        to_usize((self.aside / 4).clamp(2, ADMIN_CONNECTIONS))
    }

    /// How many connections the control socket may have.
    pub(super) fn control_connections(&self) -> usize {
        to_usize((self.aside / 32).clamp(1, CONTROL_CONNECTIONS))
    }
}

/// Warns if the limit of open files allows fewer sessions than the configuration.
pub(super) fn warn_if_scarce(limits: ClientLimits, config: &Config) {
    let wanted = config.session.max_sessions;
    if limits.sessions < wanted {
        warn!(
            allowed = limits.sessions,
            wanted,
            "the limit of open files allows fewer sessions than session.max_sessions; raise it (LimitNOFILE, ulimit -n)"
        );
    }
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Given, Origins, Raw};

    fn config(max_sessions: usize) -> Config {
        let given = [
            ("cluster.members", "a:5432".to_owned()),
            ("probe.user", "m".to_owned()),
            ("session.max_sessions", max_sessions.to_string()),
        ];
        let given = given.map(|(path, text)| Given { path: path.to_owned(), raw: Raw::Text(text) });
        Config::load(&Origins { given: given.into(), ..Origins::default() }).unwrap()
    }

    #[test]
    fn sessions_never_take_what_is_set_aside() {
        for free in (0..2000).chain([65_536, 1_048_576]) {
            let descriptors = Descriptors::of(free);
            let limits = descriptors.client_limits(&config(20_000));
            let used = 2 * limits.sessions
                + limits.rejected_at_once
                + descriptors.admin_connections()
                + descriptors.control_connections();
            assert!(used as u64 <= free.max(6), "{free}: {descriptors:?}, {limits:?}");
            assert!(limits.sessions <= 20_000 && descriptors.admin_connections() <= 64);
            if free >= 64 {
                // What is left for etcd and probes.
                assert!(free - used as u64 >= SET_ASIDE.min(free / 2) / 2, "{free}: {limits:?}");
            }
        }
    }

    #[test]
    fn with_enough_descriptors_the_configuration_decides() {
        let limits = Descriptors::of(1_000_000).client_limits(&config(20_000));
        assert_eq!(limits, ClientLimits { sessions: 20_000, rejected_at_once: 256 });
        assert_eq!(Descriptors::of(1_000_000).admin_connections(), 64);
    }
}
