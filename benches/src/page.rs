//! The page: `benches/README.md` holds the latest run of each benchmark between two marks.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The page, from the workspace's root.
const PAGE: &str = "benches/README.md";

/// Puts a section into the page, in place of the one before.
///
/// # Errors
/// When the page cannot be read or written, or has no marks of that name.
pub fn replace(name: &str, section: &str) -> Result<()> {
    let page = Path::new(PAGE);
    let text =
        fs::read_to_string(page).with_context(|| format!("reading {PAGE} from the workspace's root"))?;
    let text =
        with_section(&text, name, section).with_context(|| format!("{PAGE} has no marks for {name}"))?;
    fs::write(page, text).with_context(|| format!("writing {PAGE}"))
}

fn with_section(page: &str, name: &str, section: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{section}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_the_one_before() {
        let page = "# A\n<!-- x: begin -->\nold\n<!-- x: end -->\nrest";
        let next = with_section(page, "x", "new\n").unwrap();
        assert_eq!(next, "# A\n<!-- x: begin -->\nnew\n<!-- x: end -->\nrest");
        assert_eq!(with_section(&next, "x", "new\n").unwrap(), next);
        assert_eq!(with_section(page, "y", "new\n"), None);
    }
}
