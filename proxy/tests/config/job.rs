//! The settings that an orchestrator's job gives, beside those of files, variables and flags.

use std::path::PathBuf;

use pg_leader_proxy::config::{Config, Given, KEYS, Origins, Raw, Source};

use super::{ConfigDir, gathered, sample, toml, variables};

/// The settings of a job.
fn job(settings: &[(&str, Raw)]) -> Vec<Given> {
    settings.iter().map(|(path, raw)| Given { path: (*path).to_owned(), raw: raw.clone() }).collect()
}

fn text(text: &str) -> Raw {
    Raw::Text(text.to_owned())
}

fn list(items: &[&str]) -> Raw {
    Raw::List(items.iter().map(|item| (*item).to_owned()).collect())
}

#[test]
fn every_key_is_the_same_in_a_job_as_in_the_file() {
    let dir = ConfigDir::new();
    let existing = dir.file("existing", "content");
    for key in KEYS {
        let sample = sample(key, &existing);
        let block = format!("[{}]\n{} = {}\n", key.block(), key.name(), toml(key, &sample));
        let file = Some(PathBuf::from(dir.file("one.toml", &block)));
        let raw = gathered(&Origins { file, ..Origins::default() }).given(key.path).unwrap().raw.clone();
        for given in [raw.clone(), text(&sample)] {
            let from_job = gathered(&Origins { given: job(&[(key.path, given)]), ..Origins::default() });
            let setting = from_job.given(key.path).unwrap_or_else(|| panic!("{}", key.path));
            assert_eq!((&setting.raw, &setting.source), (&raw, &Source::Given), "{}", key.path);
        }
    }
}

#[test]
fn a_job_goes_before_the_default_and_behind_variables_and_flags() {
    let given = job(&[
        ("cluster.members", list(&["a:5432"])),
        ("probe.user", text("m")),
        ("write.hold_timeout", text("1s")),
    ]);
    let hold = |environment: &[(&str, &str)], flags: Vec<(&'static str, Vec<String>)>| {
        let environment = variables(environment);
        let origins = Origins { given: given.clone(), environment, flags, ..Origins::default() };
        Config::load(&origins).unwrap().write.hold_timeout.unwrap().as_secs()
    };
    assert_eq!(hold(&[], vec![]), 1);
    assert_eq!(hold(&[("PGLP_WRITE_HOLD_TIMEOUT", "2s")], vec![]), 2);
    assert_eq!(
        hold(&[("PGLP_WRITE_HOLD_TIMEOUT", "2s")], vec![("write.hold_timeout", vec!["3s".to_owned()])]),
        3
    );
}

#[test]
fn the_faults_of_a_job_name_key_value_and_remedy() {
    let errors = |given: &[(&str, Raw)]| {
        Config::load(&Origins { given: job(given), ..Origins::default() }).unwrap_err().to_string()
    };
    let map = Raw::Map(vec![("a".to_owned(), "b".to_owned())]);
    let told = errors(&[
        ("etcd.endpoint", text("x")),
        ("sesion.drain", text("1s")),
        ("tomatoes", text("red")),
        ("probe.password", text("hunter2")),
        ("write.max_held", list(&["1", "2"])),
        ("write.listen", map),
        ("cluster.address_map", text("a:1")),
        ("write.hold_timeout", text("soon")),
        ("read.listen", list(&["*:5434"])),
    ]);
    assert_eq!(
        told,
        "unknown key `etcd.endpoint` (the job's config): did you mean `etcd.endpoints`?\n\
         unknown key `sesion.drain` (the job's config): did you mean `session.drain_timeout`?\n\
         unknown key `tomatoes` (the job's config): there is no such key\n\
         probe.password (the job's config): a configuration holds no passwords, because it is shown and copied more \
         often than a secret should be; name a file or an environment variable instead: `probe.password_file` or `probe.password_env`\n\
         write.max_held (the job's config): must be a whole number, not a list\n\
         write.listen (the job's config): must be a list of strings, not a map\n\
         cluster.address_map (the job's config): each entry is FROM=TO\n\
         etcd.endpoints: is missing: the etcd servers that hold Patroni's keys; without etcd, list every member in \
         `cluster.members` (`--member`) instead; set it in the job's config or by `PGLP_ETCD_ENDPOINTS`\n\
         probe.user: is missing; set it in the job's config or by `PGLP_PROBE_USER`\n\
         write.hold_timeout = \"soon\" (the job's config): not a duration (expected number at 0); write it like \"30s\", \
         \"250ms\" or \"1h\"\n\
         read.listen = \"*:5434\" (the job's config): write \"0.0.0.0:5434\" for every IPv4 address of this machine, \
         \"[::]:5434\" for every IPv6 address"
    );
    assert!(!told.contains("hunter2"));
}

#[test]
fn given_settings_survive_the_way_to_another_process() {
    let map = Raw::Map(vec![("b:1".to_owned(), "c:1".to_owned()), ("a:1".to_owned(), "d:1".to_owned())]);
    for raw in [text("1s"), list(&["a", "b"]), list(&[]), map, Raw::Map(Vec::new())] {
        let given = Given { path: "write.hold_timeout".to_owned(), raw };
        let line = serde_json::to_string(&given).unwrap();
        assert_eq!(serde_json::from_str::<Given>(&line).unwrap(), given, "{line}");
    }
}
