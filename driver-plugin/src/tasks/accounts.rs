//! Looks up the users of tasks, within a bound: the system's user database may be on a machine that does not answer.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::PrepareError;
use crate::user::{self, Account};

/// How long a look-up may take.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How many look-ups may be under way. One that does not return keeps a thread.
const LOOK_UPS_MAX: usize = 4;

/// The user database. Clones share the bound.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Semaphore>);

impl Default for Accounts {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOK_UPS_MAX)))
    }
}

impl Accounts {
    /// The account of a task whose job names `user`, or none if that is empty. `None` is the user of this process, which
    /// is not root then and cannot change its user.
    ///
    /// # Errors
    /// When there is no such user, when it is root, or when the user database does not answer.
    pub async fn of_task(&self, user: &str) -> Result<Option<Account>, PrepareError> {
        match user {
            "" if !geteuid().is_root() => Ok(None),
            "" => self.find(user::DEFAULT).await.map(Some),
            user => self.find(user).await.map(Some),
        }
    }

    async fn find(&self, user: &str) -> Result<Account, PrepareError> {
        let unanswered = || PrepareError::UserDatabase { user: user.to_owned(), limit: LOOK_UP };
        let permit = Arc::clone(&self.0).try_acquire_owned().map_err(|_| unanswered())?;
        let name = user.to_owned();
        let looking_up = tokio::task::spawn_blocking(move || {
            let found = Account::find(&name);
            drop(permit);
            found
        });
        let found = timeout(LOOK_UP, looking_up).await.ok().and_then(Result::ok).ok_or_else(unanswered)?;
        match found? {
            account if account.is_root() => Err(PrepareError::Root(user.to_owned())),
            account => Ok(account),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_without_a_user_runs_as_nobody_and_none_runs_as_root() {
        let accounts = Accounts::default();
        let found = accounts.of_task("").await.unwrap().unwrap();
        assert_eq!(found.name.as_deref(), Some("nobody"));
        for root in ["root", "0", "nomad-0"] {
            let error = accounts.of_task(root).await.unwrap_err().to_string();
            assert!(
                error.contains(&format!("user = {root:?}")) && error.contains("not run as root"),
                "{error}"
            );
        }
        let error = accounts.of_task("no-such-user").await.unwrap_err().to_string();
        assert!(error.contains("`no-such-user`"), "{error}");
    }

    #[tokio::test]
    async fn look_ups_that_do_not_return_are_bounded() {
        let accounts = Accounts::default();
        let _stuck = Arc::clone(&accounts.0).acquire_many_owned(4).await.unwrap();
        let error = accounts.of_task("daemon").await.unwrap_err().to_string();
        assert!(error.contains("`daemon`") && error.contains("5s"), "{error}");
    }
}
