//! What every process of this executable needs to know: its role, how to start another role, and how to start clean.

use std::fs;
use std::io;
use std::os::fd::RawFd;

/// The first argument of a supervisor; its state directory follows.
pub const SUPERVISOR: &str = "supervisor";
/// The first argument of the proxy process.
pub const PROXY: &str = "proxy";
/// The first argument of the process that becomes a command in a task.
pub const EXEC_SHIM: &str = "exec-shim";

/// Starts this executable again, even after its file was replaced or removed (proc_pid_exe(5)).
pub const THIS_EXECUTABLE: &str = "/proc/self/exe";

/// Closes every descriptor above standard error. A descriptor that the agent leaked into the plugin would otherwise
/// stay open for as long as the task runs.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn close_inherited_descriptors() -> io::Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The descriptor of the directory listing is in the list, and is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
