//! Who is at the other end of the control socket, and whether they may command the proxy.

use std::fmt;
use std::io;
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) own: Uid,
    pub(super) group: Option<Gid>,
}

impl Access {
    /// Whether this peer may command the proxy.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) async fn check(self, peer: Peer) -> Result<(), String> {
        if peer.uid.is_root() || peer.uid == self.own || Some(peer.gid) == self.group {
            return Ok(());
        }
        let Some(group) = self.group else {
            let own = self.own;
            return Err(format!(
                "{peer} may not command this proxy: only root and uid {own} may (there is no control.group)"
            ));
        };
        // On another thread and not for long, because a user database may be across the network.
        let lookup = timeout(LOOKUP_TIME, spawn_blocking(move || is_member(peer.uid, group))).await;
        match lookup {
            Ok(Ok(Ok(true))) => Ok(()),
            Ok(Ok(Ok(false))) => Err(format!(
                "{peer} may not command this proxy: only root, uid {} and members of gid {group} (control.group) may",
                self.own
            )),
            Ok(Ok(Err(error))) => {
                Err(format!("{peer} may not command this proxy: its groups cannot be read: {error}"))
            }
            Ok(Err(_)) | Err(_) => {
                Err(format!("{peer} may not command this proxy: the user database does not answer"))
            }
        }
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
        let (alone, grouped) =
            (Access { own, group: None }, Access { own, group: Some(Gid::from_raw(64_002)) });
        for access in [alone, grouped] {
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

    #[test]
    fn the_user_database_knows_the_groups_of_a_user() {
        let root_group = Gid::from_raw(0);
        assert_eq!(is_member(Uid::from_raw(0), root_group), Ok(true), "its primary group");
        assert_eq!(is_member(Uid::from_raw(64_003), root_group), Ok(false), "no such user");
    }
}
