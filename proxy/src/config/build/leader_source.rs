//! How the leader is learned: from etcd and the servers, or from the servers alone.

use std::collections::BTreeMap;
use std::time::Duration;

use pg_leader_proxy_core::ServerAddr;

use super::super::checked::{Etcd, EtcdTls, LeaderSource, PemFile, Secret};
use super::super::keys::Block;
use super::super::settings::Settings;
use super::super::values;
use super::reader::{Invalid, Reader};
use super::tls;

/// What the cluster is called, and how its leader is learned.
pub(super) fn leader_source(reader: &mut Reader<'_>) -> Result<(String, LeaderSource), Invalid> {
    match (reader.is_given("etcd.endpoints"), reader.is_given("cluster.members")) {
        (true, true) => Err(reader.fault(
            "cluster.members",
            "`etcd.endpoints` is given as well; the members are learned either from etcd or from this list"
                .to_owned(),
        )),
        (false, false) => {
            let why = "is missing: the etcd servers that hold Patroni's keys; without etcd, list every member in \
                       `cluster.members` (`--member`) instead";
            Err(reader.missing("etcd.endpoints", why))
        }
        (true, false) => etcd(reader).map(|(cluster, etcd)| (cluster, LeaderSource::Etcd(Box::new(etcd)))),
        (false, true) => members(reader).map(|(cluster, members)| (cluster, LeaderSource::Members(members))),
    }
}

/// What a cluster without etcd is called, unless it is given a scope.
const UNNAMED: &str = "static";

/// What the cluster is called: its scope, and behind a slash its Citus group.
fn cluster_name(scope: &str, group: Option<&str>) -> String {
    group.map_or_else(|| scope.to_owned(), |group| format!("{scope}/{group}"))
}

impl Settings {
    /// What the cluster is called, whether or not the settings are complete; `None` if they say nothing of it.
    pub fn cluster(&self) -> Option<String> {
        let given = |path| self.given(path).map(|setting| setting.raw.to_string());
        match given("cluster.scope") {
            Some(scope) => Some(cluster_name(&scope, given("cluster.citus_group").as_deref())),
            None => given("cluster.members").map(|_| UNNAMED.to_owned()),
        }
    }
}

fn members(reader: &mut Reader<'_>) -> Result<(String, Vec<ServerAddr>), Invalid> {
    for block in ["cluster", "etcd"] {
        for key in Block::find(block).into_iter().flat_map(Block::keys) {
            let allowed = ["cluster.members", "cluster.scope"].contains(&key.path);
            if !allowed && reader.is_given(key.path) {
                reader.fault(key.path, "has no effect without `etcd.endpoints`; remove it".to_owned());
            }
        }
    }
    let members = reader.list("cluster.members", values::server)?;
    let twice = members.iter().enumerate().find(|(index, member)| members[..*index].contains(member));
    if let Some((_, member)) = twice {
        return Err(reader.fault("cluster.members", format!("names {member} twice")));
    }
    if members.is_empty() {
        return Err(reader.fault("cluster.members", "names no member".to_owned()));
    }
    let scope = reader.optional_text("cluster.scope")?;
    Ok((scope.unwrap_or_else(|| UNNAMED.to_owned()), members))
}

fn etcd(reader: &mut Reader<'_>) -> Result<(String, Etcd), Invalid> {
    let scope = scope(reader);
    let endpoints = endpoints(reader);
    let login = login(reader);
    let tls = certificates(reader, endpoints.as_deref().unwrap_or_default());
    let refresh_interval = reader.duration("etcd.refresh_interval");
    let timeout = reader.duration("etcd.timeout");
    let prefer_proxy_url = reader.boolean("cluster.prefer_proxy_url");
    let address_map: Result<BTreeMap<_, _>, _> = reader.map("cluster.address_map", values::server);
    let (cluster, prefix) = scope?;
    let etcd = Etcd {
        prefix,
        endpoints: endpoints?,
        login: login?,
        tls: tls?,
        refresh_interval: refresh_interval?,
        // The policy, which it belongs to, is read later.
        lease_margin: Duration::ZERO,
        timeout: timeout?,
        prefer_proxy_url: prefer_proxy_url?,
        address_map: address_map?,
    };
    Ok((cluster, etcd))
}

/// What the cluster is called, and the prefix of its keys, made as Patroni
/// makes it: slashes trimmed, squeezed and added.
fn scope(reader: &mut Reader<'_>) -> Result<(String, String), Invalid> {
    let namespace = reader.optional("cluster.namespace", |text| Ok(text.to_owned()));
    let group = reader.optional_count("cluster.citus_group");
    let Some(scope) = reader.optional_text("cluster.scope")? else {
        return Err(reader.missing("cluster.scope", "is missing: the name of the cluster"));
    };
    let group = group?.map(|group| group.to_string());
    let namespace = namespace?.unwrap_or_default();
    let parts = namespace.split('/').chain(scope.split('/')).chain(group.as_deref());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let cluster = cluster_name(&scope, group.as_deref());
    Ok((cluster, format!("/{}/", parts.join("/"))))
}

fn endpoints(reader: &mut Reader<'_>) -> Result<Vec<String>, Invalid> {
    let endpoints = reader.list("etcd.endpoints", values::endpoint)?;
    let twice = endpoints.iter().enumerate().find(|(index, endpoint)| endpoints[..*index].contains(endpoint));
    if let Some((_, endpoint)) = twice {
        return Err(reader.fault("etcd.endpoints", format!("names {endpoint} twice")));
    }
    if endpoints.is_empty() {
        return Err(reader.fault("etcd.endpoints", "names no endpoint".to_owned()));
    }
    Ok(endpoints)
}

fn login(reader: &mut Reader<'_>) -> Result<Option<(String, Secret)>, Invalid> {
    let user = reader.optional_text("etcd.user");
    let password = reader.password("etcd");
    match (user?, password?) {
        (Some(user), Some(password)) => Ok(Some((user, password))),
        (Some(_), None) => {
            let why =
                "has no password; give `etcd.password_file`, or the variable that `etcd.password_env` names";
            Err(reader.fault("etcd.user", why.to_owned()))
        }
        (None, Some(_)) if reader.is_given("etcd.password_file") || reader.is_given("etcd.password_env") => {
            Err(reader.missing("etcd.user", "is missing, though its password is given"))
        }
        (None, _) => Ok(None),
    }
}

fn certificates(reader: &mut Reader<'_>, endpoints: &[String]) -> Result<EtcdTls, Invalid> {
    let ca_file = tls::authorities(reader, "etcd.ca_file");
    let identity = tls::identity(reader, "etcd");
    let plain = !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.starts_with("http://"));
    for path in ["etcd.ca_file", "etcd.cert_file", "etcd.key_file"] {
        if plain && reader.is_given(path) {
            reader.fault(path, "has no effect, because no endpoint begins with \"https://\"".to_owned());
        }
    }
    let path = |file: PemFile| file.path;
    let identity = identity?.map(|(cert, key)| (path(cert), path(key)));
    Ok(EtcdTls { ca_file: ca_file?.map(path), identity })
}
