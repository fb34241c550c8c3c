//! Pages: where the repository's Markdown files are.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Directories whose Markdown files are not ours.
const FOREIGN: [&str; 3] = ["target", "node_modules", ".git"];

/// A Markdown file.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is, from the root of the repository.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

impl Page {
    /// Reads the page at `path`, from the root of the repository.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let text = fs::read_to_string(repository().join(&path))
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { path, text })
    }
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Markdown file of the repository, in the order of their paths.
///
/// # Errors
/// When a directory or a file cannot be read.
pub fn every_page() -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    collect(&repository(), Path::new(""), &mut pages)?;
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(pages)
}

/// The pages whose code blocks are tested: those of the book, and those in the root of the repository.
///
/// # Errors
/// As [`every_page`].
pub fn book_and_readme() -> Result<Vec<Page>> {
    let mut pages = every_page()?;
    pages.retain(|page| page.path.starts_with("docs/src") || page.path.components().count() == 1);
    Ok(pages)
}

fn collect(root: &Path, under: &Path, pages: &mut Vec<Page>) -> Result<()> {
    let directory = root.join(under);
    let entries = fs::read_dir(&directory).with_context(|| format!("listing {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = under.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() && !FOREIGN.iter().any(|name| entry.file_name() == *name) {
            collect(root, &path, pages)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "md") {
            pages.push(Page::read(path)?);
        }
    }
    Ok(())
}
