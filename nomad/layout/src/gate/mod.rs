//! Gates: what must be so before the next step. A gate is asked again until its deadline, and fails with the last evidence.

mod database;
mod etcd;
mod job;
mod proxy;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::layout::Layout;

pub use database::{apply_schema, database, schema};
pub use etcd::etcd;
pub use job::{endpoint, finished, job, singleton};
pub(crate) use proxy::listens;
pub use proxy::{proxy, silent};

/// How often a gate is asked.
const INTERVAL: Duration = Duration::from_secs(2);

/// A question with a deadline. The answer is evidence: of what is so, or, as an error, of what is not.
pub struct Gate<'a> {
    what: String,
    within: Duration,
    ask: Box<dyn FnMut() -> Result<String> + 'a>,
}

impl std::fmt::Debug for Gate<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} within {:?}", self.what, self.within)
    }
}

impl<'a> Gate<'a> {
    /// A gate of this name.
    pub fn new(what: impl Into<String>, within: Duration, ask: impl FnMut() -> Result<String> + 'a) -> Self {
        Self { what: what.into(), within, ask: Box::new(ask) }
    }

    /// Waits until it is so.
    ///
    /// # Errors
    /// When it is not by the deadline; the error has the last evidence.
    pub fn pass(mut self, layout: &Layout) -> Result<()> {
        let shell = layout.shell;
        if shell.dry_run {
            shell.say(&format!("? {} (within {} s)", self.what, self.within.as_secs()));
            return Ok(());
        }
        let began = Instant::now();
        let mut told = String::new();
        loop {
            match (self.ask)() {
                Ok(evidence) => {
                    shell.say(&format!("  {}: {evidence} ({} s)", self.what, began.elapsed().as_secs()));
                    return Ok(());
                }
                Err(error) => {
                    let evidence = format!("{error:#}");
                    if began.elapsed() >= self.within {
                        bail!("{}: not so within {} s: {evidence}", self.what, self.within.as_secs());
                    }
                    if evidence != told {
                        shell.say(&format!("  {}: waiting: {evidence}", self.what));
                        told = evidence;
                    }
                }
            }
            sleep(INTERVAL.min(self.within));
        }
    }
}

/// The gates that `nomad-layout gate` knows, by name.
pub const NAMES: &str =
    "etcd, database, schema, proxy, job NAME COUNT, http NAME PATH, singleton NAME, finished NAME";

/// A gate by its name and arguments.
///
/// # Errors
/// When there is none of the name, or an argument is missing.
pub fn named<'a>(layout: &'a Layout, words: &[String], within: Duration) -> Result<Gate<'a>> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    Ok(match words.as_slice() {
        ["etcd"] => etcd(layout, within),
        ["database"] => database(layout, within),
        ["proxy"] => proxy(layout, layout.site.write_port, within),
        ["schema", require] => schema(layout, require, within),
        ["schema"] => schema(layout, "community", within),
        ["job", name, count] => job(layout, name, count.parse()?, within),
        ["http", name, path] => endpoint(layout, name, path, within),
        ["singleton", name] => singleton(layout, name, within),
        ["finished", name] => finished(layout, name, within),
        _ => bail!("there is no gate \"{}\"; there are {NAMES}", words.join(" ")),
    })
}
