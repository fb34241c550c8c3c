//! Signals that are ignored at the start of this process, because whoever started it ignored them.

use std::fs;
use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Makes every signal do what it does by default in the program that is executed next: an ignored signal stays ignored
/// over exec, a caught one does not (signal(7)). So each is caught, which can be done safely. Needs a runtime.
///
/// SIGPIPE and the signal mask are reset by the standard library.
///
/// # Errors
/// When /proc cannot be read, or a signal not be caught.
pub(super) fn reset() -> io::Result<()> {
    ignored(&fs::read_to_string("/proc/self/status")?)
        .into_iter()
        .try_for_each(|number| signal(SignalKind::from_raw(number)).map(drop))
}

/// The signals of the mask `SigIgn` of /proc/<pid>/status, in which signal 1 is the lowest bit.
fn ignored(status: &str) -> Vec<i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let ignored = (1..=LAST).filter(|number| mask >> (number - 1) & 1 == 1);
    ignored.filter(|number| !LEFT_ALONE.iter().any(|signal| signal.as_raw() == *number)).collect()
}

/// The last one below the real-time signals, which nobody ignores.
const LAST: i32 = 31;

/// The last three cannot be caught safely; nobody ignores them in earnest.
const LEFT_ALONE: [Signal; 4] = [Signal::PIPE, Signal::ILL, Signal::FPE, Signal::SEGV];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_from_its_lowest_bit() {
        let status = |mask| format!("Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t{mask}\nSigCgt:\t0\n");
        assert_eq!(ignored(&status("0000000000000003")), [1, 2]);
        assert_eq!(ignored(&status("0000000000001000")), [0; 0], "SIGPIPE is the standard library's");
        assert_eq!(ignored(&status("ffffffff00300002")), [2, 21, 22]);
        assert_eq!(ignored("Name:\tx\n"), [0; 0]);
    }
}
