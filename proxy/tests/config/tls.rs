//! Certificates, keys and the modes of TLS: what cannot be used, what contradicts, and files that are replaced.

use std::fs;

use crate::{ConfigDir, with_etcd, with_members};

const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgndOBXL0+YqwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEHRQvKeeLVqz69XIqjPtz+MEQFll
XyI0nhkmvY4xzZ9pWO5BL3YyBIBgp8SB3gujGEvkq1MQX8AB5wGP4rtXfC72suUK
Vx74No6aLTW81MG8K/c=
-----END ENCRYPTED PRIVATE KEY-----
";

#[test]
fn what_cannot_be_used_is_named() {
    let dir = ConfigDir::new();
    let no_pem = dir.file("existing", "content");
    let (pem, other) = (dir.certificate("pem"), dir.certificate("other"));
    let encrypted = dir.file("encrypted", ENCRYPTED_KEY);
    let probe_pair = |cert: &str, key: &str| {
        with_members(&format!("probe.cert_file = {cert:?}\nprobe.key_file = {key:?}"))
    };
    let cases = [
        (with_members("probe.sslmode = \"verify-ca\""), "needs `probe.ca_file`"),
        (with_members(&format!("probe.ca_file = {pem:?}")), "has no effect unless `probe.sslmode`"),
        (with_members(&format!("probe.ca_file = {no_pem:?}")), "holds no certificate in PEM form"),
        (with_members(&format!("probe.cert_file = {pem:?}")), "probe.key_file: is missing, though"),
        (probe_pair(&pem, &other), "is not the certificate of this key"),
        (probe_pair(&pem, &no_pem), "holds no private key in PEM form"),
        (probe_pair(&pem, &encrypted), "holds an encrypted key"),
        (
            format!("{}probe.sslmode = \"disable\"", probe_pair(&pem, &pem)),
            "has no effect while `probe.sslmode` is \"disable\"",
        ),
        (with_members("probe.require_auth = \"scram\""), "\"scram\" is no method; each must be \"none\", "),
        (with_etcd(&format!("etcd.ca_file = {pem:?}")), "no endpoint begins with \"https://\""),
        (with_etcd("etcd.cert_file = \"/dev/null\""), "holds no certificate in PEM form"),
        (
            with_etcd(&format!("etcd.cert_file = {pem:?}")),
            "etcd.key_file: is missing, though `etcd.cert_file`",
        ),
        (with_etcd("etcd.key_file = \"/dev/null\""), "etcd.cert_file: is missing, though `etcd.key_file`"),
    ];
    for (text, expected) in cases {
        let errors = dir.errors(&text);
        assert!(errors.contains(expected), "{text}\nsays: {errors}\nbut not: {expected}");
        assert!(!errors.contains("PRIVATE KEY"), "{errors}");
    }
}

#[test]
fn a_reload_notices_files_that_were_replaced_at_the_same_path() {
    let dir = ConfigDir::new();
    let (ca, pair, password) =
        (dir.certificate("ca.pem"), dir.certificate("pair.pem"), dir.file("password", "one"));
    let files = format!(
        "probe.ca_file = {ca:?}\nprobe.password_file = {password:?}\nprobe.sslmode = \"verify-full\"\n\
         probe.cert_file = {pair:?}\nprobe.key_file = {pair:?}"
    );
    let before = dir.load(&with_members(&files)).unwrap().probe;
    assert_eq!(dir.load(&with_members(&files)).unwrap().probe, before);
    for file in ["ca.pem", "pair.pem", "password"] {
        let content = fs::read_to_string(dir.path(file)).unwrap();
        dir.certificate(file);
        assert_ne!(dir.load(&with_members(&files)).unwrap().probe, before, "{file}");
        dir.file(file, &content);
    }
}
