//! What came of an import, as a file and as lines for people.

use std::fmt::Write as _;

use super::draft::is_bare;
use super::{Carried, Imported, Lost, Missing};
use crate::config::{BLOCKS, Raw};

/// How long a quotation from the source may be, in characters.
const MAX_QUOTATION: usize = 80;
/// How many lines are named one by one.
const MAX_LINES: usize = 8;

impl Imported {
    /// The configuration file. `source` is the name of the file that it was made from.
    pub fn toml(&self, source: &str) -> String {
        let mut text = format!(
            "# Made by `pg-leader-proxy import` from {} ({}).\n\
             # What is marked FILL IN does not stand there; `pg-leader-proxy check --config FILE` names what is left.\n",
            quoted(source),
            self.kind.program().name()
        );
        for block in BLOCKS {
            let own = |path: &str| path.split_once('.').is_some_and(|(name, _)| name == block.name);
            let missing = self.missing.iter().filter(|missing| own(missing.path)).map(placeholder);
            let carried = self.carried.iter().filter(|carried| own(carried.path)).map(setting);
            let servers = self.servers.iter().filter(|servers| own(servers.path)).map(alternative);
            let entries: Vec<String> = missing.chain(carried).chain(servers).collect();
            if !entries.is_empty() {
                push(&mut text, format_args!("\n[{}]\n{}", block.name, entries.concat()));
            }
        }
        if !self.lost.is_empty() {
            text.push_str("\n# What could not be carried over:\n");
            for lost in &self.lost {
                push(&mut text, format_args!("# {}: {}\n", lines(&lost.lines), sentence(lost)));
            }
        }
        text
    }

    /// A line for each thing that could not be carried over, with the line of `source`.
    pub fn losses(&self, source: &str) -> Vec<String> {
        let first = |lost: &Lost| lost.lines.first().copied().unwrap_or_default();
        let others = |lost: &Lost| match lost.lines.len() {
            0 | 1 => String::new(),
            _ => format!(" (also {})", lines(&lost.lines[1..])),
        };
        self.lost
            .iter()
            .map(|lost| format!("{}:{}: {}{}", quoted(source), first(lost), sentence(lost), others(lost)))
            .collect()
    }
}

fn sentence(lost: &Lost) -> String {
    format!("`{}` {}", quoted(&lost.what), quoted_whole(&lost.why))
}

fn placeholder(missing: &Missing) -> String {
    let value =
        if missing.path == "etcd.endpoints" || missing.path == "write.listen" { "[]" } else { "\"\"" };
    format!("# FILL IN: {}\n{} = {value}\n", quoted_whole(&missing.what), name(missing.path))
}

fn setting(carried: &Carried) -> String {
    let value = match &carried.raw {
        Raw::Text(text) if is_bare(carried.path) => text.clone(),
        Raw::Text(text) => string(text),
        Raw::List(items) => list(items),
        Raw::Map(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(from, to)| format!("{} = {}", string(from), string(to))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    };
    format!("{}{} = {value}\n", origins(&carried.origins), name(carried.path))
}

/// The servers of the source, which take the place of etcd if somebody wants that.
fn alternative(servers: &Carried) -> String {
    let Raw::List(items) = &servers.raw else { return String::new() };
    format!(
        "# Without etcd: remove the block [etcd], and list the members here.\n{}# members = {}\n",
        origins(&servers.origins),
        list(items)
    )
}

fn origins(origins: &[(usize, String)]) -> String {
    let shown = origins.iter().take(MAX_LINES);
    let mut text: String = shown.map(|(line, what)| format!("# line {line}: {}\n", quoted(what))).collect();
    if origins.len() > MAX_LINES {
        push(&mut text, format_args!("# and {} more lines\n", origins.len() - MAX_LINES));
    }
    text
}

/// `line 7`, or `lines 7, 9 and 12`.
fn lines(lines: &[usize]) -> String {
    let mut shown: Vec<String> = lines.iter().take(MAX_LINES).map(usize::to_string).collect();
    if lines.len() > MAX_LINES {
        shown.push(format!("{} more", lines.len() - MAX_LINES));
    }
    match shown.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("lines {} and {last}", rest.join(", ")),
        _ => format!("line {}", shown.concat()),
    }
}

fn name(path: &str) -> &str {
    path.split_once('.').map_or(path, |(_, name)| name)
}

fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| string(item)).collect();
    format!("[{}]", items.join(", "))
}

/// A part of the source in a comment: short, on one line, and without what a terminal would obey.
fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTATION).map(shown).collect();
    if text.chars().nth(MAX_QUOTATION).is_some() {
        short.push('…');
    }
    short
}

/// A sentence of ours that may have a part of the source in it.
fn quoted_whole(text: &str) -> String {
    text.chars().map(shown).collect()
}

fn shown(c: char) -> char {
    if c.is_control() { '?' } else { c }
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = text.write_fmt(part);
}
