//! The user of a task: a name, a number, or one of Nomad's dynamic users, and how a process becomes that user.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, getgrouplist, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};

use crate::privileges;

/// The user of a task whose job names none. It owns nothing on a usual host.
pub const DEFAULT: &str = "nobody";

/// Prefix of Nomad's dynamic users. They are not in the user database: the number is part of the name, and the group
/// has the same.
const DYNAMIC: &str = "nomad-";
/// The home of users that have none.
const NO_HOME: &str = "/nonexistent";

/// Why a user cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UnknownUser {
    /// Neither a name that the system knows nor a number.
    #[error("there is no user `{0}` on this machine: create it, or name another one as the task's `user`")]
    Unknown(String),
    /// The system's user database cannot be read.
    #[error("the user `{0}` cannot be looked up")]
    Unreadable(String, #[source] nix::Error),
}

/// A user with everything that the system's user database says of it, so that nobody has to look it up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The number of the user.
    pub uid: u32,
    /// The number of the user's primary group.
    pub gid: u32,
    /// All groups of the user, the primary one among them.
    pub groups: Vec<u32>,
    /// The user's name in the system's user database, if it has one.
    pub name: Option<String>,
    /// The user's home directory.
    pub home: PathBuf,
}

impl Account {
    /// Finds the account of `user`: `postgres`, `999` or `nomad-80123`. It may block: the user database can be on
    /// another machine.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn find(user: &str) -> Result<Self, UnknownUser> {
        let unreadable = |error| UnknownUser::Unreadable(user.to_owned(), error);
        if let Some(known) = User::from_name(user).map_err(unreadable)? {
            return Self::of(known).map_err(unreadable);
        }
        if let Ok(uid) = user.parse() {
            return match User::from_uid(Uid::from_raw(uid)).map_err(unreadable)? {
                Some(known) => Self::of(known).map_err(unreadable),
                None => Ok(Self::without_entry(uid)),
            };
        }
        match user.strip_prefix(DYNAMIC).map(str::parse) {
            Some(Ok(uid)) => Ok(Self::without_entry(uid)),
            _ => Err(UnknownUser::Unknown(user.to_owned())),
        }
    }

    fn of(known: User) -> nix::Result<Self> {
        let name = CString::new(known.name.as_bytes()).map_err(|_| nix::Error::EINVAL)?;
        let groups = getgrouplist(&name, known.gid)?;
        Ok(Self {
            uid: known.uid.as_raw(),
            gid: known.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            name: Some(known.name),
            home: known.dir,
        })
    }

    fn without_entry(uid: u32) -> Self {
        Self { uid, gid: uid, groups: vec![uid], name: None, home: NO_HOME.into() }
    }

    /// The name of the user, or its number.
    #[must_use]
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.uid.to_string())
    }

    /// Whether this is root, under whatever name.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Changes this process to the user and its groups, and gives up every privilege. There is no way back, and no
    /// program that is executed afterwards gains one.
    ///
    /// # Errors
    /// What the operating system says. Only root can become another user, and only while the process has one thread:
    /// threads have privileges of their own.
    pub fn assume(&self) -> io::Result<()> {
        privileges::require_single_thread()?;
        privileges::empty_bounding_set()?;
        // The user changes last: afterwards the process may not change its groups.
        setgroups(&self.groups.iter().copied().map(Gid::from_raw).collect::<Vec<_>>())?;
        setgid(Gid::from_raw(self.gid))?;
        setuid(Uid::from_raw(self.uid))?;
        privileges::give_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_dynamic_users_are_found() {
        let root = Account::find("root").unwrap();
        assert_eq!((root.uid, root.gid, root.name.as_deref()), (0, 0, Some("root")));
        assert!(root.is_root() && root.groups.contains(&0) && root.home.is_absolute(), "{root:?}");
        assert_eq!(Account::find("0").unwrap(), root, "a number that has a name");
        let nameless = Account::find("80123").unwrap();
        assert_eq!((nameless.uid, nameless.gid, nameless.groups.as_slice()), (80_123, 80_123, &[80_123][..]));
        assert_eq!((nameless.label().as_str(), nameless.is_root()), ("80123", false));
        assert_eq!(Account::find("nomad-80123").unwrap(), nameless);
    }

    #[test]
    fn the_default_user_exists_and_is_not_root() {
        let nobody = Account::find(DEFAULT).unwrap();
        assert!(!nobody.is_root() && !nobody.groups.contains(&0), "{nobody:?}");
    }

    #[test]
    fn the_error_names_the_unknown_user() {
        for user in ["no-such-user", "nomad-", "nomad-x", "-1", "", "4294967296"] {
            let error = Account::find(user).unwrap_err();
            assert!(error.to_string().contains(&format!("`{user}`")), "{error}");
        }
    }
}
