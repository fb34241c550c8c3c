//! Requests and answers of the control socket in JSON, which the command line reads back.

use serde::{Deserialize, Serialize};

use crate::session::SessionSnapshot;

/// The header in which a request names the cluster that it is meant for. The proxy of another one refuses it.
pub const CLUSTER_HEADER: &str = "pg-leader-proxy-cluster";

/// Whose control socket it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterAnswer {
    /// The cluster: Patroni's scope.
    pub cluster: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneAnswer {
    /// In words.
    pub message: String,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedAnswer {
    /// In words.
    pub error: String,
}

/// `drain` and `undrain`: which member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// Its name.
    pub member: String,
}

/// `terminate`: which sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminateRequest {
    /// The one with this number.
    Session(u64),
    /// Those with this member.
    Member(String),
    /// Those of this user, as far as users can be read.
    User(String),
}

/// `log`: what to log from now on, until the next reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// As in `log.filter`.
    pub filter: String,
}

/// `sessions`: which ones to list. What is not given may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsRequest {
    /// The member that they are with.
    pub member: Option<String>,
    /// Their user.
    pub user: Option<String>,
    /// `starting`, `held`, `connecting` or `relaying`.
    pub state: Option<String>,
    /// `write` or `read`.
    pub route: Option<String>,
}

impl SessionsRequest {
    /// Whether it means this session.
    pub(super) fn means(&self, session: &SessionSnapshot) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        is(&self.member, session.member.as_ref().map(|member| member.as_str()))
            && is(&self.user, session.identity.as_ref().map(|identity| identity.user()))
            && is(&self.state, Some(session.state.code()))
            && is(&self.route, Some(session.route.code()))
    }
}

/// The sessions of a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsAnswer {
    /// The cluster: Patroni's scope.
    pub cluster: String,
    /// How many there are that were asked for.
    pub total: u64,
    /// The first of them, by number.
    pub sessions: Vec<SessionAnswer>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAnswer {
    /// Its number.
    pub id: u64,
    /// `write` or `read`.
    pub route: String,
    /// `starting`, `held`, `connecting` or `relaying`.
    pub state: String,
    /// The client's address.
    pub client: String,
    /// The member that it is with, or is being connected to.
    pub member: Option<String>,
    /// The proxy's own port on the connection to the server: `client_port` in `pg_stat_activity`.
    pub server_port: Option<u16>,
    /// The user; unknown under TLS.
    pub user: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// The application name that the client gave when it logged in.
    pub application_name: Option<String>,
    /// How long ago the client was accepted.
    pub age_ms: u64,
    /// How long ago the last byte passed.
    pub idle_ms: Option<u64>,
    /// How long it has waited for a server.
    pub waited_ms: u64,
    /// Bytes sent to the server.
    pub bytes_to_server: u64,
    /// Bytes sent to the client.
    pub bytes_to_client: u64,
}

impl From<&SessionSnapshot> for SessionAnswer {
    fn from(session: &SessionSnapshot) -> Self {
        let identity = session.identity.as_ref();
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: session.id.0,
            route: session.route.code().to_owned(),
            state: session.state.code().to_owned(),
            client: session.client.to_string(),
            member: session.member.as_ref().map(ToString::to_string),
            server_port: session.server_port,
            user: identity.map(|identity| identity.user().to_owned()),
            database: identity.map(|identity| identity.database().to_owned()),
            application_name: identity.map(|identity| identity.application_name().to_owned()),
            age_ms: ms(session.age),
            idle_ms: session.idle.map(ms),
            waited_ms: ms(session.waited),
            bytes_to_server: session.bytes_to_server,
            bytes_to_client: session.bytes_to_client,
        }
    }
}
