//! The book: mdBook's pages in HTML, in `target/book`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mdbook_driver::MDBook;

use crate::link::links;
use crate::page::repository;

/// Where the pages of the book are, from the root of the repository.
const SOURCE: &str = "docs/src";

/// Builds the book and returns where it is.
///
/// # Errors
/// When a page of `SUMMARY.md` is missing, or HTML cannot be made or written.
pub fn build() -> Result<PathBuf> {
    let mut book = MDBook::load(repository().join("docs")).context("loading the book")?;
    book.book.for_each_chapter_mut(|chapter| {
        if let Some(path) = &chapter.source_path {
            chapter.content = without_links_out(&chapter.content, &Path::new(SOURCE).join(path));
        }
    });
    book.build().context("building the book")?;
    Ok(book.build_dir_for("html"))
}

/// Links to files of the repository work where the repository is; in the book their path takes their place.
fn without_links_out(text: &str, page: &Path) -> String {
    let mut result = text.to_owned();
    for link in links(text).iter().rev() {
        let Some((file, _)) = link.file(page) else { continue };
        if file.starts_with(SOURCE) {
            continue;
        }
        let path = file.display().to_string();
        let shown = if link.words.trim_end_matches('/') == path.trim_end_matches('/') {
            format!("`{path}`")
        } else {
            format!("{} (`{path}`)", link.words)
        };
        result.replace_range(link.range.clone(), &shown);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_book_becomes_a_path() {
        let text =
            "See [the lab](../../../lab/README.md), [benches/](../../../benches) and [safety](safety.md).";
        assert_eq!(
            without_links_out(text, Path::new("docs/src/explanation/a.md")),
            "See the lab (`lab/README.md`), `benches` and [safety](safety.md)."
        );
    }
}
