//! The listeners of haproxy.cfg: `listen`, and `frontend` with its backends.

use std::collections::BTreeSet;

use super::super::draft::{Place, Route};
use super::purpose::{self, Check, Purpose};
use super::sections::{Line, Section};
use super::{File, addresses, parameter_key, parameters, unknown_variable};

/// A listener with what belongs to it, by their places in the list of sections.
struct Listener<'a> {
    index: usize,
    section: &'a Section,
    backends: Vec<usize>,
    purpose: Purpose,
}

impl<'a> File<'a> {
    /// Finds out what each listener is for, and takes over those for PostgreSQL and HAProxy's own page.
    pub(super) fn listeners(&mut self) {
        let sections = self.sections;
        let found = |(index, section): (usize, &'a Section)| match section.keyword.as_str() {
            "listen" | "frontend" => Some(self.listener(index, section)),
            _ => None,
        };
        let mut listeners: Vec<Listener<'a>> = sections.iter().enumerate().filter_map(found).collect();
        the_only_one(&mut listeners);
        let fallback = all_take_the_leader(&listeners);
        let mut hosts = BTreeSet::new();
        for listener in &listeners {
            match &listener.purpose {
                Purpose::Postgres(check) if self.is_same_cluster(listener, &mut hosts) => {
                    self.postgres(listener, check, fallback);
                }
                Purpose::Postgres(_) => self.lose_section(
                    listener,
                    "is not carried over: its servers are not those of the listeners before it. One process follows one \
                     cluster: import it from a file of its own",
                ),
                Purpose::Unlike(word) => {
                    let why = self.draft.why(word).unwrap_or_default();
                    self.lose_section(listener, &why);
                }
                Purpose::Stats => self.stats(listener),
                Purpose::Http => {
                    self.lose_section(listener, "is not carried over: `mode http` is not PostgreSQL");
                }
                Purpose::Unknown => self.lose_section(
                    listener,
                    "is not carried over: neither its check nor its name says whether it is for writers or for readers. If \
                     it is for PostgreSQL, add its address to `write.listen` or `read.listen`",
                ),
            }
        }
    }

