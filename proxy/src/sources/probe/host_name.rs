//! Whether a certificate was issued for a host, by libpq's rules for `verify-full`.

use std::net::IpAddr;

use openssl::nid::Nid;
use openssl::x509::X509Ref;

/// Whether one of the certificate's names is `host`, a name or an IP address.
///
/// The common name counts only without an alternative name of the same kind (`DNS` for a name, `IP` for an address). An
/// address may also stand as text in a `DNS` name, as it had to before PostgreSQL 15.
pub(super) fn is_for(certificate: &X509Ref, host: &str) -> bool {
    let ip: Option<IpAddr> = host.parse().ok();
    let mut common_name_counts = true;
    for name in certificate.subject_alt_names().iter().flatten() {
        if let Some(dns) = name.dnsname() {
            common_name_counts &= ip.is_some();
            if matches(dns, host) {
                return true;
            }
        } else if let Some(bytes) = name.ipaddress() {
            common_name_counts &= ip.is_none();
            if ip.is_some_and(|ip| is_address(ip, bytes)) {
                return true;
            }
        }
    }
    let mut common_names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    common_name_counts
        && common_names.next().is_some_and(|name| {
            std::str::from_utf8(name.data().as_slice()).is_ok_and(|name| matches(name, host))
        })
}

fn is_address(ip: IpAddr, bytes: &[u8]) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets() == bytes,
        IpAddr::V6(ip) => ip.octets() == bytes,
    }
}

/// A `*` stands for the whole first label of a host, and for nothing else.
fn matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, rest))) => {
            !label.is_empty() && !domain.is_empty() && domain == rest && host.parse::<IpAddr>().is_err()
        }
        _ => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::x509::extension::SubjectAlternativeName;
    use openssl::x509::{X509, X509NameBuilder};

    use super::*;

    /// A self-signed certificate with this common name and these alternative names, each `dns:` or `ip:` and the name.
    fn certificate(common_name: &str, alternatives: &[&str]) -> X509 {
        let key = PKey::generate_ed25519().unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_nid(Nid::COMMONNAME, common_name).unwrap();
        let mut names = SubjectAlternativeName::new();
        for name in alternatives {
            match name.split_once(':').unwrap() {
                ("dns", name) => names.dns(name),
                ("ip", name) => names.ip(name),
                _ => panic!("{name}"),
            };
        }
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&subject.build()).unwrap();
        builder.set_pubkey(&key).unwrap();
        if !alternatives.is_empty() {
            let extension = names.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(extension).unwrap();
        }
        builder.sign(&key, MessageDigest::null()).unwrap();
        builder.build()
    }

    #[test]
    fn an_alternative_name_of_the_same_kind_hides_the_common_name() {
        let plain = certificate("db.example", &[]);
        assert!(is_for(&plain, "DB.example") && !is_for(&plain, "other.example"));
        let both = certificate("db.example", &["dns:alt.example"]);
        assert!(is_for(&both, "alt.example") && !is_for(&both, "db.example"));
        let address = certificate("db.example", &["ip:10.0.0.1"]);
        assert!(is_for(&address, "db.example"), "an address is another kind of name");
        let by_common_name = certificate("10.0.0.1", &["dns:alt.example"]);
        assert!(is_for(&by_common_name, "10.0.0.1"));
        let by_both = certificate("10.0.0.1", &["ip:10.0.0.2"]);
        assert!(is_for(&by_both, "10.0.0.2") && !is_for(&by_both, "10.0.0.1"));
    }

    #[test]
    fn an_address_is_compared_as_an_address_or_as_text() {
        let addresses = certificate("x", &["ip:10.0.0.1", "ip:fd00::1", "dns:10.0.0.9"]);
        for host in ["10.0.0.1", "fd00::1", "fd00:0:0::1", "10.0.0.9"] {
            assert!(is_for(&addresses, host), "{host}");
        }
        assert!(!is_for(&addresses, "10.0.0.2") && !is_for(&addresses, "x1"));
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let wildcard = certificate("x", &["dns:*.db.example"]);
        assert!(is_for(&wildcard, "a.db.example") && is_for(&wildcard, "A.DB.EXAMPLE"));
        for host in ["db.example", "a.b.db.example", ".db.example", "*.example", "adb.example"] {
            assert!(!is_for(&wildcard, host), "{host}");
        }
        assert!(!is_for(&certificate("x", &["dns:*"]), "localhost"));
        assert!(!is_for(&certificate("*.0.0.1", &[]), "10.0.0.1"));
        assert!(!is_for(&certificate("a*.db.example", &[]), "ab.db.example"));
    }
}
