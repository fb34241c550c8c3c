//! The machine that a run was on, and the versions of the programs that took part.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use procfs::{CpuInfo, Current, Meminfo};
use serde::{Deserialize, Serialize};

/// Where and when a run was, and with which programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// When the run began, UTC.
    pub(crate) date: String,
    /// The commit of the working tree, with `-dirty` if there were changes.
    pub(crate) commit: String,
    /// The processor's name.
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    /// The distribution.
    pub(crate) system: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The version of each program that took part.
    pub(crate) programs: BTreeMap<String, String>,
}

impl Machine {
    /// This machine, now.
    pub(crate) fn describe(mut programs: BTreeMap<String, String>) -> Self {
        let rustc = first_line("rustc", &["--version"]);
        programs.insert("rustc".to_owned(), rustc.split(' ').nth(1).unwrap_or("unknown").to_owned());
        let processor = CpuInfo::current().ok().and_then(|cpus| cpus.model_name(0).map(str::to_owned));
        let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default();
        Self {
            date: first_line("date", &["-u", "+%Y-%m-%d %H:%M"]),
            commit: first_line("git", &["describe", "--always", "--dirty", "--exclude=*"]),
            processor: processor.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: Meminfo::current().map_or(0, |memory| memory.mem_total >> 20),
            system: system.trim_matches('"').to_owned(),
            kernel: first_line("uname", &["-r"]),
            programs,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, commit, processor, cores, memory_mib, system, kernel, programs } = self;
        let programs: Vec<String> =
            programs.iter().map(|(name, version)| format!("{name} {version}")).collect();
        write!(
            f,
            "{date} UTC, commit {commit}. {cores} cores of {processor}, {memory_mib} MiB, {system}, Linux {kernel}. {}.",
            programs.join(", ")
        )
    }
}

/// The first line of a program's output, or "unknown".
pub(crate) fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok();
    let output = output.filter(|output| output.status.success()).map(|output| output.stdout);
    let text = String::from_utf8(output.unwrap_or_default()).unwrap_or_default();
    text.lines().next().filter(|line| !line.is_empty()).unwrap_or("unknown").to_owned()
}
