//! Parses values. An error says what a right value looks like.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;
use pg_leader_proxy_core::ServerAddr;

/// A length of time within bounds, such as `30s` or `250ms`.
///
/// # Errors
/// What is wrong with `text`, or which bound it breaks.
pub fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    if text != "0" && text.parse::<f64>().is_ok() {
        return Err(format!("a duration needs a unit, such as \"{text}s\" or \"{text}ms\""));
    }
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("not a duration ({error}); write it like \"30s\", \"250ms\" or \"1h\""))?;
    if duration < least {
        return Err(format!("too short; at least {}", show_duration(least)));
    }
    if duration > most {
        return Err(format!("too long; at most {}", show_duration(most)));
    }
    Ok(duration)
}

/// A duration as a setting would give it.
pub(crate) fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// A number of bytes. As in PostgreSQL, `kB`, `MB` and `GB` are powers of 1024, as `KiB`, `MiB` and `GiB` are.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "not a size; write it like \"16MiB\", \"64kB\" or, in bytes, \"1048576\"".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let power = match unit.trim() {
        "" | "B" => 0,
        "kB" | "KB" | "KiB" => 1,
        "MB" | "MiB" => 2,
        "GB" | "GiB" => 3,
        "TB" | "TiB" => 4,
        _ => return Err(wrong()),
    };
    number.checked_mul(1024_u64.pow(power)).ok_or_else(|| "too large".to_owned())
}

/// A whole number within bounds.
pub(super) fn count(text: &str, least: u64, most: u64) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(count) if (least..=most).contains(&count) => Ok(count),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// The position of a word among those that are allowed.
pub(super) fn choice(text: &str, words: &[&str]) -> Result<usize, String> {
    words.iter().position(|word| *word == text).ok_or_else(|| format!("must be {}", alternatives(words)))
}

/// `a`, `b` or `c`.
pub(super) fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// An address to listen on.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
    Err(match (text.strip_prefix("*:").or_else(|| text.strip_prefix(':')), port) {
        (Some(port), _) => format!(
            "write \"0.0.0.0:{port}\" for every IPv4 address of this machine, \"[::]:{port}\" for every IPv6 address"
        ),
        (None, Some(port)) => {
            format!(
                "not an address to listen on; write an IP address and a port, such as \"127.0.0.1:{port}\""
            )
        }
        (None, None) => {
            "not an address to listen on; write an IP address and a port, such as \"0.0.0.0:5433\"".to_owned()
        }
    })
}

/// A network in CIDR notation, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    let network: IpNet = match single.or_else(|_| text.parse()) {
        Ok(network) => network,
        Err(_) => {
            return Err(
                "not a network; write it like \"10.0.0.0/8\", \"fd00::/8\" or, for one address, \"10.0.0.1\""
                    .to_owned(),
            );
        }
    };
    if network.addr() != network.network() {
        return Err(format!("has bits behind its prefix; write \"{}\"", network.trunc()));
    }
    Ok(network)
}

/// A server's name or address, and its port.
pub(crate) fn server(text: &str) -> Result<ServerAddr, String> {
    let wrong =
        || "not a server; write its name or address and its port, such as \"10.0.0.1:5432\"".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare {
        Some(ipv6) if ipv6.contains(':') => Ok(ServerAddr::new(ipv6, port)),
        Some(_) => Err(wrong()),
        None if host.contains(':') => Err(format!("an IPv6 address stands in brackets: \"[{host}]:{port}\"")),
        None if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/@[]".contains(c)) => {
            Err(wrong())
        }
        None => Ok(ServerAddr::new(host, port)),
    }
}

/// The port of an etcd endpoint that names none, as in Patroni's configuration.
const ETCD_PORT: u16 = 2379;

