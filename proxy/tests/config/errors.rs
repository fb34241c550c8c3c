//! Errors: each is named with its key, value, source and remedy, and all come at once.

use std::path::PathBuf;

use pg_leader_proxy::config::{Config, Origins};

use super::{ConfigDir, program, typed, with_etcd, with_members};

#[test]
fn all_errors_come_at_once_with_key_value_source_and_remedy() {
    let dir = ConfigDir::new();
    let text = "[cluster]\nscope = \"main\"\n[etcd]\nendpoint = \"x\"\n[write]\nhold_timeout = 30\nmax_held = 0\n[foo]\n\
                [sesion]\n[probe]\nuser = \"m\"\npassword = \"hunter2\"\nsslmode = \"always\"\n[log]\nfilter = 5\n";
    assert_eq!(
        dir.errors(text),
        "unknown key `etcd.endpoint` (proxy.toml line 4): did you mean `etcd.endpoints`?\n\
         unknown block `foo` (proxy.toml line 8): there is no such block\n\
         unknown block `sesion` (proxy.toml line 9): did you mean `[session]`?\n\
         probe.password (proxy.toml line 12): a configuration holds no passwords, because it is shown and copied more \
         often than a secret should be; name a file or an environment variable instead: `probe.password_file` or `probe.password_env`\n\
         log.filter (proxy.toml line 15): must be a string, not an integer\n\
         etcd.endpoints: is missing: the etcd servers that hold Patroni's keys; without etcd, list every member in \
         `cluster.members` (`--member`) instead; set it in the file, by `--etcd-endpoints` or by \
         `PGLP_ETCD_ENDPOINTS`\n\
         probe.sslmode = \"always\" (proxy.toml line 13): must be \"disable\", \"allow\", \"prefer\", \"require\", \
         \"verify-ca\" or \"verify-full\"\n\
         write.hold_timeout = \"30\" (proxy.toml line 6): a duration needs a unit, such as \"30s\" or \"30ms\"\n\
         write.max_held = \"0\" (proxy.toml line 7): must be a whole number from 1 to 1000000"
    );
}

#[test]
fn a_wrong_network_is_named_with_its_key() {
    let dir = ConfigDir::new();
    let errors = dir.errors(&with_members(
        "write.allowed_networks = [\"10.0.0.0/8\", \"10.0.0.1/8\"]\nread.listen = \"0.0.0.0:5434\"\n\
         read.proxy_protocol_from = \"haproxy-1\"\nadmin.allowed_networks = []\nadmin.token_file = \"/nowhere\"",
    ));
    assert_eq!(
        errors,
        "write.allowed_networks = \"10.0.0.1/8\" (proxy.toml line 3): has bits behind its prefix; write \"10.0.0.0/8\"\n\
         read.proxy_protocol_from = \"haproxy-1\" (proxy.toml line 5): not a network; write it like \"10.0.0.0/8\", \
         \"fd00::/8\" or, for one address, \"10.0.0.1\"\n\
         admin.allowed_networks = \"\" (proxy.toml line 6): names no network; name one, or remove it\n\
         admin.token_file = \"/nowhere\" (proxy.toml line 7): the file cannot be read: No such file or directory (os error 2)"
    );
    let two_words = dir.file("token", "two words\n");
    let errors =
        dir.errors(&with_members(&format!("admin.listen = \"off\"\nadmin.token_file = {two_words:?}")));
    assert!(errors.contains("one word of visible ASCII characters"), "{errors}");
    let token = dir.file("token", "s3cret\n");
    let errors = dir.errors(&with_members(&format!("admin.listen = \"off\"\nadmin.token_file = {token:?}")));
    assert!(errors.contains("has no effect while `admin.listen` is \"off\""), "{errors}");
}

#[test]
fn syntax_errors_have_a_line() {
    let errors = ConfigDir::new().errors("[write]\nlisten = [\"0.0.0.0:5433\"\nhold_timeout = \"1s\"\n");
    assert!(errors.starts_with("syntax (proxy.toml line 3): "), "{errors}");
}

#[test]
fn a_misspelt_variable_is_refused_and_a_foreign_one_is_not() {
    let flags = ["--member", "a:5432", "--probe-user", "m"];
    let errors =
        typed(&flags, &[("PGLP_WRITE_HOLD_TIMEOUTS", "1s"), ("PGLP_MEMBERS", "b:5432")]).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "unknown environment variable `PGLP_MEMBERS`: did you mean `PGLP_MEMBER`?\n\
         unknown environment variable `PGLP_WRITE_HOLD_TIMEOUTS`: did you mean `PGLP_WRITE_HOLD_TIMEOUT`?"
    );
    assert!(
        typed(&flags, &[("PGLP_SERVICE_HOST", "10.0.0.9"), ("PGLP_PORT", "tcp://10.0.0.9:5433")]).is_ok()
    );
}

