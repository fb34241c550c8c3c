//! pgbouncer.ini: what of it routes. Its format is PgBouncer's own dialect of INI, and the lines matter, which no library
//! for INI tells.

use std::collections::BTreeSet;

use super::ImportError;
use super::draft::{Draft, Place, Route};
use super::units;
use crate::config::{Key, Kind, Program, Shape};

/// PgBouncer's own port.
const PORT: &str = "6432";

/// One line that says something.
struct Entry<'a> {
    line: usize,
    section: &'a str,
    key: &'a str,
    value: &'a str,
}

/// Reads all of a file.
pub(super) fn read(text: &str) -> Result<Draft, ImportError> {
    let mut draft = Draft::new(Program::Pgbouncer);
    let entries = entries(text, &mut draft)?;
    listen(&mut draft, &entries);
    let mut hosts = BTreeSet::new();
    for entry in &entries {
        match entry.section {
            "databases" => database(&mut draft, entry, &mut hosts),
            "pgbouncer" => setting(&mut draft, entry),
            section => draft.lose_word(entry.line, &format!("[{section}] {}", entry.key), section),
        }
    }
    Ok(draft)
}

fn entries<'a>(text: &'a str, draft: &mut Draft) -> Result<Vec<Entry<'a>>, ImportError> {
    let (mut entries, mut section) = (Vec::new(), "");
    for (index, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), index + 1);
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if line.starts_with("%include") {
            draft.lose_word(number, "%include", "%include");
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else {
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| ImportError::at(number, "neither a section nor `key = value`"))?;
            entries.push(Entry { line: number, section, key: key.trim(), value: value.trim() });
        }
    }
    match section.is_empty() {
        true => Err(ImportError::Syntax {
            line: None,
            problem: "there is no section such as `[databases]`: not a pgbouncer.ini".to_owned(),
        }),
        false => Ok(entries),
    }
}

/// `listen_addr` and `listen_port` make addresses together. Without `listen_addr` PgBouncer has its Unix socket alone.
fn listen(draft: &mut Draft, entries: &[Entry<'_>]) {
    let find = |key: &str| {
        entries.iter().rfind(|entry| entry.section == "pgbouncer" && entry.key.eq_ignore_ascii_case(key))
    };
    let port = find("listen_port");
    let Some(entry) = find("listen_addr") else { return };
    let number = port.map_or(PORT, |port| port.value);
    let mut text = format!("listen_addr = {}", entry.value);
    if let Some(port) = port {
        text.push_str(&format!(", and line {}: listen_port = {}", port.line, port.value));
    }
    for address in entry.value.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        let addresses = match address {
            "*" => vec![format!("0.0.0.0:{number}"), format!("[::]:{number}")],
            "localhost" => vec![format!("127.0.0.1:{number}")],
            ipv6 if ipv6.contains(':') => vec![format!("[{ipv6}]:{number}")],
            host => vec![format!("{host}:{number}")],
        };
        for address in addresses {
            let place = Place { line: entry.line, text: text.clone() };
            draft.listen(Route::Write, &address, "listen_addr", place);
        }
    }
}

fn setting(draft: &mut Draft, entry: &Entry<'_>) {
    let key = entry.key.to_lowercase();
    if key == "listen_addr" || key == "listen_port" {
        return;
    }
    let place = Place { line: entry.line, text: format!("{key} = {}", entry.value) };
    let value = match draft.key_of(&key) {
        Some(path) => converted(path, &key, entry.value).map(|value| (path, value)),
        None => None,
    };
    match value {
        Some((path, value)) => draft.claim(path, &value, &key, place),
        None => draft.lose_word(entry.line, &key, &key),
    }
}

/// The value as the key at `path` wants it; none where there is nothing to carry over.
fn converted(path: &str, key: &str, value: &str) -> Option<String> {
    let kind = Key::find(path)?.kind;
    match kind.shape() {
        Shape::Number => value.parse::<u64>().ok().map(|number| number.to_string()),
        Shape::Boolean => ["1", "on", "yes", "true"].contains(&value).then(|| "true".to_owned()),
        Shape::Text | Shape::List | Shape::Map if !matches!(kind, Kind::Duration(..)) => None,
        // The one length of time that is in milliseconds.
        Shape::Text | Shape::List | Shape::Map if key == "tcp_user_timeout" => units::milliseconds(value),
        Shape::Text | Shape::List | Shape::Map => units::seconds(value),
    }
}

/// `shop = host=10.0.0.1 port=5432 dbname=shop pool_size=20`: its server, and everything else by the names alone, because
/// a value can be a password.
fn database(draft: &mut Draft, entry: &Entry<'_>, hosts: &mut BTreeSet<String>) {
    let what = |key: &str| format!("[databases] {} … {key}", entry.key);
    let pairs = pairs(entry.value);
    let find = |key: &str| pairs.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
    let port = find("port").unwrap_or("5432");
    for host in find("host").unwrap_or_default().split(',').map(str::trim).filter(|host| !host.is_empty()) {
        if host.starts_with('/') {
            draft.lose(entry.line, what("host"), "is not carried over: members are reached over TCP");
            continue;
        }
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let place = Place { line: entry.line, text: format!("[databases] {}", entry.key) };
        draft.server(&address, &what("host"), place);
        hosts.insert(host.to_owned());
    }
    draft.lose_word(entry.line, &format!("[databases] {}", entry.key), "databases");
    for (key, value) in &pairs {
        match key.as_str() {
            "host" | "port" => {}
            // Clients name the database by its own name already.
            "dbname" if value == entry.key => {}
            key => draft.lose_word(entry.line, &what(key), key),
        }
    }
}

/// The pairs of a connection string: `key=value key='a value'`, a quote inside quotes doubled.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace() || *c == '=').is_some() {}
        if key.is_empty() {
            return pairs;
        }
        let mut value = String::new();
        if chars.next_if_eq(&'\'').is_some() {
            while let Some(c) = chars.next() {
                if c == '\'' && chars.next_if_eq(&'\'').is_none() {
                    break;
                }
                value.push(c);
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                value.push(c);
            }
        }
        pairs.push((key.to_lowercase(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_read() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            pairs("host=a port = 5432  password='it''s = secret' dbname=x"),
            [pair("host", "a"), pair("port", "5432"), pair("password", "it's = secret"), pair("dbname", "x")]
        );
        assert_eq!(pairs("  "), []);
        assert_eq!(pairs("a='open"), [pair("a", "open")]);
    }
}
