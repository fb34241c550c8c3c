//! What the kernel says about processes that the lab has not started itself, such as PostgreSQL's.

use std::collections::BTreeMap;

use procfs::process::{Process, all_processes};

/// Whether a process exists and is not a zombie. In a container often nobody reaps those.
pub(crate) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// The name of a process's program, cut off after 15 bytes.
pub(crate) fn program_name(pid: u32) -> Option<String> {
    stat(pid).map(|stat| stat.comm)
}

/// The title of a process: its command line, unless it has changed it.
pub(crate) fn title(pid: u32) -> Option<String> {
    process(pid)?.cmdline().ok().map(|words| words.join(" "))
}

/// The process and all its descendants, parents first.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for stat in all_processes().into_iter().flatten().flatten().filter_map(|process| process.stat().ok()) {
        let (parent, pid) = (stat.ppid.cast_unsigned(), stat.pid.cast_unsigned());
        children.entry(parent).or_default().push(pid);
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found
}

fn stat(pid: u32) -> Option<procfs::process::Stat> {
    process(pid)?.stat().ok()
}

fn process(pid: u32) -> Option<Process> {
    Process::new(pid.cast_signed()).ok()
}
