//! `cargo run -p docs`: writes the parts of the pages that are made from the code and the dashboard, then builds the book.

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
    let dashboard = docs::dashboard();
    let path = docs::repository().join(docs::DASHBOARD);
    let known = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str(&text).ok());
    if known.as_ref() != Some(&dashboard) {
        fs::write(&path, format!("{dashboard:#}\n"))
            .with_context(|| format!("writing {}", docs::DASHBOARD))?;
        writeln!(io::stdout(), "wrote {}", docs::DASHBOARD)?;
    }
    let book = docs::build()?;
    writeln!(io::stdout(), "the book is in {}", book.canonicalize()?.display())?;
    Ok(())
}
