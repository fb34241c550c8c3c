//! The documentation as data: its pages, their links and code blocks, and the tables that mirror the code.
//!
//! `cargo run -p docs` builds the book; `cargo test -p docs` holds the pages to the code.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "Markdown has many events, and each reader looks for a few of them"
)]

mod block;
mod book;
mod dashboard;
mod link;
mod made;
mod page;
mod table;

pub use block::{Block, Treatment};
pub use book::build;
pub use dashboard::{DASHBOARD, dashboard};
pub use link::broken_links;
pub use made::{made, rewrite};
pub use page::{Page, book_and_readme, every_page, repository};
pub use table::{code_spans, rows};
