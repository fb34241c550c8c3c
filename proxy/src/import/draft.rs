//! What has been found so far: settings with the lines that they come from, and what is lost.

use std::collections::BTreeMap;

use super::{Carried, Imported, Kind, Lost, Missing};
use crate::config::{
    Answer, Config, Given, KEYS, Key, Origins, Program, Raw, Shape, beside, listen_address, server_address,
    word,
};

/// How many addresses one route takes over.
const MAX_ADDRESSES: usize = 64;
/// What an address that must be filled in is taken for while the rest is checked: port 1, which nobody else listens on.
const STAND_IN: &str = "127.0.0.1:1";

/// Which clients an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Route {
    Write,
    Read,
}

impl Route {
    pub(super) const fn listen(self) -> &'static str {
        match self {
            Self::Write => "write.listen",
            Self::Read => "read.listen",
        }
    }

    /// The key of this route where there is one for each: `read.hold_timeout` for `write.hold_timeout`.
    pub(super) fn own(self, key: &'static str) -> &'static str {
        match self {
            Self::Write => key,
            Self::Read => beside("read.any", key),
        }
    }
}

/// Where something stands in the source, and how it is quoted.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct Draft {
    program: Program,
    claims: BTreeMap<&'static str, Carried>,
    servers: Vec<(String, Place)>,
    lost: BTreeMap<(String, String), Vec<usize>>,
    /// Why `write.listen` is not known, if the source says something of it.
    write_unknown: Option<String>,
}

impl Draft {
    pub(super) const fn new(program: Program) -> Self {
        Self {
            program,
            claims: BTreeMap::new(),
            servers: Vec::new(),
            lost: BTreeMap::new(),
            write_unknown: None,
        }
    }

    /// `what`, at `line`, is lost: `why` ends a sentence that begins with it.
    pub(super) fn lose(&mut self, line: usize, what: impl Into<String>, why: impl Into<String>) {
        let lines = self.lost.entry((what.into(), why.into())).or_default();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }

    /// `what`, at `line`, is lost for the reason that the table of words has for `spelling`.
    pub(super) fn lose_word(&mut self, line: usize, what: &str, spelling: &str) {
        let why = self.why(spelling).unwrap_or_else(|| "has no counterpart".to_owned());
        self.lose(line, what, why);
    }

    /// What the table of words says of `spelling`, or of what it begins with.
    pub(super) fn why(&self, spelling: &str) -> Option<String> {
        let first = spelling.split(' ').next().unwrap_or_default();
        let family = first.split(['-', '.']).next().unwrap_or_default();
        let found = [spelling, first, family].into_iter().find_map(|spelling| word(self.program, spelling));
        found.map(|word| word.explain(spelling))
    }

