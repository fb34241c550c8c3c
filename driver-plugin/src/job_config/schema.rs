//! The schema of a task's `config` block, derived from the proxy's table of settings.

use nomad_plugin_proto::hclspec::Spec;
use pg_leader_proxy::config::{BLOCKS, Block, Key, Kind, Name, Shape};

/// The key beside each `listen` that takes the label of a port of the job instead of an address.
pub(super) const PORT: &str = "port";

/// The schema of a task's `config` block: each block of the proxy's settings is a block, each name of a key an
/// attribute, old names too.
///
/// Nothing is required: the proxy itself reports missing settings, since it knows the task's environment too.
#[must_use]
pub fn schema() -> Spec {
    Spec::object(
        BLOCKS
            .iter()
            .map(|block| (block.name.to_owned(), Spec::block(block.name, Spec::object(parts(block))))),
    )
}

/// The key of `block` that takes the addresses to listen on, if it has one.
pub(super) fn listen(block: &Block) -> Option<&'static Key> {
    block.keys().find(|key| takes_addresses(key.kind))
}

fn parts(block: &Block) -> impl Iterator<Item = (String, Spec)> {
    let port = listen(block).map(|_| (PORT.to_owned(), Spec::attr(PORT, "string")));
    block.names().map(|name| (name.last().to_owned(), part(name))).chain(port)
}

fn part(name: Name) -> Spec {
    match name.key.kind.shape() {
        Shape::Text => Spec::attr(name.last(), "string"),
        Shape::Number => Spec::attr(name.last(), "number"),
        Shape::Boolean => Spec::attr(name.last(), "bool"),
        Shape::List => Spec::attr(name.last(), "list(string)"),
        // A block of attributes accepts `map { k = v }` and `map = { k = v }`; an attribute only the second.
        Shape::Map => Spec::block_attrs(name.last(), "string"),
    }
}

const fn takes_addresses(kind: Kind) -> bool {
    match kind {
        Kind::Address | Kind::Addresses => true,
        Kind::Text
        | Kind::Path
        | Kind::Duration(..)
        | Kind::Size
        | Kind::Count(..)
        | Kind::Boolean
        | Kind::Choice(_)
        | Kind::Servers
        | Kind::Urls
        | Kind::Networks
        | Kind::ServerMap => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use nomad_plugin_proto::hclspec::{Object, spec};
    use pg_leader_proxy::config::{Form, KEYS};

    use super::*;

    fn object(spec: &Spec) -> &Object {
        let Some(spec::Block::Object(object)) = &spec.block else { panic!("not an object: {spec:?}") };
        object
    }

    /// Path and HCL type of every key in the schema. Names are checked on the way.
    fn described() -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (name, block) in &object(&schema()).attributes {
            let Some(spec::Block::BlockValue(block)) = &block.block else { panic!("{name} is not a block") };
            assert_eq!((&block.name, block.required), (name, false));
            for (key, part) in &object(block.nested.as_ref().unwrap()).attributes {
                let (own, hcl_type) = if let Some(spec::Block::Attr(attr)) = &part.block {
                    (&attr.name, attr.r#type.clone())
                } else if let Some(spec::Block::BlockAttrs(map)) = &part.block {
                    (&map.name, format!("block of {}", map.r#type))
                } else {
                    panic!("{name}.{key}: {part:?}")
                };
                assert_eq!(own, key);
                all.insert(format!("{name}.{key}"), hcl_type);
            }
        }
        all
    }

    #[test]
    fn job_and_configuration_file_have_the_same_keys() {
        let all = described();
        let job: BTreeSet<&str> =
            all.keys().map(String::as_str).filter(|path| !path.ends_with(".port")).collect();
        let names = KEYS.iter().flat_map(Key::names).filter(|name| name.form != Form::Short);
        let file: BTreeSet<&str> = names.map(|name| name.path).collect();
        assert_eq!(job, file);
    }

    #[test]
    fn the_type_of_a_key_follows_from_its_kind() {
        let all = described();
        for key in KEYS {
            let expected = match key.kind {
                Kind::Count(..) => "number",
                Kind::Boolean => "bool",
                Kind::Addresses | Kind::Servers | Kind::Urls | Kind::Networks => "list(string)",
                Kind::ServerMap => "block of string",
                Kind::Text
                | Kind::Path
                | Kind::Duration(..)
                | Kind::Size
                | Kind::Choice(_)
                | Kind::Address => "string",
            };
            for name in key.names().filter(|name| name.form != Form::Short) {
                assert_eq!(all[name.path], expected, "{}", name.path);
            }
        }
    }

    #[test]
    fn every_block_that_listens_accepts_a_port_label() {
        let all = described();
        let ports: Vec<&str> = all.keys().filter_map(|path| path.strip_suffix(".port")).collect();
        assert_eq!(ports, ["admin", "read", "write"]);
        assert!(ports.iter().all(|block| all[&format!("{block}.port")] == "string"));
        for block in BLOCKS {
            assert_eq!(ports.contains(&block.name), listen(block).is_some(), "{}", block.name);
        }
    }
}
