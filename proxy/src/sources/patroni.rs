//! Parsers for the keys and values that Patroni keeps in etcd.

use std::collections::BTreeSet;
use std::time::Duration;

use pg_leader_proxy_core::{ClusterConfig, MemberName, ServerAddr, SystemId};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The longest lease that etcd grants, in seconds (`MaxLeaseTTL` in `server/lease/lessor.go`).
const LEASE_MAX: u64 = 9_000_000_000;

/// A key below the cluster's prefix that affects routing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Leader,
    Member(MemberName),
    Config,
    Failover,
    Failsafe,
    Initialize,
}

impl Key {
    /// Recognizes what follows the prefix; `None` for the keys that routing ignores (`status`, `history`, `sync`, …).
    pub(crate) fn parse(key: &str) -> Option<Self> {
        match key {
            "leader" => Some(Self::Leader),
            "config" => Some(Self::Config),
            "failover" => Some(Self::Failover),
            "failsafe" => Some(Self::Failsafe),
            "initialize" => Some(Self::Initialize),
            _ => match key.strip_prefix("members/") {
                Some(name) if !name.is_empty() && !name.contains('/') => {
                    Some(Self::Member(MemberName::new(name)))
                }
                _ => None,
            },
        }
    }
}

/// Why a value is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("it is not UTF-8")]
    Encoding(#[source] std::str::Utf8Error),
    #[error("it is not the JSON that Patroni writes")]
    Json(#[source] serde_json::Error),
    #[error("it is empty")]
    Empty,
    #[error("it is not a number")]
    Number(#[source] std::num::ParseIntError),
    #[error("it has no conn_url")]
    NoUrl,
    #[error("its URL is not that of a server reached by TCP")]
    Url,
}

/// What a member publishes about itself, before the address map is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) conn: ServerAddr,
    pub(crate) proxy: Option<ServerAddr>,
    pub(crate) no_load_balance: bool,
}

#[derive(Deserialize)]
struct MemberJson {
    conn_url: Option<String>,
    proxy_url: Option<String>,
    #[serde(default)]
    tags: Option<Tags>,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    noloadbalance: Value,
}

/// Parses `members/<name>`.
pub(crate) fn member(value: &[u8]) -> Result<Published, ValueError> {
    let member: MemberJson = serde_json::from_slice(value).map_err(ValueError::Json)?;
    let conn = server_addr(&member.conn_url.ok_or(ValueError::NoUrl)?).ok_or(ValueError::Url)?;
    // An invalid URL of a pooler must not hide the member.
    let proxy = member.proxy_url.and_then(|url| server_addr(&url));
    let no_load_balance = member.tags.is_some_and(|tags| truth(&tags.noloadbalance));
    Ok(Published { conn, proxy, no_load_balance })
}

/// Parses `leader`: the name of a member.
pub(crate) fn leader(value: &[u8]) -> Result<MemberName, ValueError> {
    match text(value)? {
        "" => Err(ValueError::Empty),
        name => Ok(MemberName::new(name)),
    }
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    ttl: Value,
    #[serde(default)]
    pause: Value,
    #[serde(default)]
    failsafe_mode: Value,
    #[serde(default)]
    standby_cluster: Value,
}

/// Parses `config`.
pub(crate) fn config(value: &[u8]) -> Result<ClusterConfig, ValueError> {
    let config: ConfigJson = serde_json::from_slice(value).map_err(ValueError::Json)?;
    Ok(ClusterConfig {
        paused: truth(&config.pause),
        standby_cluster: follows_another_cluster(&config.standby_cluster),
        failsafe_mode: truth(&config.failsafe_mode),
        ttl: lease_length(&config.ttl).unwrap_or_else(|| ClusterConfig::default().ttl),
    })
}

/// Patroni's own test (`is_standby_cluster`): one of three settings that say where to follow.
fn follows_another_cluster(standby_cluster: &Value) -> bool {
    ["host", "port", "restore_command"].iter().any(|setting| standby_cluster.get(setting).is_some_and(is_set))
}

/// What Python takes for true.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The length of a lease in seconds, which may be written as text. etcd grants no longer one.
fn lease_length(value: &Value) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (1..=LEASE_MAX).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// Reads `failsafe`: the names of the members that a leader without etcd must reach. Like Patroni, anything else than an
/// object is taken for an absent key.
pub(crate) fn failsafe(value: &[u8]) -> BTreeSet<MemberName> {
    match serde_json::from_slice(value) {
        Ok(Value::Object(members)) => members.keys().map(|name| MemberName::new(name)).collect(),
        Ok(_) | Err(_) => BTreeSet::new(),
    }
}

/// Reads `failover`: whether a change of leader is about to happen.
///
/// A switchover that is scheduled for later does not count: it may be hours away, and Patroni does not rewrite the request
/// without its date when the time comes. Its first sign is the deletion of the leader key.
pub(crate) fn switchover(value: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(value) {
        Ok(Value::Object(request)) => {
            let named = |field: &str| request.get(field).is_some_and(|value| !is_blank(value));
            (named("leader") || named("member") || named("candidate")) && !named("scheduled_at")
        }
        Ok(_) => false,
        // Older versions write `leader:candidate`, either of which may be missing.
        Err(_) => std::str::from_utf8(value)
            .is_ok_and(|text| text.contains(':') && !text.trim().trim_matches(':').is_empty()),
    }
}

/// Parses `initialize`; `None` while the cluster is being created.
pub(crate) fn initialize(value: &[u8]) -> Result<Option<SystemId>, ValueError> {
    match text(value)? {
        "" => Ok(None),
        number => Ok(Some(SystemId(number.parse().map_err(ValueError::Number)?))),
    }
}

fn text(value: &[u8]) -> Result<&str, ValueError> {
    Ok(std::str::from_utf8(value).map_err(ValueError::Encoding)?.trim())
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

/// Whether Patroni takes a value of its configuration as true.
fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::String(text) => matches!(text.to_ascii_lowercase().as_str(), "true" | "on" | "yes" | "1"),
        Value::Number(number) => number.as_i64() == Some(1),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The first server of a PostgreSQL URL. `None` for a socket directory and for anything that is not such a URL.
///
/// Patroni makes these URLs of an address and a database name. User, password, database and options are cut off before
/// the rest is parsed, so that an odd password never gets into a host that is logged. One that hides where it
/// ends makes the URL invalid, as it is for libpq.
pub(crate) fn server_addr(url: &str) -> Option<ServerAddr> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    if rest[authority.len()..].contains('@') {
        // The password contains one of these characters, so what looks like a host would be a part of it.
        return None;
    }
    let servers = authority.rsplit_once('@').map_or(authority, |(_, servers)| servers);
    let config: Config = format!("postgres://{servers}").parse().ok()?;
    let port = config.get_ports().first().copied().filter(|port| *port > 0)?;
    match config.get_hosts().first()? {
        Host::Tcp(host) if !host.is_empty() => Some(ServerAddr::new(host, port)),
        Host::Tcp(_) | Host::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATRONI_3_0: &[u8] = br#"{"conn_url":"postgres://10.0.3.11:5432/postgres","api_url":"http://10.0.3.11:8008/patroni","state":"running","role":"master","version":"3.0.0","xlog_location":67419584,"timeline":2}"#;
    const PATRONI_4_1: &[u8] = br#"{"conn_url":"postgres://[fd00::12]:5433/postgres","api_url":"https://[fd00::12]:8008/patroni","state":"running","role":"replica","version":"4.1.0","proxy_url":"postgres://pool-2.db.example:6432/postgres","tags":{"noloadbalance":true,"failover_priority":2,"sync_priority":1},"xlog_location":83886432,"replication_state":"streaming","receive_lsn":83886432,"replay_lsn":83886432,"timeline":3,"pending_restart":true,"pending_restart_reason":{"max_connections":{"old_value":"100","new_value":"200"}}}"#;

    #[test]
    fn only_the_keys_that_matter_are_recognized() {
        assert_eq!(Key::parse("leader"), Some(Key::Leader));
        assert_eq!(Key::parse("members/pg-1"), Some(Key::Member(MemberName::new("pg-1"))));
        for ignored in
            ["status", "history", "sync", "optime/leader", "members/", "members/a/b", "0/leader", ""]
        {
            assert_eq!(Key::parse(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn a_member_of_patroni_3_0() {
        let published = member(PATRONI_3_0).unwrap();
        assert_eq!(published.conn, ServerAddr::new("10.0.3.11", 5432));
        assert_eq!(published.proxy, None);
        assert!(!published.no_load_balance);
    }

    #[test]
    fn a_member_of_patroni_4_1() {
        let published = member(PATRONI_4_1).unwrap();
        assert_eq!(published.conn, ServerAddr::new("fd00::12", 5433));
        assert_eq!(published.proxy, Some(ServerAddr::new("pool-2.db.example", 6432)));
        assert!(published.no_load_balance);
    }

    #[test]
    fn the_tag_may_be_text() {
        let with = |tag: &str| {
            let json = format!(r#"{{"conn_url":"postgres://h/","tags":{{"noloadbalance":{tag}}}}}"#);
            member(json.as_bytes()).unwrap().no_load_balance
        };
        assert!(with("true") && with(r#""true""#) && with(r#""True""#));
        assert!(!with("false") && !with(r#""false""#) && !with("null") && !with("{}"));
    }

    #[test]
    fn urls_of_servers() {
        let addr = |url: &str| server_addr(url).map(|addr| addr.to_string());
        assert_eq!(addr("postgres://10.0.0.1:5433/postgres").as_deref(), Some("10.0.0.1:5433"));
        assert_eq!(addr("postgresql://db.example/postgres?a=b").as_deref(), Some("db.example:5432"));
        assert_eq!(addr("postgres://u:p%40w@[::1]:6000").as_deref(), Some("[::1]:6000"));
        assert_eq!(addr("postgres://[::1]/x").as_deref(), Some("[::1]:5432"));
        assert_eq!(addr("postgres://a:1,b:2/x").as_deref(), Some("a:1"));
        assert_eq!(addr("postgres://[::1]:1,b:2/x").as_deref(), Some("[::1]:1"));
        assert_eq!(addr("postgres://a,b/x?target_session_attrs=read-write").as_deref(), Some("a:5432"));
        assert_eq!(addr("postgres://u:p@:w,d@h:5/db#f").as_deref(), Some("h:5"));
        for wrong in [
            "",
            "10.0.0.1:5432",
            "http://10.0.0.1:5432/",
            "postgres:///x",
            "postgres://%2Fvar%2Frun/x",
            "postgres://a:b/x",
            "postgres://a:0/x",
            "postgres://[::1/x",
            "postgres://[::1]x/",
            "postgres://:5432/x",
            "postgres://u:p@ss:5432/rd#1@h:5/db",
            "postgres://u:5432/rd@h:5/db",
        ] {
            assert_eq!(addr(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_invalid_member_has_a_reason() {
        for (value, why) in [
            (&b"\xff\xfe"[..], "it is not the JSON that Patroni writes"),
            (b"{", "it is not the JSON that Patroni writes"),
            (b"{}", "it has no conn_url"),
            (br#"{"conn_url":"postgres://"}"#, "its URL is not that of a server reached by TCP"),
        ] {
            assert_eq!(member(value).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn configurations() {
        let parsed = |json: &str| config(json.as_bytes()).unwrap();
        assert_eq!(parsed(r#"{"ttl":30,"loop_wait":10,"retry_timeout":10}"#), ClusterConfig::default());
        let ttl = |seconds| ClusterConfig { ttl: Duration::from_secs(seconds), ..ClusterConfig::default() };
        assert_eq!([parsed(r#"{"ttl":20}"#), parsed(r#"{"ttl":"45"}"#)], [ttl(20), ttl(45)]);
        assert_eq!(
            parsed(r#"{"ttl":18446744073709551615}"#),
            ClusterConfig::default(),
            "no lease is that long"
        );
        assert_eq!(
            parsed(r#"{"pause":true,"failsafe_mode":true,"standby_cluster":{"host":"a"}}"#),
            ClusterConfig {
                paused: true,
                standby_cluster: true,
                failsafe_mode: true,
                ..ClusterConfig::default()
            }
        );
        assert_eq!(
            parsed(r#"{"pause":null,"failsafe_mode":"off","standby_cluster":null,"ttl":null}"#),
            ClusterConfig::default()
        );
        assert!(config(b"5").is_err() && config(b"").is_err());
    }

    #[test]
    fn a_standby_cluster_says_whom_it_follows() {
        let follows = |standby: &str| {
            config(format!(r#"{{"standby_cluster":{standby}}}"#).as_bytes()).unwrap().standby_cluster
        };
        for standby in
            [r#"{"host":"a"}"#, r#"{"port":5432}"#, r#"{"host":null,"restore_command":"cp %f %p"}"#]
        {
            assert!(follows(standby), "{standby}");
        }
        for none in [
            "{}",
            "null",
            "[]",
            r#"{"primary_slot_name":"x"}"#,
            r#"{"create_replica_methods":["basebackup"],"host":null,"port":null}"#,
            r#"{"host":"","port":0}"#,
        ] {
            assert!(!follows(none), "{none}");
        }
    }

    #[test]
    fn failsafe_members() {
        let names = failsafe(br#"{"b":"http://10.0.0.2:8008/patroni","a":"http://10.0.0.1:8008/patroni"}"#);
        assert_eq!(names, ["a", "b"].map(MemberName::new).into());
        for none in ["", "{}", "null", "[\"a\"]", "{"] {
            assert!(failsafe(none.as_bytes()).is_empty(), "{none}");
        }
    }

    #[test]
    fn switchovers() {
        for announced in [
            r#"{"leader":"a","member":"b"}"#,
            r#"{"leader":"a"}"#,
            r#"{"member":"b","scheduled_at":null}"#,
            "a:b",
            "a:",
            ":b",
        ] {
            assert!(switchover(announced.as_bytes()), "{announced}");
        }
        for none in
            ["", "{}", ":", "null", "x", r#"{"leader":"a","scheduled_at":"2026-08-20T03:00:00+00:00"}"#]
        {
            assert!(!switchover(none.as_bytes()), "{none}");
        }
    }

    #[test]
    fn system_identifiers() {
        assert_eq!(initialize(b"7412345678901234567").unwrap(), Some(SystemId(7_412_345_678_901_234_567)));
        assert_eq!(initialize(b"").unwrap(), None);
        assert!(initialize(b"soon").is_err());
    }

    #[test]
    fn leaders() {
        assert_eq!(leader(b"pg-1").unwrap(), MemberName::new("pg-1"));
        assert!(leader(b"").is_err() && leader(b"\xff").is_err());
    }
}
