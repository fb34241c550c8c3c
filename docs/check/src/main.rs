//! `cargo run -p docs`: writes the parts of the pages that are made from the code, then builds the book.

use std::fs;
use std::io::{self, Write};

use anyhow::{Context, Result};
use docs::Page;

fn main() -> Result<()> {
    for (page, name, part) in docs::made() {
        let Page { path, text } = Page::read(page)?;
        let new = docs::rewrite(&text, name, &part).with_context(|| page.to_owned())?;
        if new != text {
            fs::write(docs::repository().join(&path), new).with_context(|| format!("writing {page}"))?;
            writeln!(io::stdout(), "{page}: wrote {name}")?;
        }
    }
    let book = docs::build()?;
    writeln!(io::stdout(), "the book is in {}", book.canonicalize()?.display())?;
    Ok(())
}
