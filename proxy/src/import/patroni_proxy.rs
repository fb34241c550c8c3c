//! patroni_proxy's YAML: clusters, each with the REST addresses of its members and with ports.

use super::ImportError;
use super::draft::{Draft, Place, Route};
use super::yaml::{self, Node};
use crate::config::Program;

/// Reads all of a file.
pub(super) fn read(text: &str) -> Result<Draft, ImportError> {
    let document = yaml::read(text)?;
    let mut draft = Draft::new(Program::PatroniProxy);
    for (line, key, node) in document.entries() {
        match key.as_str() {
            "clusters" => clusters(&mut draft, node),
            "listen_address" => {
                let text = format!("listen_address: {}", node.text());
                draft.claim("admin.listen", node.text(), key, Place { line: *line, text });
            }
            _ => draft.lose_word(*line, key, key),
        }
    }
    Ok(draft)
}

/// One process follows one cluster, so the first one is taken.
fn clusters(draft: &mut Draft, node: &Node) {
    for (index, (line, name, cluster)) in node.entries().iter().enumerate() {
        let what = format!("clusters.{name}");
        if index > 0 {
            let why =
                "is not carried over: one process follows one cluster. Import it from a file of its own";
            draft.lose(*line, what, why);
            continue;
        }
        draft.lose_word(*line, &what, "clusters");
        for (line, key, node) in cluster.entries() {
            match key.as_str() {
                "ports" => ports(draft, node),
                _ => draft.lose_word(*line, &format!("{what}.{key}"), key),
            }
        }
    }
}

fn ports(draft: &mut Draft, node: &Node) {
    let roles = |port: &Node| -> Vec<String> {
        let own = port.entries().iter().filter(|(_, key, _)| key == "roles");
        own.flat_map(|(_, _, node)| node.texts()).map(str::to_lowercase).collect()
    };
    let reads = |port: &Node| !roles(port).contains(&"leader".to_owned());
    let readers: Vec<&Node> =
        node.entries().iter().map(|(_, _, port)| port).filter(|port| reads(port)).collect();
    // There is one setting for all readers.
    let fallback = readers.iter().all(|port| roles(port).contains(&"any".to_owned()));
    for (line, name, port) in node.entries() {
        let of_port = Port { name, roles: roles(port), fallback };
        match of_port.route() {
            Some(route) => of_port.read(draft, port, route),
            None => draft.lose(
                *line,
                format!("ports.{name}"),
                "is not carried over: its roles are neither those of the leader nor those of replicas",
            ),
        }
    }
}

struct Port<'a> {
    name: &'a str,
    roles: Vec<String>,
    fallback: bool,
}

impl Port<'_> {
    fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }

    /// A port for the leader alone is for writers; the leader among others takes readers.
    fn route(&self) -> Option<Route> {
        match self.roles.as_slice() {
            [one] if one == "leader" => Some(Route::Write),
            [] => None,
            _ if self.has("any") || self.has("sync") || self.has("async") => Some(Route::Read),
            _ => None,
        }
    }

    fn read(&self, draft: &mut Draft, port: &Node, route: Route) {
        for (line, key, node) in port.entries() {
            let what = format!("ports.{}.{key}", self.name);
            let place = Place { line: *line, text: format!("{what}: {}", node.text()) };
            match key.as_str() {
                "listen" => draft.listen(route, node.text(), &what, place),
                "max_lag_in_bytes" if route == Route::Read => {
                    draft.claim("read.max_lag", node.text(), &what, place);
                }
                "roles" => self.roles(draft, *line, &what, route),
                _ => draft.lose_word(*line, &what, key),
            }
        }
    }

    fn roles(&self, draft: &mut Draft, line: usize, what: &str, route: Route) {
        if route == Route::Write {
            return;
        }
        if self.has("any") || self.has("leader") {
            let place = Place { line, text: format!("{what}: the leader takes readers as well") };
            match self.fallback {
                true => draft.claim("read.fallback", "leader", what, place),
                false => draft.lose_word(line, what, "any"),
            }
        } else if !(self.has("sync") && self.has("async")) {
            draft.lose_word(line, what, if self.has("sync") { "sync" } else { "async" });
        }
    }
}
