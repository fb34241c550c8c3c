//! The query of a probe, and the parser of its reply.

use std::time::Duration;

use pg_leader_proxy_core::{Lsn, ProbeReply, Role, StartTime, SystemId, Timeline};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

/// The query. It needs no privilege on PostgreSQL 13 and later.
///
/// The timeline of a server in recovery is that of the WAL it receives, which only `pg_monitor` may see, or else that of
/// its last restart point. While there is a WAL receiver whose timeline is hidden, the latter may be an old one, so the
/// timeline counts as unknown.
///
/// It calls `pg_is_in_recovery()` exactly once, because after a promotion between two calls the functions that need a
/// primary or a replica would fail. A primary never goes back into recovery within a session. A user who may not see the
/// columns of `pg_stat_wal_receiver` still sees its row.
const QUERY: &str = "\
WITH server AS MATERIALIZED (SELECT pg_catalog.pg_is_in_recovery() AS recovers) \
SELECT recovers::text AS recovers, \
(SELECT system_identifier FROM pg_catalog.pg_control_system())::text AS system_id, \
(extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint::text AS started, \
CASE WHEN recovers THEN (\
SELECT greatest(max(received_tli), checkpoint.timeline_id, recovery.min_recovery_end_timeline) \
FROM pg_catalog.pg_control_checkpoint() AS checkpoint, pg_catalog.pg_control_recovery() AS recovery \
LEFT JOIN pg_catalog.pg_stat_wal_receiver ON true \
GROUP BY checkpoint.timeline_id, recovery.min_recovery_end_timeline \
HAVING count(pid) = count(received_tli))::text \
ELSE left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END AS timeline, \
CASE WHEN NOT recovers THEN pg_catalog.pg_current_wal_lsn()::text END AS written, \
CASE WHEN recovers THEN pg_catalog.pg_last_wal_receive_lsn()::text END AS received, \
CASE WHEN recovers THEN pg_catalog.pg_last_wal_replay_lsn()::text END AS replayed, \
EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver)::text AS streaming \
FROM server";

/// The query with its settings, as one message of the simple protocol, whose statements are one transaction.
///
/// Settings at the start-up (`options`) are rejected by poolers, and those of a session stay on a pooler's connection.
/// Whatever the defaults of the user and of the database are, the transaction must be one that a replica can run, which
/// excludes `serializable`. If the proxy disappears, the server must not continue the query.
pub(super) fn message(limit: Duration) -> String {
    let limit = limit.as_millis().max(1);
    format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = {limit}; {QUERY}"
    )
}

/// Parses the reply. The error says what is wrong with it.
pub(super) fn parse_reply(messages: &[SimpleQueryMessage]) -> Result<ProbeReply, String> {
    let row = messages
        .iter()
        .find_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None });
    let row = row.ok_or("there is no row")?;
    of_fields(|name| field(row, name))
}

fn field<'a>(row: &'a SimpleQueryRow, name: &str) -> Option<&'a str> {
    row.try_get(name).ok().flatten()
}

pub(crate) fn of_fields<'a>(field: impl Fn(&str) -> Option<&'a str>) -> Result<ProbeReply, String> {
    let wrong = |name: &str| format!("{name} is {:?}", field(name));
    let boolean = |name: &str| match field(name) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        _ => Err(wrong(name)),
    };
    let lsn = |name: &str| match field(name) {
        Some(text) => parse_lsn(text).map(Some).ok_or_else(|| wrong(name)),
        None => Ok(None),
    };
    let system_id = field("system_id").and_then(parse_system_id).ok_or_else(|| wrong("system_id"))?;
    let started = field("started").and_then(|text| text.parse().ok()).ok_or_else(|| wrong("started"))?;
    let role = if boolean("recovers")? {
        let timeline = match field("timeline") {
            Some(text) => Some(Timeline(text.parse().map_err(|_| wrong("timeline"))?)),
            None => None,
        };
        let (received, replayed) = (lsn("received")?, lsn("replayed")?);
        Role::Replica { timeline, received, replayed, streaming: boolean("streaming")? }
    } else {
        let timeline = field("timeline").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let timeline = Timeline(timeline.ok_or_else(|| wrong("timeline"))?);
        Role::Primary { timeline, written: lsn("written")?.ok_or_else(|| wrong("written"))? }
    };
    Ok(ProbeReply { system_id, started: StartTime(started), role })
}

/// Parses the system identifier, which is unsigned but shown as a signed `bigint`.
fn parse_system_id(text: &str) -> Option<SystemId> {
    text.parse::<i64>().ok().map(|id| SystemId(id.cast_unsigned()))
}

pub(crate) fn parse_lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let part = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u64::from);
    Some(Lsn(part(high)? << 32 | part(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fields: &'static [(&str, &str)]) -> Result<ProbeReply, String> {
        of_fields(|name| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn a_primary() {
        let reply = answer(&[
            ("recovers", "false"),
            ("system_id", "7412345678901234567"),
            ("started", "1789000000123456"),
            ("timeline", "0000001A"),
            ("written", "1/3000060"),
            ("streaming", "false"),
        ]);
        let role = Role::Primary { timeline: Timeline(26), written: Lsn(0x1_0300_0060) };
        let (system_id, started) = (SystemId(7_412_345_678_901_234_567), StartTime(1_789_000_000_123_456));
        assert_eq!(reply, Ok(ProbeReply { system_id, started, role }));
    }

    #[test]
    fn a_replica_that_never_received_anything() {
        let word = answer(&[
            ("recovers", "true"),
            ("system_id", "-1"),
            ("started", "5"),
            ("timeline", "3"),
            ("streaming", "false"),
        ]);
        let role =
            Role::Replica { timeline: Some(Timeline(3)), received: None, replayed: None, streaming: false };
        assert_eq!(word, Ok(ProbeReply { system_id: SystemId(u64::MAX), started: StartTime(5), role }));
    }

    #[test]
    fn an_invalid_field_is_named() {
        assert_eq!(answer(&[("system_id", "x")]), Err("system_id is Some(\"x\")".to_owned()));
        assert_eq!(answer(&[("system_id", "1")]), Err("started is None".to_owned()));
        assert_eq!(answer(&[("system_id", "1"), ("started", "1")]), Err("recovers is None".to_owned()));
        let word =
            answer(&[("system_id", "1"), ("started", "1"), ("recovers", "false"), ("timeline", "00000001")]);
        assert_eq!(word, Err("written is None".to_owned()));
    }
}