#[test]
fn each_contradiction_is_named() {
    let dir = ConfigDir::new();
    let file = dir.file("existing", "content");
    let cases = [
        (with_etcd("cluster.members = \"a:5432\""), "`etcd.endpoints` is given as well"),
        (
            with_members("etcd.user = \"root\""),
            "etcd.user = \"root\" (proxy.toml line 3): has no effect without",
        ),
        (with_members("cluster.namespace = \"/x\""), "has no effect without `etcd.endpoints`"),
        ("probe.user = \"m\"".to_owned(), "without etcd, list every member"),
        ("etcd.endpoints = \"http://a:1\"\nprobe.user = \"m\"".to_owned(), "cluster.scope: is missing"),
        (with_members("write.hold_timeout = \"2h\""), "too long; at most 1h"),
        (with_members("admin.listen = \"0.0.0.0:5433\""), "`write.listen` listens on 0.0.0.0:5433 as well"),
        (with_members("read.listen = \"127.0.0.1:5433\""), "which includes 127.0.0.1:5433"),
        (with_members("write.listen = \"[::1]:1,[::1]:1\""), "`write.listen` listens on [::1]:1 as well"),
        (with_members("write.listen = []"), "names no address"),
        (with_members("policy.max_probe_age = \"900ms\""), "shorter than two probe intervals"),
        (with_members("policy.max_member_probe_age = \"900ms\""), "policy.max_member_probe_age = \"900ms\""),
        (with_members("probe.timeout = \"6s\""), "longer than `policy.max_probe_age`, which is 5s"),
        (with_members("probe.fast_interval = \"600ms\""), "longer than `probe.interval`, which is 500ms"),
        (with_members("probe.ca_file = \"/nowhere\""), "cannot be read: No such file"),
        (with_members("read.hold_timeout = \"5s\""), "has no effect without `read.listen`"),
        (with_etcd("policy.lease_margin = \"11s\""), "little would be left of a lease"),
        (with_etcd("etcd.timeout = \"14s\""), "could not be confirmed before it ends"),
        (with_etcd("etcd.user = \"root\""), "has no password"),
        (with_etcd(&format!("etcd.password_file = {file:?}")), "etcd.user: is missing, though its password"),
        ("cluster.members = \"a:1,a:1\"\nprobe.user = \"m\"".to_owned(), "names a:1 twice"),
        ("cluster.members = \"127.0.0.1:5433\"\nprobe.user = \"m\"".to_owned(), "is the proxy itself"),
        (
            "cluster.members = \"a:1\"".to_owned(),
            "probe.user: is missing; set it in the file, by `--probe-user`",
        ),
    ];
    for (text, expected) in cases {
        let errors = dir.errors(&text);
        assert!(errors.contains(expected), "{text}\nsays: {errors}\nbut not: {expected}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let origins = Origins { file: Some(PathBuf::from("/nowhere.toml")), ..Origins::default() };
    let errors = Config::load(&origins).unwrap_err().to_string();
    assert!(
        errors.starts_with("/nowhere.toml: the configuration file cannot be read: No such file"),
        "{errors}"
    );
}

#[test]
fn the_words_of_other_programs_are_answered_wherever_they_stand() {
    let dir = ConfigDir::new();
    let words = "[probe]\nuser = \"m\"\nfastinter = \"1s\"\nrise = 2\n[write]\n\"timeout queue\" = \"5s\"\n[databases]\n";
    let told = dir.errors(words);
    for line in [
        "unknown key `probe.fastinter` (proxy.toml line 3): HAProxy's `fastinter` is `probe.fast_interval` here: ",
        "unknown key `probe.rise` (proxy.toml line 4): HAProxy's `rise` is not needed, because no checks are counted",
        "unknown key `write.timeout queue` (proxy.toml line 6): HAProxy's `timeout queue` is `write.hold_timeout` here",
        "unknown block `databases` (proxy.toml line 7): PgBouncer's `databases` is `cluster.members` here",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let told = typed(&[], &[("PGLP_SESSION_DEFAULT_POOL_SIZE", "20")]).unwrap_err().to_string();
    let expected = "unknown environment variable `PGLP_SESSION_DEFAULT_POOL_SIZE`: PgBouncer's `default_pool_size` has no \
                    counterpart: connections are not pooled";
    assert!(told.contains(expected), "{told}");
    let (code, _, err) = program(&["check", "--write-query-wait-timeout", "5s"]);
    assert_eq!(code, 64);
    assert!(err.contains("PgBouncer's `query-wait-timeout` is `write.hold_timeout` here"), "{err}");
}
