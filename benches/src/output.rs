//! Where a benchmark leaves its results: a JSON file, a picture beside it, and a section of `benches/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where results go unless they are to go elsewhere, from the workspace's root.
const RESULTS: &str = "benches/results";
/// The page, from the workspace's root; it holds the latest run of each benchmark between two marks.
const PAGE: &str = "benches/README.md";

/// The output of one benchmark.
#[derive(Clone, Debug)]
pub struct Output {
    name: &'static str,
    elsewhere: Option<PathBuf>,
}

impl Output {
    /// The output of the benchmark of this name; what goes elsewhere than to `benches/results` is not put into the page.
    #[must_use]
    pub fn new(name: &'static str, elsewhere: Option<PathBuf>) -> Self {
        Self { name, elsewhere }
    }

    /// Writes the JSON file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, run: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(run).context("turning the results into JSON")? + "\n";
        self.write("json", &text)
    }

    /// Reads the JSON file of an earlier run.
    ///
    /// # Errors
    /// When there is none, or it holds something else.
    pub fn load<T: DeserializeOwned>(&self) -> Result<T> {
        let file = self.file("json");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// Where the picture belongs.
    #[must_use]
    pub fn picture(&self) -> PathBuf {
        self.file("svg")
    }

    /// Puts the section into the page in place of the one before, or into a file of its own elsewhere.
    ///
    /// # Errors
    /// When page or file cannot be written, or the page has no marks of that name.
    pub fn show(&self, section: &str) -> Result<()> {
        if self.elsewhere.is_some() {
            return self.write("md", section);
        }
        let page =
            fs::read_to_string(PAGE).with_context(|| format!("reading {PAGE} from the workspace's root"))?;
        let page = with_section(&page, self.name, section)
            .with_context(|| format!("{PAGE} has no marks for {}", self.name))?;
        fs::write(PAGE, page).with_context(|| format!("writing {PAGE}"))
    }

    fn file(&self, extension: &str) -> PathBuf {
        let directory = self.elsewhere.as_deref().unwrap_or_else(|| Path::new(RESULTS));
        directory.join(self.name).with_extension(extension)
    }

    fn write(&self, extension: &str, text: &str) -> Result<()> {
        let file = self.file(extension);
        let directory = file.parent().context("a file in a directory")?;
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&file, text))
            .with_context(|| format!("writing {}", file.display()))
    }
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

    #[test]
    fn what_goes_elsewhere_can_be_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let output = Output::new("x", Some(directory.path().join("new")));
        assert!(output.load::<Vec<u8>>().unwrap_err().to_string().contains("x.json"));
        output.save(&[1, 2]).unwrap();
        output.show("section\n").unwrap();
        assert_eq!(output.load::<Vec<u8>>().unwrap(), [1, 2]);
        assert_eq!(fs::read_to_string(directory.path().join("new/x.md")).unwrap(), "section\n");
        assert_eq!(output.picture(), directory.path().join("new/x.svg"));
    }
}
