//! What the var-files say of the layout: addresses, nodes, ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Names in the var-files that no job declares: only this program reads them.
pub const OWN: [&str; 1] = ["node_meta"];

/// A member of etcd.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Member {
    /// Its name in etcd, and of its group in the job.
    pub name: String,
    /// The Nomad node that it is tied to.
    pub node: String,
    /// Its address.
    pub address: String,
    /// `docker` or `raw_exec`.
    pub runtime: String,
    /// Where its data is on the node.
    pub data_dir: String,
    /// Who it runs as; empty for root.
    pub user: String,
}

/// A node that carries the database.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DatabaseNode {
    /// The Nomad node's name, and the member's in Patroni.
    pub node: String,
    /// Its address.
    pub address: String,
}

/// The values that this program reads itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Site {
    /// etcd.
    pub etcd_members: Vec<Member>,
    /// How etcd's clients reach it.
    pub etcd_endpoints: Vec<String>,
    /// Patroni's scope.
    pub scope: String,
    /// The two nodes of the database.
    pub db_nodes: Vec<DatabaseNode>,
    /// Where PostgreSQL's data is on a node.
    pub db_data_dir: String,
    /// `docker` or `raw_exec`.
    pub db_runtime: String,
    /// Where PostgreSQL's programs are; what only the operators know may be missing until a job needs it.
    #[serde(default)]
    pub db_bin_dir: String,
    /// Who PostgreSQL runs as; empty for the image's user.
    pub db_user: String,
    /// Where services are registered: `consul` or `nomad`.
    pub service_provider: String,
    /// The proxy's port for writes.
    pub write_port: u16,
    /// The proxy's port for reads.
    pub read_port: u16,
    /// The proxy's page.
    pub admin_port: u16,
    /// The meta of each node.
    #[serde(default)]
    pub node_meta: BTreeMap<String, BTreeMap<String, String>>,
}

/// The var-files, and what they set; a later file wins.
#[derive(Clone, Debug)]
pub struct Variables {
    /// In the order in which Nomad is given them.
    pub files: Vec<PathBuf>,
    values: Map<String, Value>,
}

impl Variables {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or is no HCL of plain values; the error names the file.
    pub fn read(files: &[PathBuf]) -> Result<Self> {
        let mut values = Map::new();
        for file in files {
            values.append(&mut read(file)?);
        }
        // `nomad` is run in the directories of the job files.
        let files = files.iter().map(std::fs::canonicalize).collect::<std::io::Result<_>>()?;
        Ok(Self { files, values })
    }

    /// The names that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Whether a name is set.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The part that this program reads.
    ///
    /// # Errors
    /// When a value is missing, of another type, or contradicts another one.
    pub fn site(&self) -> Result<Site> {
        let site: Site = serde_json::from_value(Value::Object(self.values.clone()))
            .with_context(|| format!("reading {:?}", self.files))?;
        let members: Vec<_> =
            site.etcd_members.iter().map(|member| format!("http://{}:2379", member.address)).collect();
        if let Some(stranger) = site.etcd_endpoints.iter().find(|endpoint| !members.contains(endpoint)) {
            bail!("etcd_endpoints names {stranger}, which is no member in etcd_members");
        }
        if site.db_nodes.len() != 2 {
            bail!("db_nodes names {} nodes, not two", site.db_nodes.len());
        }
        Ok(site)
    }
}

fn read(file: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    hcl::from_str(&text).with_context(|| format!("reading {}: it takes plain values only", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout's own file, and one more.
    fn variables(text: &str) -> Result<Site> {
        let folder = tempfile::tempdir()?;
        let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../site.vars.hcl");
        let more = folder.path().join("more.vars.hcl");
        std::fs::write(&more, text)?;
        Variables::read(&[site, more])?.site()
    }

    #[test]
    fn the_layouts_own_file_is_read() {
        let site = variables("").unwrap();
        assert_eq!(site.etcd_members.len(), 3);
        assert_eq!(
            site.db_nodes[1],
            DatabaseNode { node: "epyc".to_owned(), address: "100.103.201.10".to_owned() }
        );
        assert_eq!((site.write_port, site.read_port), (5433, 5434));
        assert_eq!(site.node_meta["epyc"]["role"], "standby");
    }

    #[test]
    fn a_later_file_wins() {
        assert_eq!(variables("write_port = 15433").unwrap().write_port, 15433);
    }

    #[test]
    fn what_contradicts_is_told() {
        let error = variables(r#"etcd_endpoints = ["http://10.0.0.9:2379"]"#).unwrap_err().to_string();
        assert!(error.contains("http://10.0.0.9:2379, which is no member"), "{error}");
        let error = variables("db_nodes = []").unwrap_err().to_string();
        assert!(error.contains("names 0 nodes"), "{error}");
        let error = format!("{:#}", variables("write_port = \"many\"").unwrap_err());
        assert!(error.contains("invalid type: string \"many\""), "{error}");
        let error = format!("{:#}", variables("write_port = var.other").unwrap_err());
        assert!(error.contains("more.vars.hcl"), "{error}");
    }
}
