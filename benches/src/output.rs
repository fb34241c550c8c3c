//! Where a benchmark writes its results: a JSON file, a page of tables and a chart, side by side.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::chart::{self, Panel};

/// The default directory, from the workspace's root.
const RESULTS: &str = "benches/results";

/// The results of a run, as they are written.
pub(crate) trait Results: Serialize + DeserializeOwned {
    /// The page: what was measured, where, and the tables.
    fn page(&self) -> String;

    /// The panels of the chart.
    fn panels(&self) -> Vec<Panel>;
}

/// The output files of one benchmark.
#[derive(Clone, Debug)]
pub struct Output {
    name: &'static str,
    directory: PathBuf,
}

impl Output {
    /// The output of the benchmark of this name, in `benches/results` unless another directory is given.
    #[must_use]
    pub fn new(name: &'static str, directory: Option<PathBuf>) -> Self {
        Self { name, directory: directory.unwrap_or_else(|| PathBuf::from(RESULTS)) }
    }

    /// Writes the JSON file.
    pub(crate) fn save(&self, run: &impl Results) -> Result<()> {
        let text = serde_json::to_string_pretty(run).context("turning the results into JSON")? + "\n";
        write(&self.file("json"), &text)
    }

    /// Writes page and chart, and prints the page.
    pub(crate) fn publish(&self, run: &impl Results, out: &mut impl Write) -> Result<()> {
        let page = run.page();
        write(&self.file("md"), &page)?;
        chart::draw(&run.panels(), &self.file("svg"))?;
        writeln!(out, "{page}").context("printing the results")
    }

    /// Reads the JSON file of an earlier run.
    pub(crate) fn load<T: Results>(&self) -> Result<T> {
        let file = self.file("json");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("reading {} (from the workspace's root)", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory.join(self.name).with_extension(extension)
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    let directory = file.parent().context("a file in a directory")?;
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(file, text))
        .with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::chart::Scale;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Numbers(Vec<u8>);

    impl Results for Numbers {
        fn page(&self) -> String {
            format!("{:?}\n", self.0)
        }

        fn panels(&self) -> Vec<Panel> {
            let mut panel = Panel::new("numbers", Scale::Linear, &["row"], &["series"]);
            self.0.iter().for_each(|number| panel.dot(0, 0, f64::from(*number), false));
            vec![panel]
        }
    }

    #[test]
    fn results_are_written_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let output = Output::new("x", Some(directory.path().join("new")));
        assert!(output.load::<Numbers>().unwrap_err().to_string().contains("x.json"));
        let (run, mut printed) = (Numbers(vec![1, 2]), Vec::new());
        output.save(&run).unwrap();
        output.publish(&run, &mut printed).unwrap();
        assert_eq!(output.load::<Numbers>().unwrap(), run);
        assert_eq!(fs::read_to_string(directory.path().join("new/x.md")).unwrap(), "[1, 2]\n");
        assert_eq!(printed, b"[1, 2]\n\n");
        let chart = fs::read_to_string(directory.path().join("new/x.svg")).unwrap();
        assert_eq!(chart.matches("<circle").count(), 3, "two dots and one in the legend");
    }
}
