//! The configuration, as an operator meets it: every key in every place, every contradiction, every error at once.
#![allow(clippy::unwrap_used)]

mod errors;
mod job;
mod renamed;
mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use pg_leader_proxy::cli;
use pg_leader_proxy::config::{
    Config, ConfigErrors, KEYS, Key, Kind, LeaderSource, LogFormat, Origins, PemFile, RequireAuth, Settings,
    Shape, Source, SslMode, document,
};
use pg_leader_proxy::files::FileReader;
use pg_leader_proxy::networks::Networks;
use pg_leader_proxy_core::{OnDcsLoss, ReadFallback, ServerAddr, Sources};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

/// A value for every key, none of them the default.
fn sample(key: &Key, existing_file: &str) -> String {
    match key.path {
        "cluster.scope" => "main",
        "cluster.namespace" => "/db//",
        "cluster.citus_group" => "2",
        "cluster.prefer_proxy_url" | "session.so_reuseport" => "true",
        "cluster.address_map" => "10.0.0.1:5432=192.0.2.1:15432",
        "cluster.members" => "10.0.0.1:5432,10.0.0.2:5432",
        "etcd.endpoints" => "https://10.0.0.1:2379,https://10.0.0.2:2379",
        "etcd.user" => "root",
        "probe.user" => "monitor",
        "etcd.password_env" | "probe.password_env" => "SOME_PASSWORD",
        "admin.token_file" => return existing_file.to_owned() + ".token",
        path if path.ends_with("_networks") || path.ends_with("_from") => "10.0.0.0/8,fd00::1",
        "probe.sslmode" => "verify-full",
        "probe.require_auth" => "scram-sha-256",
        "probe.database" => "monitoring",
        "policy.on_dcs_loss" => "fence",
        "write.listen" => "127.0.0.1:6433,[::1]:6433",
        "read.listen" => "127.0.0.1:6434",
        "read.max_lag" => "16MiB",
        "read.fallback" => "leader",
        "session.workers" => "3",
        "admin.listen" => "127.0.0.1:6435",
        "control.socket" => "/run/pg-leader-proxy/main.sock",
        "control.group" => "operators",
        "log.format" => "json",
        "log.sessions" => "false",
        "log.filter" => "debug",
        path if path.ends_with("_file") => existing_file,
        _ if matches!(key.kind, Kind::Count(..)) => "77",
        "probe.fast_interval" => "7ms",
        "probe.interval" => "700ms",
        _ => "4s",
    }
    .to_owned()
}

