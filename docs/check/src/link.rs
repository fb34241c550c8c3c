//! Links: which of them lead nowhere, and which lead out of the book.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::page::{Page, repository};

/// A link or the source of an image.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// What it leads to.
    pub(crate) target: String,
    /// Where it stands in the text of the page.
    pub(crate) range: Range<usize>,
    /// The words that are shown.
    pub(crate) words: String,
}

impl Link {
    /// The file that it leads to, from the root of the repository, and the heading there; nothing for a web address.
    pub(crate) fn file(&self, page: &Path) -> Option<(PathBuf, Option<&str>)> {
        if self.target.contains("://") || self.target.starts_with("mailto:") {
            return None;
        }
        let (path, heading) = match self.target.split_once('#') {
            Some((path, heading)) => (path, Some(heading)),
            None => (self.target.as_str(), None),
        };
        let file = if path.is_empty() { page.to_path_buf() } else { flat(&page.with_file_name(path)) };
        Some((file, heading))
    }
}

/// Every link of a Markdown text.
pub(crate) fn links(text: &str) -> Vec<Link> {
    let mut found: Vec<Link> = Vec::new();
    let mut open = Vec::new();
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                open.push(found.len());
                found.push(Link { target: dest_url.into_string(), range, words: String::new() });
            }
            Event::End(TagEnd::Link | TagEnd::Image) => drop(open.pop()),
            Event::Text(words) | Event::Code(words) => {
                for index in &open {
                    found[*index].words.push_str(&words);
                }
            }
            _ => {}
        }
    }
    found
}

/// Every link of `pages` that leads to no file, or to a heading that its page does not have.
#[must_use]
pub fn broken_links(pages: &[Page]) -> Vec<String> {
    let headings: BTreeMap<&Path, BTreeSet<String>> =
        pages.iter().map(|page| (page.path.as_path(), headings(&page.text))).collect();
    let mut broken = Vec::new();
    for page in pages {
        for link in links(&page.text) {
            let Some((file, heading)) = link.file(&page.path) else { continue };
            let exists = repository().join(&file).exists() && !file.starts_with("..");
            let has_heading = match (heading, headings.get(file.as_path())) {
                (Some(heading), Some(known)) => known.contains(heading),
                // A place in a file of code, such as #L10: nobody can tell whether it is still the right one.
                (Some(_), None) => false,
                (None, _) => true,
            };
            if !(exists && has_heading) {
                let line = 1 + page.text[..link.range.start].matches('\n').count();
                broken.push(format!("{}:{line}: {}", page.path.display(), link.target));
            }
        }
    }
    broken
}

/// The names under which the headings of a page can be linked to, as GitHub and mdBook make them.
fn headings(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(words) | Event::Code(words) => {
                heading.iter_mut().for_each(|heading| heading.push_str(&words));
            }
            Event::End(TagEnd::Heading(_)) => names.extend(heading.take().map(|heading| slug(&heading))),
            _ => {}
        }
    }
    names
}

fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// The path without `.` and `..`, as far as it stays inside of the repository.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if flat.file_name().is_some() => drop(flat.pop()),
            Component::CurDir => {}
            other => flat.push(other),
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nothing_is_named_with_its_line() {
        let text = "# One `two`, three\n\n[a](#one-two-three) [b](#four) [c](Cargo.toml)\n[d](nowhere.md) <https://example.org>\n";
        let page = Page { path: "README.md".into(), text: text.to_owned() };
        assert_eq!(broken_links(&[page]), ["README.md:3: #four", "README.md:4: nowhere.md"]);
    }
}