/// An etcd endpoint with its port, without a slash at its end. Errors do not quote it, because it may carry a password.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("each endpoint is a URL, such as \"http://10.0.0.1:2379\"".to_owned());
    };
    if scheme != "http" && scheme != "https" {
        return Err("an endpoint begins with \"http://\" or \"https://\"".to_owned());
    }
    if rest.contains('@') {
        return Err(
            "an endpoint carries no user and password; use etcd.user and etcd.password_file".to_owned()
        );
    }
    let rest = rest.trim_end_matches('/');
    let wrong = || "an endpoint is a scheme, a host and a port, such as \"http://10.0.0.1:2379\"".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let authority = uri.authority().filter(|authority| authority.as_str() == rest).ok_or_else(wrong)?;
    let host = Some(authority.host()).filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    // Not from `authority`, to which a port that is too large is none.
    let port = match rest.strip_prefix(host).and_then(|after| after.strip_prefix(':')) {
        None => ETCD_PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?,
    };
    Ok(format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(text: &str) -> Result<Duration, String> {
        duration(text, Duration::from_millis(10), Duration::from_secs(60))
    }

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(brief("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(brief("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(brief("30"), Err("a duration needs a unit, such as \"30s\" or \"30ms\"".into()));
        assert_eq!(brief("1ms"), Err("too short; at least 10ms".into()));
        assert_eq!(brief("1h"), Err("too long; at most 1m".into()));
        assert!(brief("soon").unwrap_err().contains("write it like"));
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("16MB"), Ok(16 << 20));
        assert_eq!(size("64 kB"), Ok(64 << 10));
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert!(size("16 megabytes").is_err() && size("MiB").is_err() && size("99999999TiB").is_err());
    }

    #[test]
    fn listen_addresses_are_explained() {
        assert_eq!(listen("[::]:5433"), Ok("[::]:5433".parse().unwrap()));
        assert!(listen("*:5433").unwrap_err().contains("\"0.0.0.0:5433\""));
        assert!(listen(":5433").unwrap_err().contains("\"[::]:5433\""));
        assert!(listen("localhost:5433").unwrap_err().contains("\"127.0.0.1:5433\""));
        assert!(listen("5433").is_err());
    }

    #[test]
    fn networks_have_a_prefix_or_are_one_address() {
        for (text, shown) in [("10.0.0.0/8", "10.0.0.0/8"), ("10.0.0.1", "10.0.0.1/32"), ("::1", "::1/128")] {
            assert_eq!(network(text).map(|network| network.to_string()), Ok(shown.to_owned()));
        }
        assert_eq!(network("10.1.2.3/8"), Err("has bits behind its prefix; write \"10.0.0.0/8\"".to_owned()));
        for wrong in ["10.0.0.0/33", "10.0.0/8", "db-1", "", "10.0.0.0/255.0.0.0", "[::1]", "10.0.0.1:5432"] {
            assert!(network(wrong).unwrap_err().contains("write it like \"10.0.0.0/8\""), "{wrong}");
        }
    }

    #[test]
    fn servers_are_names_or_addresses() {
        assert_eq!(server("db-1:5432"), Ok(ServerAddr::new("db-1", 5432)));
        assert_eq!(server("[fd00::1]:5432"), Ok(ServerAddr::new("fd00::1", 5432)));
        assert!(server("fd00::1:5432").unwrap_err().contains("\"[fd00::1]:5432\""));
        for wrong in ["db-1", "db-1:0", ":5432", "db 1:5432", "postgres://db:5432", "[db]:5432"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn endpoints_are_urls_without_a_password() {
        assert_eq!(endpoint("http://a:2379/"), Ok("http://a:2379".into()));
        assert_eq!(endpoint("https://[::1]:2379"), Ok("https://[::1]:2379".into()));
        assert_eq!(
            endpoint("http://10.0.0.1"),
            Ok("http://10.0.0.1:2379".into()),
            "the port of etcd, not of HTTP"
        );
        assert_eq!(endpoint("https://[::1]/"), Ok("https://[::1]:2379".into()));
        let refusal = endpoint("http://root:hunter2@a:2379").unwrap_err();
        assert!(refusal.contains("etcd.password_file") && !refusal.contains("hunter2"));
        for wrong in ["a:2379", "tcp://a:2379", "http://", "http://a:2379/v3", "http://a:65536", "http://a:0"]
        {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_are_enumerated() {
        assert_eq!(choice("b", &["a", "b", "c"]), Ok(1));
        assert_eq!(choice("d", &["a", "b", "c"]), Err("must be \"a\", \"b\" or \"c\"".into()));
    }
}