    fn listener(&self, index: usize, section: &'a Section) -> Listener<'a> {
        let is_named = |name: &str| {
            self.sections.iter().position(|section| section.keyword == "backend" && section.name == name)
        };
        let named =
            section.lines.iter().filter(|line| ["default_backend", "use_backend"].contains(&line.word(0)));
        let backends: Vec<usize> = named.filter_map(|line| is_named(line.word(1))).collect();
        let own = std::iter::once(section).chain(backends.iter().map(|index| &self.sections[*index]));
        let inherited = own.clone().filter_map(|section| section.defaults).map(|index| &self.sections[index]);
        let lines: Vec<&Line> = own.chain(inherited).flat_map(|section| &section.lines).collect();
        Listener { index, section, purpose: purpose::of(section, &lines), backends }
    }

    fn lose_section(&mut self, listener: &Listener<'a>, why: &str) {
        for section in self.parts(listener) {
            self.draft.lose(section.number, section.title(), why);
        }
        self.used.insert(listener.index);
        self.used.extend(&listener.backends);
    }

    /// Whether the servers are those of the listeners before, as far as both name any.
    fn is_same_cluster(&self, listener: &Listener<'a>, known: &mut BTreeSet<String>) -> bool {
        let own = self.parts(listener).into_iter().flat_map(|section| section.all("server"));
        let hosts: BTreeSet<String> = own
            .map(|line| {
                line.word(2).rsplit_once(':').map_or_else(|| line.word(2), |(host, _)| host).to_owned()
            })
            .collect();
        let same = known.is_empty() || hosts.is_empty() || !known.is_disjoint(&hosts);
        if same {
            known.extend(hosts);
        }
        same
    }

    /// The listener itself and its backends.
    fn parts(&self, listener: &Listener<'a>) -> Vec<&'a Section> {
        let backends = listener.backends.iter().map(|index| &self.sections[*index]);
        std::iter::once(listener.section).chain(backends).collect()
    }

    fn postgres(&mut self, listener: &Listener<'a>, check: &Check, fallback: bool) {
        let route = check.route;
        for section in self.parts(listener) {
            for line in &section.lines {
                match line.word(0) {
                    "bind" => self.bind(line, listener.section, check),
                    "server" | "server-template" => self.server(line, route),
                    "default-server" => self.parameters(line, 1, route),
                    // One of the process is; one of a listener is not.
                    "maxconn" => self.draft.lose(
                        line.number,
                        "maxconn",
                        "is not carried over: `session.max_sessions` counts both routes together",
                    ),
                    _ => self.directive(line, &[route]),
                }
            }
            self.routes.push((route, section.defaults));
        }
        self.check(check, fallback);
        self.used.insert(listener.index);
        self.used.extend(&listener.backends);
    }

    /// What a check says beyond the route.
    fn check(&mut self, check: &Check, fallback: bool) {
        let Some(line) = check.line else { return };
        if check.leader_too {
            let place = Place { line, text: "the check takes the leader as well".to_owned() };
            match fallback {
                true => self.draft.claim("read.fallback", "leader", "/read-only", place),
                false => self.draft.lose_word(line, "/read-only", "/read-only"),
            }
        }
        if let Some(word) = check.only_some {
            self.draft.lose_word(line, word, word);
        }
        for part in check.query.iter().flat_map(|query| query.split('&')) {
            match part.split_once('=') {
                Some(("lag", lag)) if check.route == Route::Read => {
                    let place = Place { line, text: format!("lag={lag}") };
                    self.draft.claim("read.max_lag", lag, "/replica?lag", place);
                }
                Some(("replication_state", _)) => {
                    self.draft.lose(
                        line,
                        "replication_state",
                        "is not needed, because only replicas that stream take readers",
                    );
                }
                _ => self.draft.lose_word(line, "/replica?tag", "/replica?tag"),
            }
        }
    }

    fn bind(&mut self, line: &Line, section: &Section, check: &Check) {
        let Some(address) = line.rest(1).first() else { return };
        let place = Place {
            line: line.number,
            text: format!("bind {} in `{}`, by {}", address.text, section.title(), check.known_by),
        };
        let found = match &address.variable {
            Some(variable) => Err(unknown_variable(variable)),
            None => addresses::listening(&address.text)
                .map_err(|problem| format!("is not carried over: {problem}")),
        };
        match found {
            Ok(addresses) => {
                for address in addresses {
                    self.draft.listen(check.route, &address, "bind", place.clone());
                }
            }
            Err(why) => {
                self.draft.lose(line.number, "bind", why);
                if check.route == Route::Write {
                    self.draft.write_unknown(format!("the address of line {}: {}", line.number, place.text));
                }
            }
        }
        for parameter in parameters::split(line.rest(2)) {
            match (parameter.name, parameter_key(parameter.name)) {
                ("tcp-ut", Some(path)) => self.value(path, "bind tcp-ut", parameter.value, line.place()),
                (name, _) => self.draft.lose_word(line.number, &format!("bind … {name}"), name),
            }
        }
    }

    fn server(&mut self, line: &Line, route: Route) {
        let template = line.word(0) == "server-template";
        let at = if template { 3 } else { 2 };
        let place = Place { line: line.number, text: format!("{} {}", line.word(0), line.word(1)) };
        match line.rest(at).first() {
            Some(address) if address.variable.is_some() => {
                let variable = address.variable.clone().unwrap_or_default();
                self.draft.lose(line.number, line.word(0), unknown_variable(&variable));
            }
            Some(address) => match addresses::server(&address.text) {
                Ok(address) => self.draft.server(&address, line.word(0), place),
                Err(problem) => {
                    self.draft.lose(line.number, line.word(0), format!("is not carried over: {problem}"));
                }
            },
            None => self.draft.lose(line.number, line.word(0), "is not carried over: it has no address"),
        }
        self.draft.lose_word(line.number, line.word(0), line.word(0));
        self.parameters(line, at + 1, route);
    }

    /// The parameters of a `server` or `default-server` line.
    fn parameters(&mut self, line: &Line, from: usize, route: Route) {
        for parameter in parameters::split(line.rest(from)) {
            let what = format!("{} … {}", line.word(0), parameter.name);
            match (parameter.name, parameter_key(parameter.name)) {
                // What bounds the process is not what bounds a server.
                ("maxconn", _) => self.draft.lose_word(line.number, &what, "server maxconn"),
                (_, Some(path)) => {
                    let text =
                        format!("{} {}", parameter.name, parameter.value.map_or("", |word| &word.text));
                    let place = Place { line: line.number, text };
                    self.value(route.own(path), &what, parameter.value, place);
                }
                (name, None) => self.draft.lose_word(line.number, &what, name),
            }
        }
    }

    /// HAProxy's page becomes the admin address, unless it asked for a password.
    fn stats(&mut self, listener: &Listener<'_>) {
        let section = listener.section;
        let locks = |line: &&Line| {
            ["stats auth", "stats http-request", "http-request"].contains(&line.name().as_str())
        };
        let locked = section.lines.iter().find(locks).map(|line| line.number);
        for line in &section.lines {
            match (line.word(0), locked) {
                ("bind", None) => self.admin(line, section),
                ("bind", Some(locked)) => self.draft.lose(
                    line.number,
                    "bind",
                    format!(
                        "is not carried over: the page behind it asks for a password (line {locked}), and `admin.listen` has \
                         none. Choose an address that operators alone can reach"
                    ),
                ),
                ("mode", _) => {}
                _ => self.draft.lose_word(line.number, &line.name(), &line.name()),
            }
        }
        self.used.insert(listener.index);
        self.used.extend(&listener.backends);
    }

    fn admin(&mut self, line: &Line, section: &Section) {
        let Some(address) = line.rest(1).first() else { return };
        let place =
            Place { line: line.number, text: format!("bind {} in `{}`", address.text, section.title()) };
        match (&address.variable, addresses::listening(&address.text).as_deref()) {
            (Some(variable), _) => self.draft.lose(line.number, "bind", unknown_variable(variable)),
            (None, Ok([address, ..])) => self.draft.claim("admin.listen", address, "bind", place),
            (None, Ok([])) => {}
            (None, Err(problem)) => {
                self.draft.lose(line.number, "bind", format!("is not carried over: {problem}"));
            }
        }
    }
}

/// Where there is no listener for writers and only one of unknown purpose, this is the one.
fn the_only_one(listeners: &mut [Listener<'_>]) {
    let writes = |listener: &Listener<'_>| matches!(&listener.purpose, Purpose::Postgres(check) if check.route == Route::Write);
    if listeners.iter().any(writes) {
        return;
    }
    let mut unknown: Vec<&mut Listener<'_>> =
        listeners.iter_mut().filter(|listener| listener.purpose == Purpose::Unknown).collect();
    if let [one] = unknown.as_mut_slice() {
        one.purpose = Purpose::Postgres(Check {
            route: Route::Write,
            known_by: "being the only listener that can be for writers: look whether it is".to_owned(),
            line: None,
            query: None,
            leader_too: false,
            only_some: None,
        });
    }
}

/// Whether the leader takes readers on every listener for readers; there is one setting for all of them.
fn all_take_the_leader(listeners: &[Listener<'_>]) -> bool {
    listeners.iter().all(|listener| match &listener.purpose {
        Purpose::Postgres(check) => check.route == Route::Write || check.leader_too,
        Purpose::Stats | Purpose::Http | Purpose::Unlike(_) | Purpose::Unknown => true,
    })
}
