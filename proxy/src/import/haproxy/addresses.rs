//! The addresses of `bind` lines, and of `server` lines.

/// How many ports of a range are taken over.
const MAX_PORTS: u16 = 16;

/// The addresses of one `bind` line, as this proxy writes them, or why there are none.
pub(super) fn listening(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for one in text.split(',') {
        all.extend(ports(one)?);
    }
    Ok(all)
}

/// `*:5000`, `:5000`, `:::5000`, `[::]:5000`, `10.0.0.1:5000-5003`, with or without `ipv4@` before it.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let (ipv6, text) = match text.split_once('@') {
        Some(("ipv4", rest)) => (false, rest),
        Some(("ipv6", rest)) => (true, rest),
        Some((kind, _)) => return Err(format!("clients connect over TCP, and not by `{kind}@`")),
        None if text.starts_with('/') => {
            return Err("clients connect over TCP, and not on a Unix socket".to_owned());
        }
        None => (false, text),
    };
    let (host, range) = text.rsplit_once(':').ok_or("it has no port")?;
    let host = match (host, ipv6) {
        ("" | "*", false) => "0.0.0.0".to_owned(),
        ("" | "*", true) => "[::]".to_owned(),
        ("localhost", false) => "127.0.0.1".to_owned(),
        (host, _) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        (host, _) => host.to_owned(),
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port"));
    let (first, last) = (port(first)?, port(last)?);
    if last < first || last - first >= MAX_PORTS {
        return Err(format!("a range of more than {MAX_PORTS} ports"));
    }
    Ok((first..=last).map(|port| format!("{host}:{port}")).collect())
}

/// The address of a `server` line with its port. Without one, HAProxy takes the port that the client connected to.
pub(super) fn server(text: &str) -> Result<String, String> {
    let text = match text.split_once('@') {
        Some(("ipv4" | "ipv6", rest)) => rest,
        Some((kind, _)) => return Err(format!("members are reached over TCP, and not by `{kind}@`")),
        None => text,
    };
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.is_empty() => {
            let bare_ipv6 = host.contains(':') && !host.starts_with('[');
            Ok(if bare_ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
        }
        _ => Err("it has no port of its own".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_bind_is_understood() {
        let told = |text: &str| listening(text).unwrap().join(" ");
        assert_eq!(told("*:5000"), "0.0.0.0:5000");
        assert_eq!(told(":5000"), "0.0.0.0:5000");
        assert_eq!(told(":::5000"), "[::]:5000");
        assert_eq!(told("[::1]:5000"), "[::1]:5000");
        assert_eq!(told("ipv6@*:5000"), "[::]:5000");
        assert_eq!(told("10.0.0.1:5000,10.0.0.2:5000"), "10.0.0.1:5000 10.0.0.2:5000");
        assert_eq!(told("10.0.0.1:5000-5002"), "10.0.0.1:5000 10.0.0.1:5001 10.0.0.1:5002");
        for none in
            ["/run/pg.sock", "unix@/run/pg.sock", "abns@pg", "fd@3", "*", "*:pg", "*:1-60000", "*:9-1"]
        {
            assert!(listening(none).is_err(), "{none}");
        }
    }

    #[test]
    fn servers_have_a_port() {
        assert_eq!(server("pg1:5432").as_deref(), Ok("pg1:5432"));
        assert_eq!(server("fd00::1:5432").as_deref(), Ok("[fd00::1]:5432"));
        assert_eq!(server("ipv4@10.0.0.1:5432").as_deref(), Ok("10.0.0.1:5432"));
        for none in ["pg1", "pg1:", ":5432", "/run/pg.sock", "unix@/run/pg.sock"] {
            assert!(server(none).is_err(), "{none}");
        }
    }
}
