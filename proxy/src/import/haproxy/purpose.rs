//! What a listener of HAProxy is for, by what its checks ask: the leader, replicas, or something else than PostgreSQL.

use super::super::draft::Route;
use super::sections::{Line, Section};

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// HAProxy's own page.
    Stats,
    /// HTTP.
    Http,
    /// PostgreSQL, to the servers that pass this check.
    Postgres(Check),
    /// A check of Patroni's that nothing here is like, by its word in the table of words.
    Unlike(&'static str),
    /// TCP, and nothing says to which servers.
    Unknown,
}

/// Which servers a check picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) route: Route,
    /// How that is known.
    pub(super) known_by: String,
    /// The line of the check, if there is one.
    pub(super) line: Option<usize>,
    /// What stands behind the `?` of Patroni's path.
    pub(super) query: Option<String>,
    /// Whether the leader takes readers as well.
    pub(super) leader_too: bool,
    /// The word of a check that picks some replicas only.
    pub(super) only_some: Option<&'static str>,
}

/// What a listener is for. `lines` are its own, those of its backends and of its defaults, nearest first.
pub(super) fn of(listener: &Section, lines: &[&Line]) -> Purpose {
    let named = |name: &str| lines.iter().find(|line| line.name() == name);
    if listener.lines.iter().any(|line| line.word(0) == "stats") {
        return Purpose::Stats;
    }
    if named("mode").is_some_and(|line| line.word(1) == "http") {
        return Purpose::Http;
    }
    let sent = lines.iter().find(|line| line.name() == "http-check send").and_then(|line| {
        let at = line.rest(0).iter().position(|word| word.text == "uri")?;
        Some((line.number, line.word(at + 1).to_owned()))
    });
    let asked = named("option httpchk").map(|line| {
        let uri = match line.arguments() {
            [] => "/",
            [uri] => &uri.text,
            [_, uri, ..] => &uri.text,
        };
        (line.number, uri.to_owned())
    });
    if let Some((line, uri)) = sent.or(asked) {
        let path = uri.split('?').next().unwrap_or_default();
        // The bare check asks a script of one's own as often as it asks Patroni, and those say it in what they answer.
        let plain = path == "/" && expected(lines).is_some();
        if let Some(purpose) = (!plain).then(|| patroni(line, &uri)).flatten() {
            return purpose;
        }
    }
    if let Some((line, route)) = expected(lines) {
        return postgres(route, "what its check expects", Some(line));
    }
    match by_name(&listener.name) {
        Some(route) => postgres(route, "its name", None),
        None => Purpose::Unknown,
    }
}

fn postgres(route: Route, known_by: &str, line: Option<usize>) -> Purpose {
    let known_by = known_by.to_owned();
    Purpose::Postgres(Check { route, known_by, line, query: None, leader_too: false, only_some: None })
}

/// A path of Patroni's REST interface (Patroni's documentation, "Health check endpoints").
fn patroni(line: usize, uri: &str) -> Option<Purpose> {
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let (route, leader_too, only_some) = match path {
        "/" | "/master" | "/primary" | "/leader" | "/read-write" => (Route::Write, false, None),
        "/replica" => (Route::Read, false, None),
        "/read-only" => (Route::Read, true, None),
        "/sync" | "/synchronous" => (Route::Read, false, Some("/sync")),
        "/async" | "/asynchronous" => (Route::Read, false, Some("/async")),
        "/quorum" => (Route::Read, false, Some("/quorum")),
        "/read-only-sync" | "/read-only-synchronous" => (Route::Read, true, Some("/sync")),
        "/read-only-quorum" => (Route::Read, true, Some("/quorum")),
        "/standby-leader" | "/standby_leader" => {
            return Some(Purpose::Unlike("/standby-leader"));
        }
        _ => return None,
    };
    let known_by = format!("its check of {path}");
    let query = query.map(str::to_owned);
    Some(Purpose::Postgres(Check { route, known_by, line: Some(line), query, leader_too, only_some }))
}

/// What a script of one's own must answer: `tcp-check expect string master\ is\ running`.
fn expected(lines: &[&Line]) -> Option<(usize, Route)> {
    let expects = |line: &&&Line| {
        ["tcp-check", "http-check"].contains(&line.word(0))
            && line.word(1) == "expect"
            && ["string", "rstring"].contains(&line.word(2))
    };
    let line = lines.iter().find(expects)?;
    Some((line.number, by_name(line.word(3))?))
}

/// The route that a name speaks of.
fn by_name(name: &str) -> Option<Route> {
    const WRITE: [&str; 9] =
        ["write", "writer", "rw", "master", "primary", "leader", "readwrite", "pgreadwrite", "main"];
    const READ: [&str; 14] = [
        "read",
        "reader",
        "ro",
        "replica",
        "replicas",
        "standby",
        "standbys",
        "slave",
        "slaves",
        "readonly",
        "pgreadonly",
        "secondary",
        "reads",
        "readers",
    ];
    let name = name.to_lowercase();
    let has =
        |words: &[&str]| name.split(|c: char| !c.is_ascii_alphabetic()).any(|part| words.contains(&part));
    match (has(&WRITE), has(&READ)) {
        // `read_write`
        (true, _) => Some(Route::Write),
        (false, true) => Some(Route::Read),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_route() {
        assert_eq!(by_name("haproxy_5433_rw_rw"), Some(Route::Write));
        assert_eq!(by_name("postgres-read-write"), Some(Route::Write));
        assert_eq!(by_name("Postgres_READ"), Some(Route::Read));
        assert_eq!(by_name("proletarian"), None);
    }
}
