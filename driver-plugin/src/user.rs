//! The user of a task: a name, a number, or one of Nomad's dynamic users, and how a process becomes that user.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Uid, User, initgroups, setgid, setgroups, setuid};

/// Prefix of Nomad's dynamic users. They are not in the user database: the number is part of the name, and the group
/// has the same.
const DYNAMIC: &str = "nomad-";

/// Why a user cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UnknownUser {
    /// Neither a name that the system knows nor a number.
    #[error("there is no user `{0}` on this machine")]
    Unknown(String),
    /// The system's user database cannot be read.
    #[error("the user `{0}` cannot be looked up")]
    Unreadable(String, #[source] nix::Error),
}

/// A user and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The number of the user.
    pub uid: u32,
    /// The number of the user's primary group.
    pub gid: u32,
    /// The user's name in the system's user database, if it has one.
    pub name: Option<String>,
}

impl Account {
    /// Finds the account of `user`: `postgres`, `999` or `nomad-80123`.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn find(user: &str) -> Result<Self, UnknownUser> {
        let unreadable = |error| UnknownUser::Unreadable(user.to_owned(), error);
        if let Some(known) = User::from_name(user).map_err(unreadable)? {
            return Ok(known.into());
        }
        if let Ok(uid) = user.parse() {
            let known = User::from_uid(Uid::from_raw(uid)).map_err(unreadable)?;
            return Ok(known.map_or(Self { uid, gid: uid, name: None }, Self::from));
        }
        match user.strip_prefix(DYNAMIC).map(str::parse) {
            Some(Ok(uid)) => Ok(Self { uid, gid: uid, name: None }),
            _ => Err(UnknownUser::Unknown(user.to_owned())),
        }
    }

    /// Changes this process, with all its threads, to the user, its group and its supplementary groups. There is no
    /// way back.
    ///
    /// # Errors
    /// What the operating system says. Only root can become another user.
    pub fn assume(&self) -> io::Result<()> {
        let gid = Gid::from_raw(self.gid);
        // The user changes last: afterwards the process may not change its groups.
        match self.name.as_deref().map(CString::new) {
            Some(name) => initgroups(&name?, gid)?,
            None => setgroups(&[gid])?,
        }
        setgid(gid)?;
        Ok(setuid(Uid::from_raw(self.uid))?)
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: Some(user.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_dynamic_users_are_found() {
        let root = Account { uid: 0, gid: 0, name: Some("root".to_owned()) };
        assert_eq!(Account::find("root").unwrap(), root);
        assert_eq!(Account::find("0").unwrap(), root, "a number that has a name");
        let nameless = Account { uid: 80_123, gid: 80_123, name: None };
        assert_eq!(Account::find("80123").unwrap(), nameless);
        assert_eq!(Account::find("nomad-80123").unwrap(), nameless);
    }

    #[test]
    fn the_error_names_the_unknown_user() {
        for user in ["no-such-user", "nomad-", "nomad-x", "-1", "", "4294967296"] {
            let error = Account::find(user).unwrap_err();
            assert!(error.to_string().contains(&format!("`{user}`")), "{error}");
        }
    }
}
