//! The gates of the database: one primary and one replica of one cluster, and the schema.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Gate;
use crate::http;
use crate::layout::Layout;
use crate::sql;

/// More than this and the replica is no replacement yet.
const MOST_LAG: u64 = 16 << 20;

/// Both members, as Patroni and PostgreSQL see them.
#[must_use]
pub fn database(layout: &Layout, within: Duration) -> Gate<'_> {
    Gate::new("database", within, || look(layout))
}

fn look(layout: &Layout) -> Result<String> {
    let mut identifiers = BTreeSet::new();
    let mut timelines = BTreeSet::new();
    for node in &layout.site.db_nodes {
        let (_, body) = http::get(&format!("http://{}:8008/patroni", node.address))
            .with_context(|| format!("Patroni on {}", node.node))?;
        let state: Value =
            serde_json::from_str(&body).with_context(|| format!("Patroni on {}: {body}", node.node))?;
        ensure!(state["state"] == "running", "{} is {}", node.node, state["state"]);
        identifiers.insert(state["database_system_identifier"].as_str().unwrap_or_default().to_owned());
        timelines.insert(state["timeline"].to_string());
    }
    ensure!(
        identifiers.len() == 1,
        "the members are of different clusters: system identifiers {identifiers:?}"
    );
    ensure!(timelines.len() == 1, "the members are on different timelines: {timelines:?}");
    let (leader, replica) = layout.leader_and_replica()?;
    let (replica_address, leader_address) = (layout.address_of(replica)?, layout.address_of(leader)?);
    let (status, _) = http::get(&format!("http://{replica_address}:8008/replica"))?;
    ensure!(status == 200, "{replica} answers /replica with {status}");
    let patroni = |page: &str| http::json(&format!("http://{leader_address}:8008/{page}"));
    let (cluster, settings) = (patroni("cluster")?, patroni("config")?);
    let lag = lag(&cluster)?;
    ensure!(lag < MOST_LAG, "{replica} lags by {lag} bytes");
    can_follow(&cluster, &settings)?;
    for (address, expected) in [(leader_address, "f"), (replica_address, "t")] {
        let login = layout.login("monitor", "postgres", &[(address, 5432)])?;
        let recovering = sql::value(&login, "SELECT pg_is_in_recovery()")
            .with_context(|| format!("PostgreSQL on {address}"))?;
        ensure!(recovering == expected, "PostgreSQL on {address} says pg_is_in_recovery() = {recovering}");
    }
    Ok(format!("2/2, leader {leader}, replica {replica}, lag {lag} bytes"))
}

/// The largest lag that Patroni tells of a member that streams; every member has to.
fn lag(cluster: &Value) -> Result<u64> {
    let members = cluster["members"].as_array().context("/cluster has no members")?;
    ensure!(members.len() == 2, "/cluster has {} members, not two", members.len());
    let mut largest = 0;
    for member in members {
        let (name, state) = (&member["name"], member["state"].as_str().unwrap_or_default());
        ensure!(["running", "streaming"].contains(&state), "{name} is {state}");
        if member["role"] != "leader" {
            // "unknown" while the replica has not reported yet.
            largest = largest.max(
                member["lag"].as_u64().with_context(|| format!("the lag of {name} is {}", member["lag"]))?,
            );
        }
    }
    Ok(largest)
}

/// With `synchronous_mode` Patroni lets only a replica lead that it has called synchronous, which takes it some seconds after the
/// replica has caught up. A leader that dies before has nobody to follow it.
fn can_follow(cluster: &Value, settings: &Value) -> Result<()> {
    let mode = &settings["synchronous_mode"];
    let synchronous =
        |member: &Value| ["sync_standby", "quorum_standby"].iter().any(|role| member["role"] == *role);
    ensure!(
        (*mode != true && *mode != "quorum")
            || cluster["members"].as_array().into_iter().flatten().any(synchronous),
        "no replica is synchronous yet: nobody can follow the leader"
    );
    Ok(())
}

/// `schema-check.sql` on the leader; `require` is what the edition must be able to do.
#[must_use]
pub fn schema<'a>(layout: &'a Layout, require: &str, within: Duration) -> Gate<'a> {
    let require = require.to_owned();
    Gate::new(format!("schema ({require})"), within, move || {
        psql(layout, "schema-check.sql", &require)?;
        Ok("as it should be".to_owned())
    })
}

/// `schema.sql` on the leader.
///
/// # Errors
/// When it is refused; the error has its words.
pub fn apply_schema(layout: &Layout, require: &str) -> Result<()> {
    psql(layout, "schema.sql", require).map(drop)
}

/// Runs a file of `database/` as the owner, on the leader.
fn psql(layout: &Layout, file: &str, require: &str) -> Result<String> {
    let (leader, _) = layout.leader_and_replica()?;
    let (address, file) =
        (layout.address_of(leader)?, layout.folder.join("database").join(file).display().to_string());
    let password = layout.nomad.secret(crate::layout::DATABASE_SECRETS, "vietmarket_password")?;
    let require = format!("require={require}");
    let command = [
        "psql",
        "-X",
        "-q",
        "-h",
        address,
        "-p",
        "5432",
        "-U",
        "vietmarket",
        "-d",
        "vietmarket",
        "-v",
        "ON_ERROR_STOP=1",
        "-v",
        &require,
        "-f",
        &file,
    ];
    layout.shell.look_with(&[("PGPASSWORD", &password), ("PGCONNECT_TIMEOUT", "5")], &command)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_replica_that_is_not_synchronous_cannot_follow_where_it_has_to_be() {
        let cluster = |role| json!({ "members": [{ "role": "leader" }, { "role": role }] });
        for mode in [json!(true), json!("quorum")] {
            let settings = json!({ "synchronous_mode": mode });
            let error = can_follow(&cluster("replica"), &settings).unwrap_err().to_string();
            assert!(error.starts_with("no replica is synchronous yet"), "{error}");
            can_follow(&cluster("sync_standby"), &settings).unwrap();
        }
        can_follow(&cluster("replica"), &json!({ "synchronous_mode": false })).unwrap();
        can_follow(&cluster("replica"), &json!({})).unwrap();
    }
}
