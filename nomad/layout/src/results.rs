//! The table of results: a row for each drill and each cut-over, in Markdown.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Context, Result};

use crate::layout::Layout;

const HEAD: [&str; 7] =
    ["what", "acknowledged", "longest gap (s)", "errors", "lost", "doubled", "to a read-only server"];

/// Adds a row to the file of `--results`; without one nothing is written.
pub(crate) fn add(layout: &Layout, cells: &[&str; 7]) -> Result<()> {
    let Some(path) = &layout.results else { return Ok(()) };
    let writing = || format!("writing {}", path.display());
    let mut file = OpenOptions::new().create(true).append(true).open(path).with_context(writing)?;
    let mut text = String::new();
    if file.metadata().with_context(writing)?.len() == 0 {
        text = format!("{}{}", row(&HEAD), row(&["---"; 7]));
    }
    text += &row(cells);
    file.write_all(text.as_bytes()).with_context(writing)
}

fn row(cells: &[&str; 7]) -> String {
    format!("| {} |\n", cells.join(" | "))
}
