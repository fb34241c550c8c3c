//! Old names of keys and values: they work everywhere, with a warning, and not beside the present name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pg_leader_proxy::cli;
use pg_leader_proxy::config::{Config, Form, Given, KEYS, Key, Name, Origins, Raw, Settings};
use pg_leader_proxy_core::OnDcsLoss;

use super::{ConfigDir, gathered, sample, toml, typed, variables, with_members};

fn old_names() -> impl Iterator<Item = Name> {
    KEYS.iter().flat_map(Key::names).filter(|name| name.form == Form::Old)
}

fn in_file(dir: &ConfigDir, name: &Name, sample: &str) -> Origins {
    let block = name.block().unwrap();
    let text = format!("[{block}]\n{} = {}\n", name.last(), toml(name.key, sample));
    Origins { file: Some(PathBuf::from(dir.file("old.toml", &text))), ..Origins::default() }
}

fn by_flag(name: &Name, sample: &str) -> Origins {
    let flag = format!("--{}={sample}", name.flag());
    let matches = cli::command().get_matches_from(["pg-leader-proxy", "check", &flag]);
    cli::origins(matches.subcommand().unwrap().1, &cli::Start::default())
}

fn by_variable(name: &Name, sample: &str) -> Origins {
    Origins { environment: BTreeMap::from([(name.variable(), sample.to_owned())]), ..Origins::default() }
}

fn by_job(name: &Name, sample: &str) -> Origins {
    let given = vec![Given { path: name.path.to_owned(), raw: Raw::Text(sample.to_owned()) }];
    Origins { given, ..Origins::default() }
}

#[test]
fn every_old_name_works_everywhere_and_warns() {
    let dir = ConfigDir::new();
    assert!(old_names().count() >= 9);
    for name in old_names() {
        let sample = sample(name.key, "");
        let (old, new) = (name.path, name.key.path);
        let file = dir.path("old.toml");
        for (origins, warning) in [
            (in_file(&dir, &name, &sample), format!("{old} ({file} line 2): renamed to {new}; ")),
            (by_job(&name, &sample), format!("{old} (the job's config): renamed to {new}; ")),
            (by_flag(&name, &sample), format!("--{}: renamed to --{}; ", name.flag(), name.key.flag())),
            (
                by_variable(&name, &sample),
                format!("{}: renamed to {}; ", name.variable(), name.key.variable()),
            ),
        ] {
            let settings = gathered(&origins);
            assert_eq!(
                settings.given(new).map(|setting| setting.raw.to_string()),
                Some(sample.clone()),
                "{old}"
            );
            let [renamed] = settings.renamed() else { panic!("{old}: {settings:?}") };
            assert_eq!(renamed.to_string(), format!("{warning}the old name still works"));
        }
    }
}

#[test]
fn both_names_at_once_are_refused_and_both_are_named() {
    let dir = ConfigDir::new();
    let told = dir.errors(&with_members("write.hold = \"1s\"\nwrite.hold_timeout = \"2s\""));
    let expected = "write.hold_timeout (proxy.toml line 4): is the same setting as `write.hold` (proxy.toml line 3); keep \
                    `write.hold_timeout` alone";
    assert_eq!(told, expected);
    let told = typed(
        &["--member", "a:5432", "--probe-user", "m", "--session-drain", "1s", "--session-drain-timeout=2s"],
        &[("PGLP_WRITE_HOLD", "1s"), ("PGLP_WRITE_HOLD_TIMEOUT", "2s")],
    );
    assert_eq!(
        told.unwrap_err().to_string(),
        "PGLP_WRITE_HOLD: is the same setting as `PGLP_WRITE_HOLD_TIMEOUT`; keep `PGLP_WRITE_HOLD_TIMEOUT` alone\n\
         --session-drain: is the same setting as `--session-drain-timeout`; keep `--session-drain-timeout` alone"
    );
    let both = [("write.hold", "1s"), ("write.hold_timeout", "2s")];
    let given = both.map(|(path, text)| Given { path: path.to_owned(), raw: Raw::Text(text.to_owned()) });
    let mut errors = Vec::new();
    Settings::gather(&Origins { given: given.into(), ..Origins::default() }, &mut errors);
    assert_eq!(
        errors[0].to_string(),
        "write.hold_timeout (the job's config): is the same setting as `write.hold` (the job's config); keep \
         `write.hold_timeout` alone"
    );
}

#[test]
fn the_order_of_origins_holds_for_old_names_too() {
    let dir = ConfigDir::new();
    let file = dir.file("proxy.toml", &with_members("write.hold = \"1s\""));
    let config = typed(&[], &[("PGLP_CONFIG", &file), ("PGLP_WRITE_HOLD_TIMEOUT", "2s")]).unwrap();
    assert_eq!(config.write.hold_timeout.unwrap().as_secs(), 2);
    assert_eq!(config.renamed.len(), 1);
}

#[test]
fn an_old_word_means_the_present_one_and_warns() {
    let dir = ConfigDir::new();
    let config = dir.load(&with_members("policy.on_dcs_loss = \"evidence\"")).unwrap();
    assert_eq!(config.policy.options().on_dcs_loss, OnDcsLoss::AllMembers);
    let [renamed] = config.renamed.as_slice() else { panic!("{:?}", config.renamed) };
    assert!(
        renamed.to_string().starts_with("policy.on_dcs_loss = \"evidence\" (")
            && renamed
                .to_string()
                .ends_with(" line 3): renamed to \"all_members\"; the old name still works"),
        "{renamed}"
    );
}

#[test]
fn an_error_shows_the_name_that_was_written() {
    let told = ConfigDir::new().errors(&with_members("write.hold = \"soon\""));
    assert!(told.starts_with("write.hold = \"soon\" (proxy.toml line 3): not a duration"), "{told}");
}

#[test]
fn members_have_a_short_form_that_does_not_warn() {
    for (arguments, environment) in [
        (&["--member", "a:5432", "--cluster-members", "b:5432"][..], &[][..]),
        (&[], &[("PGLP_MEMBER", "a:5432,b:5432")]),
        (&["--cluster-members", "a:5432,b:5432"], &[]),
    ] {
        let environment = variables(environment).into_iter().chain([("PGLP_PROBE_USER".into(), "m".into())]);
        let environment: BTreeMap<String, String> = environment.collect();
        let line = ["pg-leader-proxy", "run"].iter().chain(arguments);
        let matches = cli::command().get_matches_from(line);
        let start = cli::Start { environment, ..cli::Start::default() };
        let config = Config::load(&cli::origins(matches.subcommand().unwrap().1, &start)).unwrap();
        assert_eq!(config.renamed, []);
        let pg_leader_proxy::config::LeaderSource::Members(members) = config.leader_source else {
            panic!("members")
        };
        assert_eq!(members.len(), 2);
    }
}
