//! haproxy.cfg: which of its listeners are for PostgreSQL, and what their directives become.

mod addresses;
mod listener;
mod parameters;
mod purpose;
mod sections;
mod words;

use std::collections::BTreeSet;

use super::ImportError;
use super::draft::{Draft, Place, Route};
use super::units;
use crate::config::{Answer, Key, Kind, Program, Shape, word};
use sections::{Line, Section};

/// Reads all of a file.
pub(super) fn read(text: &str) -> Result<Draft, ImportError> {
    let (sections, stray) = sections::read(text)?;
    let mut draft = Draft::new(Program::Haproxy);
    for line in &stray {
        draft.lose(line.number, line.word(0), "is a condition or a template, and is not evaluated");
    }
    let mut file = File { sections: &sections, draft, routes: Vec::new(), used: BTreeSet::new() };
    file.listeners();
    file.shared();
    Ok(file.draft)
}

/// A file, while it is read.
struct File<'a> {
    sections: &'a [Section],
    draft: Draft,
    /// The routes that were found, with the `defaults` of each listener.
    routes: Vec<(Route, Option<usize>)>,
    /// The sections that have been read, by their place in the list.
    used: BTreeSet<usize>,
}

impl File<'_> {
    /// `global`, `defaults`, and whatever no listener used.
    fn shared(&mut self) {
        for (index, section) in self.sections.iter().enumerate() {
            match section.keyword.as_str() {
                "global" => section.lines.iter().for_each(|line| self.directive(line, &[])),
                "defaults" => self.defaults(index, section),
                _ if self.used.contains(&index) => {}
                "backend" => self.draft.lose(
                    section.number,
                    section.title(),
                    "is not carried over: no listener for PostgreSQL uses it",
                ),
                keyword => self.draft.lose_word(section.number, &section.title(), keyword),
            }
        }
    }

    /// What stands in `defaults` holds for every route that inherits it and says nothing else.
    fn defaults(&mut self, index: usize, section: &Section) {
        let routes: BTreeSet<Route> = self
            .routes
            .iter()
            .filter(|(_, defaults)| *defaults == Some(index))
            .map(|(route, _)| *route)
            .collect();
        let routes: Vec<Route> = routes.into_iter().collect();
        for line in &section.lines {
            self.directive(line, &routes);
        }
    }

    /// A directive that means the same wherever it stands, for these routes.
    fn directive(&mut self, line: &Line, routes: &[Route]) {
        let name = line.name();
        let argument = line.arguments().first();
        match self.draft.key_of(&name) {
            // The path of HAProxy's own socket, its page, and what a server is: none of them is a value of ours.
            Some("control.socket" | "admin.listen" | "cluster.members") | None => {
                self.draft.lose_word(line.number, &name, &name);
            }
            Some(path) => {
                let routes = if routes.is_empty() { &[Route::Write][..] } else { routes };
                let paths: BTreeSet<&'static str> = routes.iter().map(|route| route.own(path)).collect();
                for path in paths {
                    self.value(path, &name, argument, line.place());
                }
            }
        }
    }

    /// Takes over the value of a directive or a parameter, converted to what the key wants.
    fn value(&mut self, path: &'static str, name: &str, value: Option<&words::Word>, place: Place) {
        if let Some(variable) = value.and_then(|value| value.variable.as_ref()) {
            return self.draft.lose(place.line, name, unknown_variable(variable));
        }
        let text = value.map_or("", |value| &value.text);
        match converted(path, text) {
            Some(value) => self.draft.claim(path, &value, name, place),
            None => self.draft.lose_word(place.line, name, name),
        }
    }
}

fn unknown_variable(variable: &str) -> String {
    format!("is not carried over: its value is in the environment variable `{variable}`")
}

/// The value as the key at `path` wants it.
fn converted(path: &str, text: &str) -> Option<String> {
    let key = Key::find(path)?;
    if matches!(key.kind, Kind::Duration(..)) {
        return units::haproxy(text);
    }
    if key.kind.shape() != Shape::Number {
        return None;
    }
    text.parse::<u64>().ok().map(|number| number.to_string())
}

/// Whether the table of words has a value for this parameter of a `server` line.
fn parameter_key(name: &str) -> Option<&'static str> {
    match word(Program::Haproxy, name)?.answer {
        Answer::Key(path, _) => Some(path),
        Answer::NotNeeded(_) | Answer::Absent(_) => None,
    }
}
