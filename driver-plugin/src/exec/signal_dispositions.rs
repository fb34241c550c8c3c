//! Resets signals that this process ignores because its parent did.

use std::io;

use procfs::process::Process;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Gives every ignored signal its default effect in the program that is executed next: an ignored signal stays
/// ignored over exec, a caught one does not (signal(7)). So each is caught, which is possible without unsafe code. It
/// needs a runtime.
///
/// The standard library resets SIGPIPE and the signal mask.
///
/// # Errors
/// When `/proc` cannot be read, or a signal cannot be caught.
pub(super) fn reset() -> io::Result<()> {
    let status = Process::myself().and_then(|process| process.status()).map_err(io::Error::other)?;
    ignored(status.sigign).try_for_each(|number| signal(SignalKind::from_raw(number)).map(drop))
}

/// The signals of a mask in which signal 1 is the lowest bit.
fn ignored(mask: u64) -> impl Iterator<Item = i32> {
    (1..=LAST)
        .filter(move |number| mask >> (number - 1) & 1 == 1)
        .filter(|number| !LEFT_ALONE.iter().any(|signal| signal.as_raw() == *number))
}

/// The last one before the real-time signals.
const LAST: i32 = 31;

/// tokio refuses to catch the last three; a program that ignores them does not run for long.
const LEFT_ALONE: [Signal; 4] = [Signal::PIPE, Signal::ILL, Signal::FPE, Signal::SEGV];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_the_mask_is_signal_1() {
        let ignored = |mask| ignored(mask).collect::<Vec<_>>();
        assert_eq!(ignored(0x3), [1, 2]);
        assert_eq!(ignored(0x1000), [0; 0], "SIGPIPE is reset by the standard library");
        assert_eq!(ignored(0xffff_ffff_0030_0002), [2, 21, 22]);
    }
}
