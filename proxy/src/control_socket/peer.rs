//! Who is at the other end of the control socket, and whether they may command the proxy.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// How long the user database may take to answer.
const LOOKUP_TIME: Duration = Duration::from_secs(3);

/// The process at the other end, as the kernel recorded it when it connected (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// Unknown if the process is in another pid namespace.
    pub(super) pid: Option<i32>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: Uid::from_raw(credentials.uid()),
            gid: Gid::from_raw(credentials.gid()),
            pid: credentials.pid(),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}, gid {}", self.uid, self.gid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
    }
}

/// Who may command the proxy.
///
/// The mode of the socket's file already keeps others out: the kernel compares all groups of a process that connects. This
/// is checked besides, because a mode is changed more easily than noticed. The kernel has no safe interface to tell all
/// groups of a peer (`SO_PEERGROUPS`), so beside the group that it runs in, those count that the user database gives its
/// user.
#[derive(Clone, Debug)]
pub(super) struct Access {
    own: Uid,
    group: Option<Gid>,
    lookups: Lookups,
}

impl Access {
    pub(super) fn new(own: Uid, group: Option<Gid>) -> Self {
        Self { own, group, lookups: Lookups::new(LOOKUP_TIME) }
    }

    /// Whether this peer may command the proxy.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) async fn check(&self, peer: Peer) -> Result<(), String> {
        if peer.uid.is_root() || peer.uid == self.own || Some(peer.gid) == self.group {
            return Ok(());
        }
        let Some(group) = self.group else {
            let own = self.own;
            return Err(format!(
                "{peer} may not command this proxy: only root and uid {own} may (there is no control.group)"
            ));
        };
        match self.lookups.run(move || is_member(peer.uid, group)).await {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(format!(
                "{peer} may not command this proxy: only root, uid {} and members of gid {group} (control.group) may",
                self.own
            )),
            Some(Err(error)) => {
                Err(format!("{peer} may not command this proxy: its groups cannot be read: {error}"))
            }
            None => Err(format!("{peer} may not command this proxy: the user database does not answer")),
        }
    }
}

/// Look-ups in the user database: on another thread and not for long, because it may be across the network, and one at a time,
/// because a thread that it does not answer cannot be stopped.
#[derive(Clone, Debug)]
struct Lookups {
    time: Duration,
    turn: Arc<Semaphore>,
    /// When the look-up began that runs now.
    began: Arc<Mutex<Option<Instant>>>,
}

impl Lookups {
    fn new(time: Duration) -> Self {
        Self { time, turn: Arc::new(Semaphore::new(1)), began: Arc::default() }
    }

    /// The result of `lookup`; `None` if it does not come in time, and at once while an earlier one is overdue.
    async fn run<T: Send + 'static>(&self, lookup: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let now = Instant::now();
        let running = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some_and(|began| now >= began + self.time) {
            return None;
        }
        let (turn, began) = (Arc::clone(&self.turn), Arc::clone(&self.began));
        let answer = async move {
            let turn = turn.acquire_owned().await.ok()?;
            *began.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            let looking = spawn_blocking(move || {
                let found = lookup();
                *began.lock().unwrap_or_else(PoisonError::into_inner) = None;
                drop(turn);
                found
            });
            looking.await.ok()
        };
        timeout_at(now + self.time, answer).await.ok().flatten()
    }
}

/// Whether the user database says that the user belongs to the group.
fn is_member(uid: Uid, group: Gid) -> nix::Result<bool> {
    let Some(user) = User::from_uid(uid)? else { return Ok(false) };
    let group_members = Group::from_gid(group)?.map(|group| group.mem).unwrap_or_default();
    Ok(user.gid == group || group_members.contains(&user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), pid: Some(7) }
    }

    #[tokio::test]
    async fn root_the_own_user_and_the_group_may_and_others_may_not() {
        let own = Uid::from_raw(64_001);
        let (alone, grouped) = (Access::new(own, None), Access::new(own, Some(Gid::from_raw(64_002))));
        for access in [&alone, &grouped] {
            assert_eq!(access.check(peer(0, 0)).await, Ok(()));
            assert_eq!(access.check(peer(64_001, 9)).await, Ok(()));
        }
        assert_eq!(grouped.check(peer(64_003, 64_002)).await, Ok(()));
        let refused = grouped.check(peer(64_003, 64_004)).await.unwrap_err();
        assert_eq!(
            refused,
            "uid 64003, gid 64004, pid 7 may not command this proxy: only root, uid 64001 and members of gid 64002 \
             (control.group) may"
        );
        assert!(alone.check(peer(64_003, 64_002)).await.unwrap_err().contains("only root and uid 64001 may"));
    }

    #[tokio::test]
    async fn a_user_database_that_hangs_holds_one_thread_and_refuses_the_others_at_once() {
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let lookups = Lookups::new(Duration::from_millis(200));
        assert_eq!(lookups.run(move || hangs.recv().is_ok()).await, None, "it does not answer in time");
        for _ in 0..50 {
            assert_eq!(lookups.run(|| -> bool { panic!("a second look-up runs") }).await, None);
        }
        drop(release);
        let patient = Lookups { time: Duration::from_secs(60), ..lookups };
        assert_eq!(patient.run(|| true).await, Some(true), "once it answers again, so do look-ups");
    }

    #[tokio::test]
    async fn two_look_ups_at_once_take_turns() {
        let lookups = Lookups::new(Duration::from_secs(60));
        assert_eq!(tokio::join!(lookups.run(|| 1), lookups.run(|| 2)), (Some(1), Some(2)));
    }

    #[test]
    fn the_user_database_knows_the_groups_of_a_user() {
        let root_group = Gid::from_raw(0);
        assert_eq!(is_member(Uid::from_raw(0), root_group), Ok(true), "its primary group");
        assert_eq!(is_member(Uid::from_raw(64_003), root_group), Ok(false), "no such user");
    }
}
