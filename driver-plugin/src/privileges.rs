//! Gives up privileges for good: capabilities, and those that executing a file could grant.

use std::io;

use procfs::process::Process;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Capabilities are numbered from 0 to at most this; the kernel has fewer.
const LAST_CAPABILITY: u32 = 63;

/// Capabilities belong to a thread (capabilities(7)), so a process can give up its own only while it has one.
///
/// # Errors
/// When there are more, or `/proc` cannot be read.
pub(crate) fn require_single_thread() -> io::Result<()> {
    let threads = Process::myself().and_then(|process| process.stat()).map_err(io::Error::other)?.num_threads;
    if threads == 1 {
        return Ok(());
    }
    Err(io::Error::other(format!("the process has {threads} threads, each with privileges of its own")))
}

/// Removes every capability from the bounding set, so that no file grants one. A process that is not root may not
/// change the set.
///
/// # Errors
/// What the operating system says.
pub(crate) fn empty_bounding_set() -> io::Result<()> {
    if !capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for number in 0..=LAST_CAPABILITY {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // The kernel has no capability of this number, and none above.
            Err(Errno::INVAL) => break,
            removed => removed?,
        }
    }
    Ok(())
}

/// Gives up all capabilities, and those that a set-user-ID program or a file would grant (`no_new_privs`).
///
/// # Errors
/// What the operating system says.
pub(crate) fn give_up() -> io::Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}
