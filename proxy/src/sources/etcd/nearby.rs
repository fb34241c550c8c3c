//! Where Patroni's keys might be, if there are none below the cluster's prefix: Citus groups, other scopes, or the v2 API.

use std::collections::BTreeSet;

use super::super::patroni::Key;
use super::connect::Endpoint;

/// How many names to tell.
const NAMES: usize = 10;

/// What an operator should compare, from the keys that are there.
pub(super) async fn hint(endpoint: &Endpoint, prefix: &str) -> String {
    let parent = parent(prefix);
    // It may be allowed to read its own prefix alone.
    let keys = endpoint.keys(parent).await.unwrap_or_default();
    hint_from(&keys, prefix)
}

/// The prefix that this one stands in.
fn parent(prefix: &str) -> &str {
    let end = prefix.trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1);
    &prefix[..end]
}

fn hint_from(keys: &[String], prefix: &str) -> String {
    let groups: BTreeSet<String> = below(keys, prefix).filter_map(group).collect();
    if !groups.is_empty() {
        return format!(
            "there are Citus groups ({}): set cluster.citus_group, where 0 is the coordinator",
            names(&groups)
        );
    }
    let parent = parent(prefix);
    if below(keys, parent).any(|key| Key::parse(key).is_some()) {
        return format!(
            "the keys are directly under {parent}: the cluster has no Citus groups, so remove cluster.citus_group"
        );
    }
    let scopes: BTreeSet<String> = below(keys, parent).filter_map(scope).collect();
    let v2 = "with `etcd:` instead of `etcd3:` Patroni uses etcd's v2 API, whose keys this proxy cannot see";
    if scopes.is_empty() {
        return format!("compare cluster.scope and cluster.namespace with Patroni's configuration; {v2}");
    }
    format!(
        "under {parent} there are the scopes {}: compare cluster.scope with Patroni's configuration; {v2}",
        names(&scopes)
    )
}

/// The keys below `prefix`, without it.
fn below<'a>(keys: &'a [String], prefix: &'a str) -> impl Iterator<Item = &'a str> {
    keys.iter().filter_map(move |key| key.strip_prefix(prefix))
}

/// The Citus group that a key below the prefix of a cluster belongs to.
fn group(key: &str) -> Option<String> {
    let (group, rest) = key.split_once('/')?;
    (group.parse::<u32>().is_ok() && Key::parse(rest).is_some()).then(|| group.to_owned())
}

/// The scope that a key below a namespace belongs to.
fn scope(key: &str) -> Option<String> {
    let (scope, rest) = key.split_once('/')?;
    (Key::parse(rest).is_some() || group(rest).is_some()).then(|| scope.to_owned())
}

fn names(names: &BTreeSet<String>) -> String {
    let mut told: Vec<&str> = names.iter().map(String::as_str).take(NAMES).collect();
    if names.len() > NAMES {
        told.push("…");
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(keys: &[&str], prefix: &str) -> String {
        hint_from(&keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>(), prefix)
    }

    #[test]
    fn a_citus_cluster_names_the_key_to_set() {
        let keys = ["/service/main/0/leader", "/service/main/0/members/a", "/service/main/12/config"];
        assert!(told(&keys, "/service/main/").contains("Citus groups (0, 12): set cluster.citus_group"));
    }

    #[test]
    fn a_cluster_without_groups_names_the_key_to_remove() {
        let text = told(&["/service/main/leader"], "/service/main/0/");
        assert!(
            text.contains("directly under /service/main/") && text.contains("remove cluster.citus_group"),
            "{text}"
        );
    }

    #[test]
    fn other_scopes_of_the_namespace_are_told() {
        let keys =
            ["/service/shop/leader", "/service/lab/0/initialize", "/service/lab/history", "/service/x"];
        let text = told(&keys, "/service/main/");
        assert!(
            text.starts_with("under /service/ there are the scopes lab, shop: compare cluster.scope"),
            "{text}"
        );
        assert!(text.contains("`etcd3:`"), "{text}");
    }

    #[test]
    fn without_any_key_the_v2_api_is_told() {
        let text = told(&["/other/shop/leader"], "/service/main/");
        assert!(text.contains("cluster.namespace") && text.contains("v2 API"), "{text}");
        assert_eq!(parent("/main/"), "/");
    }
}
