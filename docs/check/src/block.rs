//! Code blocks, and what the comment before a block says about how it is tested.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

use crate::page::Page;

/// A fenced code block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The word after the fence, such as `toml`.
    pub language: String,
    /// What is done with it.
    pub treatment: Treatment,
    /// What stands between the fences.
    pub text: String,
    /// The line of the opening fence, counted from 1.
    pub line: usize,
}

/// What is done with a block, by the HTML comment right before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// No comment: it is tested as what its language says.
    Whole,
    /// `<!-- not run: WHY -->`.
    NotRun(String),
    /// `<!-- fragment: WHAT -->`: it is tested inside something whole.
    Fragment(String),
    /// `<!-- background -->`: a command that does not return; what follows runs beside it.
    Background,
    /// `<!-- output -->`: what the commands before it print.
    Output,
    /// A comment that means something else; no block has it unless somebody mistyped.
    Unknown(String),
}

impl Treatment {
    fn of(comment: &str) -> Self {
        let comment = comment.trim().trim_start_matches("<!--").trim_end_matches("-->").trim();
        let (word, rest) = comment.split_once(':').unwrap_or((comment, ""));
        let rest = rest.trim().to_owned();
        match (word, rest.is_empty()) {
            ("not run", false) => Self::NotRun(rest),
            ("fragment", false) => Self::Fragment(rest),
            ("background", true) => Self::Background,
            ("output", true) => Self::Output,
            _ => Self::Unknown(comment.to_owned()),
        }
    }
}

impl Page {
    /// The fenced code blocks of the page, in their order.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut treatment = Treatment::Whole;
        let mut open: Option<Block> = None;
        for (event, range) in Parser::new(&self.text).into_offset_iter() {
            match event {
                Event::Html(html) if html.starts_with("<!--") => treatment = Treatment::of(&html),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    let line = 1 + self.text[..range.start].matches('\n').count();
                    let treatment = std::mem::replace(&mut treatment, Treatment::Whole);
                    open = Some(Block { language: info.into_string(), treatment, text: String::new(), line });
                }
                Event::Text(text) if open.is_some() => {
                    open.iter_mut().for_each(|block| block.text.push_str(&text));
                }
                Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
                Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => {}
                // Anything between comment and block: the comment was about something else.
                _ => treatment = Treatment::Whole,
            }
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_right_before_a_block_says_how_it_is_tested() {
        let text = "<!-- not run: takes hours -->\n```sh\nmake all\n```\n\n<!-- background -->\n\n```sh\nserve\n```\n\n\
                    <!-- output -->\ntext\n\n```text\nA line.\n```\n";
        let page = Page { path: "a.md".into(), text: text.to_owned() };
        let blocks = page.blocks();
        let treatments: Vec<&Treatment> = blocks.iter().map(|block| &block.treatment).collect();
        let expected = [&Treatment::NotRun("takes hours".into()), &Treatment::Background, &Treatment::Whole];
        assert_eq!(treatments, expected);
        assert_eq!(
            (blocks[0].language.as_str(), blocks[0].text.as_str(), blocks[0].line),
            ("sh", "make all\n", 2)
        );
    }

    #[test]
    fn a_mistyped_comment_is_not_taken_for_a_reason() {
        assert_eq!(Treatment::of("<!-- not-run: x -->"), Treatment::Unknown("not-run: x".into()));
        assert_eq!(Treatment::of("<!-- not run -->"), Treatment::Unknown("not run".into()));
    }
}
