//! The `config` block of a job's task: its schema, and its values as settings of the proxy.

mod ports;
mod schema;

use std::fmt;

use nomad_plugin_proto::driver::Resources;
use pg_leader_proxy::config::{Block, Given, Name, Raw};
use serde_json::Value;

pub use self::schema::schema;
use self::schema::{PORT, listen};
use crate::msgpack;

/// Names the source of these settings in error messages.
const SOURCE: &str = "the job's config";

/// Reads the settings in `msgpack`. Labels of ports are replaced by the addresses that `resources` assigns to them.
///
/// The values are checked by the proxy. Keys that are not in the schema are skipped: Nomad has rejected those of the
/// job, and keys that a later Nomad adds must not stop a task.
///
/// # Errors
/// When the bytes are not a configuration, a label has no port, or a block has both `port` and `listen`.
pub fn read(msgpack: &[u8], resources: Option<&Resources>) -> Result<Vec<Given>, JobConfigErrors> {
    let root = msgpack::decode(msgpack).map_err(|error| JobConfigErrors(vec![error.to_string()]))?;
    let mut given = Vec::new();
    let mut errors = Vec::new();
    for (name, body) in root {
        let Some(block) = Block::find(&name) else { continue };
        match read_block(block, body, resources) {
            Ok(settings) => given.extend(settings),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(given) } else { Err(JobConfigErrors(errors)) }
}

/// The faults of a task's configuration. Each text names the key and its value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct JobConfigErrors(Vec<String>);

impl fmt::Display for JobConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

fn read_block(block: &Block, body: Value, resources: Option<&Resources>) -> Result<Vec<Given>, String> {
    let body = msgpack::block(body).ok_or_else(|| format!("{} ({SOURCE}): must be a block", block.name))?;
    let given: Result<Vec<Option<Given>>, String> = block.names().map(|name| setting(name, &body)).collect();
    let mut given: Vec<Given> = given?.into_iter().flatten().collect();
    if let (Some(listen), Some(label)) = (listen(block), body.get(PORT).and_then(msgpack::text)) {
        let subject = format!("{}.{PORT} = {label:?} ({SOURCE})", block.name);
        let names: Vec<&str> = listen.names().map(|name| name.path).collect();
        if let Some(both) =
            given.iter().map(|setting| &setting.path).find(|path| names.contains(&path.as_str()))
        {
            return Err(format!("{subject}: {both} also says where to listen; keep one of the two"));
        }
        let address = ports::address(&label, resources).map_err(|problem| format!("{subject}: {problem}"))?;
        given.push(Given { path: listen.path.to_owned(), raw: Raw::Text(address.to_string()) });
    }
    Ok(given)
}

/// The value under `name`, if the block sets it.
fn setting(name: Name, body: &msgpack::Block) -> Result<Option<Given>, String> {
    let value = match body.get(name.last()) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let raw = match value {
        // A list of one map is a block.
        Value::Array(items) if !matches!(items.as_slice(), [Value::Object(_)]) => {
            items.iter().map(msgpack::text).collect::<Option<_>>().map(Raw::List)
        }
        Value::Array(_) | Value::Object(_) => {
            let pairs = msgpack::block(value.clone()).unwrap_or_default().into_iter();
            pairs
                .map(|(name, value)| Some((name, msgpack::text(&value)?)))
                .collect::<Option<_>>()
                .map(Raw::Map)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            msgpack::text(value).map(Raw::Text)
        }
    };
    match raw {
        Some(raw) => Ok(Some(Given { path: name.path.to_owned(), raw })),
        None => Err(format!("{} ({SOURCE}): contains something that is not a string", name.path)),
    }
}

#[cfg(test)]
mod tests {
    use nomad_plugin_proto::driver::PortMapping;

    use super::*;

    fn text(path: &str, text: &str) -> Given {
        Given { path: path.into(), raw: Raw::Text(text.into()) }
    }

    fn port(label: &str, value: i32, host_ip: &str) -> PortMapping {
        PortMapping { label: label.into(), value, to: 0, host_ip: host_ip.into() }
    }

    fn resources() -> Resources {
        Resources {
            ports: vec![port("pg", 5433, "10.0.0.1"), port("pgro", 5434, "")],
            ..Resources::default()
        }
    }

    /// `{cluster: {scope: "main", members: nil}, log: nil, write: {hold_timeout: "5s", listen: nil, max_held: 5,
    /// port: "pg"}}`
    const JOB: &[u8] = b"\x83\xa7cluster\x82\xa7members\xc0\xa5scope\xa4main\xa3log\xc0\
        \xa5write\x84\xachold_timeout\xa25s\xa6listen\xc0\xa8max_held\x05\xa4port\xa2pg";

    #[test]
    fn a_job_sets_the_keys_that_are_not_null() {
        let given = read(JOB, Some(&resources())).unwrap();
        let expected = [
            text("cluster.scope", "main"),
            text("write.hold_timeout", "5s"),
            text("write.max_held", "5"),
            text("write.listen", "10.0.0.1:5433"),
        ];
        assert_eq!(given, expected);
    }

    #[test]
    fn an_old_name_is_passed_on() {
        let job = b"\x81\xa5write\x82\xa4hold\xa25s\xachold_timeout\xc0";
        assert_eq!(read(job, None).unwrap(), [text("write.hold", "5s")]);
    }

    #[test]
    fn pitfall_12_an_empty_or_null_configuration_sets_nothing() {
        assert_eq!(read(b"", None), Ok(vec![]));
        assert_eq!(read(b"\xc0", None), Ok(vec![]));
        assert_eq!(read(b"\x80", None), Ok(vec![]));
    }

    #[test]
    fn pitfall_12_numbers_arrive_as_integers_floats_and_strings() {
        for (bytes, expected) in [
            (&b"\x05"[..], "5"),
            (b"\xcd\x01\x2c", "300"),
            (b"\xd1\xff\x38", "-200"),
            (b"\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00", "0.5"),
            (b"\xcb\x40\x14\x00\x00\x00\x00\x00\x00", "5"),
            (b"\xa30.1", "0.1"),
            (b"\xc3", "true"),
        ] {
            let job = [&b"\x81\xa5write\x81\xa8max_held"[..], bytes].concat();
            assert_eq!(read(&job, None).unwrap(), [text("write.max_held", expected)], "{bytes:?}");
        }
    }

    #[test]
    fn pitfall_12_a_block_may_arrive_as_a_list_of_one() {
        let job = b"\x81\xa7cluster\x91\x82\xa5scope\xa4main\xabaddress_map\x91\x81\xa3a:1\xa3b:2";
        let map = Raw::Map(vec![("a:1".into(), "b:2".into())]);
        let expected =
            [text("cluster.scope", "main"), Given { path: "cluster.address_map".into(), raw: map }];
        assert_eq!(read(job, None).unwrap(), expected);
    }

    #[test]
    fn pitfall_12_keys_of_a_later_nomad_are_skipped() {
        let job = b"\x82\xa5later\x81\xa1a\x01\xa3log\x82\xa5later\xc3\xa6format\xa4json";
        assert_eq!(read(job, None).unwrap(), [text("log.format", "json")]);
    }

    #[test]
    fn lists_and_maps_are_read() {
        let job = b"\x82\xa4etcd\x81\xa9endpoints\x92\xa8http://a\xa8http://b\xa7cluster\x81\xabaddress_map\x81\xa1a\xa1b";
        let given = read(job, None).unwrap();
        assert_eq!(given[0].raw, Raw::Map(vec![("a".into(), "b".into())]));
        assert_eq!(given[1].raw, Raw::List(vec!["http://a".into(), "http://b".into()]));
    }

    #[test]
    fn a_list_of_something_else_than_strings_is_an_error() {
        let error = read(b"\x81\xa4etcd\x81\xa9endpoints\x92\xa8http://a\xc0", None).unwrap_err().to_string();
        assert!(error.starts_with("etcd.endpoints (the job's config): "), "{error}");
    }

    #[test]
    fn an_empty_list_is_a_list() {
        let given = read(b"\x81\xa4read\x81\xa6listen\x90", None).unwrap();
        assert_eq!(given, [Given { path: "read.listen".into(), raw: Raw::List(vec![]) }]);
    }

    #[test]
    fn the_error_for_an_unknown_label_lists_the_known_ones() {
        let error = read(b"\x81\xa5write\x81\xa4port\xa3pgg", Some(&resources())).unwrap_err().to_string();
        assert!(error.starts_with("write.port = \"pgg\" (the job's config): "), "{error}");
        assert!(error.contains("\"pg\" and \"pgro\""), "{error}");
    }

    #[test]
    fn port_and_listen_exclude_each_other() {
        let job = b"\x81\xa5admin\x82\xa6listen\xa3off\xa4port\xa2pg";
        let error = read(job, Some(&resources())).unwrap_err().to_string();
        assert!(error.contains("admin.port = \"pg\"") && error.contains("admin.listen"), "{error}");
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let job = b"\x82\xa5admin\x81\xa4port\xa1a\xa4read\x81\xa4port\xa1b";
        let error = read(job, None).unwrap_err().to_string();
        assert!(error.contains("admin.port = \"a\"") && error.contains("read.port = \"b\""), "{error}");
    }

    #[test]
    fn bytes_that_are_not_a_configuration_are_an_error() {
        for wrong in [&b"\x81"[..], b"\xc1", b"\x05", b"\x91\x05", b"\x81\xa5write\xa1x", b"\x80\x80"] {
            assert!(read(wrong, None).is_err(), "{wrong:?}");
        }
    }
}
