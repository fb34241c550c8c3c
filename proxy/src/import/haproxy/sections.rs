//! The sections of haproxy.cfg, each with its lines, and which `defaults` apply to which.

use super::super::ImportError;
use super::super::draft::Place;
use super::words::{self, Word};

/// A line with words on it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) number: usize,
    words: Vec<Word>,
}

impl Line {
    /// The word at `index`, counted from 0; empty if there is none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    pub(super) fn rest(&self, from: usize) -> &[Word] {
        self.words.get(from..).unwrap_or_default()
    }

    /// The directive: its first word, or its first two where the first is only a family of directives.
    pub(super) fn name(&self) -> String {
        const FAMILIES: [&str; 6] = ["timeout", "option", "stats", "no", "email-alert", "http-check"];
        let first = self.word(0);
        match FAMILIES.contains(&first) && self.words.len() > 1 {
            true => format!("{first} {}", self.word(1)),
            false => first.to_owned(),
        }
    }

    /// What follows the directive.
    pub(super) fn arguments(&self) -> &[Word] {
        self.rest(self.name().split(' ').count())
    }

    /// The directive with its arguments, as a quotation.
    pub(super) fn place(&self) -> Place {
        let words: Vec<&str> = self.words.iter().map(|word| word.text.as_str()).collect();
        Place { line: self.number, text: words.join(" ") }
    }
}

/// A section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) number: usize,
    /// `listen`, `frontend`, ...
    pub(super) keyword: String,
    pub(super) name: String,
    /// The `defaults` that apply, by their place in the list of sections.
    pub(super) defaults: Option<usize>,
    pub(super) lines: Vec<Line>,
}

impl Section {
    /// The lines whose directive this is.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> + 'a {
        self.lines.iter().filter(move |line| line.name() == name)
    }

    /// `listen postgres`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.keyword, self.name).trim_end().to_owned()
    }
}

/// Words that begin a section (HAProxy 3.2).
const KEYWORDS: [&str; 20] = [
    "global",
    "defaults",
    "listen",
    "frontend",
    "backend",
    "userlist",
    "peers",
    "resolvers",
    "mailers",
    "cache",
    "program",
    "http-errors",
    "ring",
    "log-forward",
    "log-profile",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
    "dynamic-update",
];

/// The sections of a file, and the lines that belong to none.
pub(super) fn read(text: &str) -> Result<(Vec<Section>, Vec<Line>), ImportError> {
    let (mut sections, mut stray): (Vec<Section>, Vec<Line>) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let words = words::split(line).map_err(|problem| ImportError::at(number, problem))?;
        let line = Line { number, words };
        // Conditions (`.if`) and the tags of template languages are no directives.
        let outside = line.word(0).starts_with(['.', '{', '<']);
        match sections.last_mut() {
            _ if line.words.is_empty() => {}
            _ if KEYWORDS.contains(&line.word(0)) => {
                let section = section(&line, &sections);
                sections.push(section);
            }
            Some(section) if !outside => section.lines.push(line),
            Some(_) | None => stray.push(line),
        }
    }
    match sections.is_empty() {
        true => Err(ImportError::Syntax {
            line: None,
            problem: "there is no section such as `listen` or `defaults`: not an haproxy.cfg".to_owned(),
        }),
        false => Ok((sections, stray)),
    }
}

fn section(line: &Line, before: &[Section]) -> Section {
    let mut keyword = line.word(0).to_owned();
    let name = match line.word(1) {
        "from" => "",
        name => name,
    };
    let from = line.rest(1).iter().position(|word| word.text == "from");
    let defaults = |section: &Section| section.keyword == "defaults";
    let named = from.and_then(|at| {
        let wanted = line.word(at + 2);
        before.iter().rposition(|section| defaults(section) && section.name == wanted)
    });
    let latest = || before.iter().rposition(defaults);
    let inherits = ["listen", "frontend", "backend"].contains(&line.word(0));
    let defaults = if inherits { named.or_else(latest) } else { named };
    keyword.truncate(40);
    Section { number: line.number, keyword, name: name.to_owned(), defaults, lines: Vec::new() }
}
