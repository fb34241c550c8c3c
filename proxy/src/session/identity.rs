//! What a client says of itself when it logs in: user, database and application name.

use crate::wire::StartupMessage;

/// How much of each name is kept, in bytes. PostgreSQL itself cuts them there (`NAMEDATALEN - 1`).
const NAME_MAX: usize = 63;

/// User, database and application name of a client, in one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Box<str>);

impl Identity {
    /// The names in a StartupMessage; without a database PostgreSQL takes the user's name for it.
    pub(super) fn new(startup: &StartupMessage) -> Self {
        let name = |given: &Option<String>| cut(given.as_deref().unwrap_or_default()).to_owned();
        let (user, application_name) = (name(&startup.user), name(&startup.application_name));
        let database =
            startup.database.as_ref().map_or_else(|| user.clone(), |database| cut(database).to_owned());
        // No name has a zero byte, which ends it in the message.
        Self([user, database, application_name].join("\0").into())
    }

    /// The user.
    pub fn user(&self) -> &str {
        self.name(0)
    }

    /// The database.
    pub fn database(&self) -> &str {
        self.name(1)
    }

    /// The application name; empty if the client gave none when it logged in.
    pub fn application_name(&self) -> &str {
        self.name(2)
    }

    fn name(&self, index: usize) -> &str {
        self.0.split('\0').nth(index).unwrap_or_default()
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: &str, database: Option<&str>) -> Identity {
        let database = database.map(str::to_owned);
        Identity::new(&StartupMessage {
            user: Some(user.to_owned()),
            database,
            application_name: Some("psql".to_owned()),
        })
    }

    #[test]
    fn the_database_is_the_users_unless_it_is_given() {
        let names = |identity: &Identity| {
            [identity.user(), identity.database(), identity.application_name()].map(str::to_owned)
        };
        assert_eq!(names(&identity("anna", None)), ["anna", "anna", "psql"]);
        assert_eq!(names(&identity("anna", Some("shop"))), ["anna", "shop", "psql"]);
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        let identity = identity(&"ö".repeat(40), None);
        assert_eq!(identity.user(), "ö".repeat(31));
    }
}