/// The value as it stands in the file.
fn toml(key: &Key, sample: &str) -> String {
    match key.kind.shape() {
        Shape::Text => format!("{sample:?}"),
        Shape::Number | Shape::Boolean => sample.to_owned(),
        Shape::List => format!("{:?}", sample.split(',').collect::<Vec<_>>()),
        Shape::Map => {
            let pairs = sample.split(',').filter_map(|pair| pair.split_once('='));
            let pairs: Vec<String> = pairs.map(|(from, to)| format!("{from:?} = {to:?}")).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// Files that a test needs.
struct ConfigDir(TempDir);

impl ConfigDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A self-signed certificate and its key, in one file.
    fn certificate(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        self.file(&format!("{name}.token"), "s3cret\n");
        self.file(name, &format!("{}{}", certificate.pem(), key.serialize_pem()))
    }

    fn load(&self, text: &str) -> Result<Config, ConfigErrors> {
        let file = PathBuf::from(self.file("proxy.toml", text));
        Config::load(&Origins { file: Some(file), ..Origins::default() })
    }

    /// The errors, one per line, without the folder of the file.
    fn errors(&self, text: &str) -> String {
        self.load(text).unwrap_err().to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The flags as a person types them.
fn typed(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let line = ["pg-leader-proxy", "run"].iter().chain(arguments);
    let matches = cli::command().get_matches_from(line);
    let start = cli::Start { environment: variables(environment), ..cli::Start::default() };
    Config::load(&cli::origins(matches.subcommand().unwrap().1, &start))
}

fn variables(environment: &[(&str, &str)]) -> BTreeMap<String, String> {
    environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn gathered(origins: &Origins) -> Settings {
    let mut errors = Vec::new();
    let settings = Settings::gather(origins, &mut errors);
    assert_eq!(errors, []);
    settings
}

#[test]
fn every_key_is_the_same_in_the_file_in_the_environment_and_as_a_flag() {
    let dir = ConfigDir::new();
    let existing = dir.file("existing", "content");
    for key in KEYS {
        let sample = sample(key, &existing);
        let text = format!("[{}]\n{} = {}\n", key.block(), key.name(), toml(key, &sample));
        let file = PathBuf::from(dir.file("one.toml", &text));
        let from_file = gathered(&Origins { file: Some(file), ..Origins::default() });
        let environment = BTreeMap::from([(key.variable(), sample.clone())]);
        let from_environment = gathered(&Origins { environment, ..Origins::default() });
        let flag = format!("--{}={sample}", key.flag());
        let matches = cli::command().get_matches_from(["pg-leader-proxy", "check", &flag]);
        let from_flag = gathered(&cli::origins(matches.subcommand().unwrap().1, &cli::Start::default()));

        let given = from_file.given(key.path).unwrap_or_else(|| panic!("{}", key.path));
        assert!(matches!(&given.source, Source::File(_, 2)), "{}", key.path);
        assert_eq!(from_environment.given(key.path).unwrap().raw, given.raw, "{}", key.path);
        assert_eq!(from_environment.given(key.path).unwrap().source, Source::Variable(key.variable()));
        assert_eq!(from_flag.given(key.path).unwrap().raw, given.raw, "{}", key.path);
        assert_eq!(from_flag.given(key.path).unwrap().source, Source::Flag(key.flag()));
        assert_ne!(Some(given.raw.to_string()), key.default.map(str::to_owned), "{}", key.path);
    }
}

#[test]
fn every_key_arrives_where_it_belongs() {
    let dir = ConfigDir::new();
    let existing = dir.certificate("existing");
    let content = fs::read_to_string(&existing).unwrap();
    let mut text = String::new();
    for key in KEYS.iter().filter(|key| !["cluster.members"].contains(&key.path)) {
        if !key.path.ends_with("password_env") {
            text.push_str(&format!("{} = {}\n", key.path, toml(key, &sample(key, &existing))));
        }
    }
    let config = dir.load(&text).unwrap();
    let LeaderSource::Etcd(etcd) = &config.leader_source else { panic!("{config:?}") };
    assert_eq!(etcd.prefix, "/db/main/2/");
    assert_eq!(etcd.endpoints, ["https://10.0.0.1:2379", "https://10.0.0.2:2379"]);
    let (user, password) = etcd.login.clone().unwrap();
    assert_eq!((user.as_str(), password.expose()), ("root", content.trim_end()));
    assert_eq!(etcd.tls.ca_file, Some(PathBuf::from(&existing)));
    assert_eq!(etcd.tls.identity, Some((PathBuf::from(&existing), PathBuf::from(&existing))));
    assert_eq!((etcd.refresh_interval, etcd.timeout), (Duration::from_secs(4), Duration::from_secs(4)));
    assert!(etcd.prefer_proxy_url);
    let published = ServerAddr::new("10.0.0.1", 5432);
    assert_eq!(etcd.address_map[&published], ServerAddr::new("192.0.2.1", 15432));
    let probe = &config.probe;
    assert_eq!((probe.user.as_str(), probe.database.as_str()), ("monitor", "monitoring"));
    assert_eq!(probe.password.as_ref().unwrap().expose(), content.trim_end());
    assert_eq!(probe.interval, Duration::from_millis(700));
    assert_eq!(probe.fast_interval, Duration::from_millis(7));
    assert_eq!((probe.connect_interval, probe.timeout), (Duration::from_secs(4), Duration::from_secs(4)));
    let pem = PemFile::read(&FileReader::default(), existing.as_ref()).unwrap();
    assert_eq!((probe.sslmode, &probe.ca_file), (SslMode::VerifyFull, &Some(pem.clone())));
    assert_eq!(probe.identity, Some((pem.clone(), pem)));
    assert_eq!(probe.require_auth, RequireAuth::parse("scram-sha-256").unwrap());
    let options = config.policy.options();
    assert_eq!((options.sources, options.on_dcs_loss), (Sources::DcsAndServers, OnDcsLoss::Fence));
    let four = Duration::from_secs(4);
    assert_eq!(
        (options.lease_margin, options.max_probe_age, options.max_member_probe_age),
        (four, four, four)
    );
    assert_eq!((options.max_lag_bytes, options.read_fallback), (Some(16 << 20), ReadFallback::Leader));
    assert_eq!(options.probe_interval, probe.interval);
    assert_eq!(config.write.listen, ["127.0.0.1:6433".parse().unwrap(), "[::1]:6433".parse().unwrap()]);
    let read = config.read.unwrap();
    assert_eq!(read.listen, ["127.0.0.1:6434".parse().unwrap()]);
    for route in [&config.write, &read] {
        assert_eq!((route.hold_timeout, route.max_held, route.max_concurrent_logins), (Some(four), 77, 77));
    }
    let session = config.session;
    assert_eq!((session.max_sessions, session.workers, session.so_reuseport), (77, 3, true));
    assert_eq!((session.startup_timeout, session.connect_timeout), (four, four));
    assert_eq!((session.keepalive, session.user_timeout, session.drain_timeout), (four, four, four));
    assert_eq!(config.admin, Some("127.0.0.1:6435".parse().unwrap()));
    let networks = Networks::from(vec!["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()]);
    for route in [&config.write, &read] {
        assert_eq!(
            (route.allowed_networks.as_ref(), &route.proxy_protocol_from),
            (Some(&networks), &networks)
        );
    }
    assert_eq!(session.max_sessions_per_address, Some(77));
    assert_eq!(session.max_connections_per_minute_per_address, Some(77));
    assert_eq!(config.admin_access.allowed_networks, Some(networks));
    assert_eq!(config.admin_access.token.unwrap().expose(), "s3cret");
    let control = config.control.unwrap();
    assert_eq!(control.path, PathBuf::from("/run/pg-leader-proxy/main.sock"));
    assert_eq!(control.group.as_deref(), Some("operators"));
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Json, "debug"));
    assert!(!config.log.sessions);
}

#[test]
fn without_etcd_two_kinds_of_flags_are_enough() {
    let config =
        typed(&["--member", "127.0.0.1:5432", "--member", "127.0.0.2:5432", "--probe-user", "monitor"], &[])
            .unwrap();
    let members = vec![ServerAddr::new("127.0.0.1", 5432), ServerAddr::new("127.0.0.2", 5432)];
    assert_eq!(config.leader_source, LeaderSource::Members(members));
    assert_eq!(config.policy.options().sources, Sources::ServersOnly);
    assert_eq!(config.write.listen, ["0.0.0.0:5433".parse().unwrap()]);
    assert_eq!(config.admin, Some("127.0.0.1:9433".parse().unwrap()));
    assert_eq!((config.read, config.probe.password), (None, None));
    assert!(config.session.workers > 0);
}

#[test]
fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
    let dir = ConfigDir::new();
    let file = dir.file(
        "proxy.toml",
        "[probe]\nuser = \"m\"\n[write]\nhold_timeout = \"1s\"\n[cluster]\nmembers = \"a:1\"",
    );
    let named = [("PGLP_CONFIG", file.as_str()), ("PGLP_WRITE_HOLD_TIMEOUT", "")];
    assert_eq!(typed(&[], &named).unwrap().write.hold_timeout, Some(Duration::from_secs(1)));
    let both = [("PGLP_CONFIG", file.as_str()), ("PGLP_WRITE_HOLD_TIMEOUT", "2s")];
    assert_eq!(typed(&[], &both).unwrap().write.hold_timeout, Some(Duration::from_secs(2)));
    assert_eq!(
        typed(&["--write-hold-timeout", "3s"], &both).unwrap().write.hold_timeout,
        Some(Duration::from_secs(3))
    );
}

/// The smallest configuration with etcd, and more lines.
fn with_etcd(more: &str) -> String {
    format!("cluster.scope = \"main\"\netcd.endpoints = \"http://a:2379\"\nprobe.user = \"m\"\n{more}\n")
}

/// The smallest configuration without etcd, and more lines.
fn with_members(more: &str) -> String {
    format!("cluster.members = \"a:5432,b:5432\"\nprobe.user = \"m\"\n{more}\n")
}

#[test]
fn a_cluster_is_called_by_its_scope() {
    let dir = ConfigDir::new();
    let called = |text: String| dir.load(&text).unwrap().cluster;
    assert_eq!(called(with_etcd("")), "main");
    assert_eq!(called(with_etcd("cluster.citus_group = 2")), "main/2");
    assert_eq!(called(with_members("")), "static");
    assert_eq!(called(with_members("cluster.scope = \"shop\"")), "shop");
}

#[test]
fn odd_slashes_are_put_right_as_patroni_does() {
    for (namespace, prefix) in
        [("service", "/service/main/"), ("//db/x/", "/db/x/main/"), ("/", "/main/"), ("", "/main/")]
    {
        let config =
            ConfigDir::new().load(&with_etcd(&format!("cluster.namespace = {namespace:?}"))).unwrap();
        let LeaderSource::Etcd(etcd) = config.leader_source else { panic!("{namespace}") };
        assert_eq!(etcd.prefix, prefix);
    }
}

#[test]
fn passwords_come_from_files_and_variables_and_are_never_shown() {
    let dir = ConfigDir::new();
    let file = dir.file("password", "hunter2\r\n");
    let flags = ["--member", "a:5432", "--probe-user", "m"];
    let with = |more: &[&str], environment: &[(&str, &str)]| typed(&[&flags, more].concat(), environment);
    let password = |config: Config| config.probe.password.map(|secret| secret.expose().to_owned());

    let default = with(&[], &[("PGLP_PROBE_PASSWORD", "hunter2")]).unwrap();
    assert!(!format!("{default:?}").contains("hunter2"));
    assert_eq!(password(default).as_deref(), Some("hunter2"));
    let with_newline = with(&[], &[("PGLP_PROBE_PASSWORD", "hunter2\n")]).unwrap();
    assert_eq!(password(with_newline).as_deref(), Some("hunter2"));
    let named = with(&["--probe-password-env", "MINE"], &[("MINE", "hunter2")]).unwrap();
    assert_eq!(password(named).as_deref(), Some("hunter2"));
    let filed = with(&["--probe-password-file", &file], &[("PGLP_PROBE_PASSWORD", "other")]).unwrap();
    assert_eq!(password(filed).as_deref(), Some("hunter2"));

    let error = |more: &[&str]| with(more, &[]).unwrap_err().to_string();
    assert!(error(&["--probe-password-env", "MINE"]).contains("there is no such environment variable"));
    assert!(!error(&["--probe-password-env", "hunter2!"]).contains("hunter2"));
    assert!(error(&["--probe-password-file", "/nowhere"]).ends_with(
        "probe.password_file = \"/nowhere\" (--probe-password-file): the file cannot be read: No such file or \
         directory (os error 2)"
    ));
    assert!(
        error(&["--probe-password-file", &file, "--probe-password-env", "MINE"]).contains("keep one of them")
    );
    let url = error(&["--etcd-endpoints", "http://root:hunter2@a:2379"]);
    assert!(!url.contains("hunter2"), "{url}");
    assert!(!dir.errors("[probe]\npassword = \"hunter2\"").contains("hunter2"));
}

#[test]
fn a_choice_has_exactly_the_words_that_the_documentation_lists() {
    let dir = ConfigDir::new();
    for key in KEYS {
        let Kind::Choice(words) = key.kind else { continue };
        let told =
            dir.errors(&with_members(&format!("{} = \"nonsense\"\nread.listen = \"[::1]:1\"", key.path)));
        let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let (last, others) = quoted.split_last().unwrap();
        assert!(told.ends_with(&format!("must be {} or {last}", others.join(", "))), "{told}");
    }
}

#[test]
fn admin_can_be_off() {
    assert_eq!(ConfigDir::new().load(&with_members("admin.listen = \"off\"")).unwrap().admin, None);
}

#[test]
fn the_documentation_is_made_from_the_table_and_its_example_works() {
    let written =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/reference/configuration.md"))
            .unwrap();
    assert!(written == document(), "run `pg-leader-proxy document > docs/src/reference/configuration.md`");
    let example = written.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = ConfigDir::new();
    let origins = Origins {
        file: Some(PathBuf::from(dir.file("proxy.toml", example))),
        environment: variables(&[("PGLP_PROBE_PASSWORD", "x")]),
        ..Origins::default()
    };
    assert!(Config::load(&origins).unwrap().read.is_some());
}

#[test]
fn check_ends_with_the_codes_that_scripts_expect() {
    let (code, out, _) = program(&["check", "--member", "a:5432", "--probe-user", "m"]);
    assert_eq!((code, out == "ok       configuration: valid\n"), (0, true));
    let (code, _, err) = program(&["check", "--member", "a"]);
    assert_eq!((code, err.ends_with("configuration: 2 errors\n")), (78, true), "{err}");
    assert_eq!(program(&["check", "--wirte-listen", "x"]).0, 64);
    assert_eq!(program(&["run", "--member", "a"]).0, 78);
    assert_eq!(program(&[]).0, 64);
    assert_eq!(program(&["--help"]).0, 0);
    assert!(program(&["--version"]).1.starts_with("pg-leader-proxy "));
    assert_eq!(program(&["status", "--admin", "127.0.0.1:1"]).0, 2);
}

/// Runs the program: exit code, standard output, standard error.
fn program(arguments: &[&str]) -> (u8, String, String) {
    let line = ["pg-leader-proxy"].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
    let start = cli::Start { arguments: line, ..cli::Start::default() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = cli::answer(&start, &mut out, &mut err);
    (exit.code(), String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}