    /// The key that `spelling` is here.
    pub(super) fn key_of(&self, spelling: &str) -> Option<&'static str> {
        match word(self.program, spelling)?.answer {
            Answer::Key(path, _) => Some(path),
            Answer::NotNeeded(_) | Answer::Absent(_) => None,
        }
    }

    /// The key at `path` has this value, unless it has another already.
    pub(super) fn claim(&mut self, path: &'static str, value: &str, what: &str, place: Place) {
        match self.claims.get_mut(path) {
            None => {
                let raw = Raw::Text(value.to_owned());
                let origins = vec![(place.line, place.text)];
                self.claims.insert(path, Carried { path, raw, origins });
            }
            Some(known) if known.raw.to_string() == value => push(&mut known.origins, place),
            Some(known) => {
                let line = known.origins.first().map_or(0, |(line, _)| *line);
                let why = format!(
                    "is not carried over: `{path}` has the value of line {line}, and there is only one"
                );
                self.lose(place.line, what, why);
            }
        }
    }

    /// A route listens there too.
    pub(super) fn listen(&mut self, route: Route, address: &str, what: &str, place: Place) {
        if let Err(problem) = listen_address(address) {
            return self.lose(place.line, what, format!("is not carried over: {problem}"));
        }
        let path = route.listen();
        let claim = self.claims.entry(path).or_insert_with(|| Carried {
            path,
            raw: Raw::List(Vec::new()),
            origins: Vec::new(),
        });
        let Raw::List(addresses) = &mut claim.raw else { return };
        if addresses.len() >= MAX_ADDRESSES {
            let why = format!("is not carried over: `{path}` has {MAX_ADDRESSES} addresses already");
            return self.lose(place.line, what, why);
        }
        if !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
        push(&mut claim.origins, place);
    }

    /// A server of the cluster, for those who follow it without etcd.
    pub(super) fn server(&mut self, address: &str, what: &str, place: Place) {
        match server_address(address) {
            Ok(_) => self.servers.push((address.to_owned(), place)),
            Err(problem) => self.lose(place.line, what, format!("is not carried over: {problem}")),
        }
    }

    /// The addresses of the write route cannot be known, for this reason.
    pub(super) fn write_unknown(&mut self, why: String) {
        self.write_unknown.get_or_insert(why);
    }

    /// What came of all that. Each value is carried over only if the configuration is valid with it.
    pub(super) fn finish(mut self, kind: Kind) -> Imported {
        let mut claims = std::mem::take(&mut self.claims);
        let mut carried: Vec<Carried> = Vec::new();
        // Routes first: what else is said of one has no effect without its addresses.
        let (listen, others): (Vec<&Key>, Vec<&Key>) = KEYS.iter().partition(|key| key.name() == "listen");
        for key in listen.into_iter().chain(others) {
            let Some(claim) = claims.remove(key.path) else { continue };
            carried.push(claim);
            if let Err(problem) = check(&carried)
                && let Some(Carried { path, raw, origins }) = carried.pop()
            {
                for (line, what) in origins {
                    self.lose(line, what, format!("is not carried over as `{path} = {raw}`: {problem}"));
                }
            }
        }
        carried.sort_by_key(|claim| KEYS.iter().position(|key| key.path == claim.path));
        let missing = self.missing(&carried);
        let mut lost: Vec<Lost> = std::mem::take(&mut self.lost)
            .into_iter()
            .map(|((what, why), mut lines)| {
                lines.sort_unstable();
                Lost { lines, what, why }
            })
            .collect();
        lost.sort_by(|one, other| one.lines.cmp(&other.lines));
        Imported { kind, carried, missing, servers: self.servers(), lost }
    }

    fn missing(&mut self, carried: &[Carried]) -> Vec<Missing> {
        let program = self.program.name();
        let mut missing = vec![
            Missing {
                path: "cluster.scope",
                what: "`scope` in Patroni's configuration (`patronictl list` shows it as the cluster's name)"
                    .to_owned(),
            },
            Missing {
                path: "etcd.endpoints",
                what: "the etcd servers that Patroni uses, such as \"http://10.0.0.1:2379\"".to_owned(),
            },
            Missing {
                path: "probe.user",
                what: format!("the monitoring user, which {program} does without"),
            },
        ];
        if !carried.iter().any(|claim| claim.path == "write.listen") {
            let why = self.write_unknown.take();
            let what = why.unwrap_or_else(|| format!("where {program} listened for clients that write"));
            missing.push(Missing { path: "write.listen", what });
        }
        missing
    }

    fn servers(&self) -> Option<Carried> {
        let mut servers =
            Carried { path: "cluster.members", raw: Raw::List(Vec::new()), origins: Vec::new() };
        let mut addresses: Vec<String> = Vec::new();
        for (address, place) in &self.servers {
            if !addresses.contains(address) && addresses.len() < MAX_ADDRESSES {
                addresses.push(address.clone());
            }
            push(&mut servers.origins, place.clone());
        }
        servers.raw = Raw::List(addresses);
        (!self.servers.is_empty()).then_some(servers)
    }
}

fn push(origins: &mut Vec<(usize, String)>, place: Place) {
    let origin = (place.line, place.text);
    if !origins.contains(&origin) {
        origins.push(origin);
    }
}

/// Whether these settings are valid together, once what is missing is filled in.
fn check(carried: &[Carried]) -> Result<(), String> {
    let given = |path: &str, raw| Given { path: path.to_owned(), raw };
    let text = |text: &str| Raw::Text(text.to_owned());
    let mut all = vec![
        given("cluster.scope", text("main")),
        given("etcd.endpoints", text("http://127.0.0.1:2379")),
        given("probe.user", text("monitor")),
    ];
    // If it is carried over, the last one counts.
    all.push(given("write.listen", text(STAND_IN)));
    all.extend(carried.iter().map(|claim| given(claim.path, claim.raw.clone())));
    let Err(errors) = Config::load(&Origins { given: all, ..Origins::default() }) else { return Ok(()) };
    let last = carried.last().map_or("", |claim| claim.path);
    let told: Vec<String> = errors
        .iter()
        .take(1)
        .map(|error| match error.subject == last {
            true => error.problem.clone(),
            false => format!("`{}` {}", error.subject, error.problem),
        })
        .collect();
    Err(told.join("; "))
}

/// How a value is written in the file.
pub(super) fn is_bare(path: &str) -> bool {
    let shape = Key::find(path).map(|key| key.kind.shape());
    matches!(shape, Some(Shape::Number | Shape::Boolean))
}
