//! What the operating system tells about this process, for the metrics `process_*`.

use procfs::ProcResult;
use procfs::process::{LimitValue, Process};

/// What the process takes from the machine now.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProcessStats {
    /// Processor time in user and system mode.
    pub(super) cpu_seconds: f64,
    /// When it started, in seconds since 1970.
    pub(super) start_time_seconds: f64,
    pub(super) resident_memory_bytes: u64,
    pub(super) virtual_memory_bytes: u64,
    pub(super) open_fds: u64,
    /// `None` if there is no limit.
    pub(super) max_fds: Option<u64>,
    pub(super) threads: u64,
}

impl ProcessStats {
    /// Reads them from `/proc`.
    ///
    /// # Errors
    /// If `/proc` is not there or does not show this process.
    pub(super) fn read() -> ProcResult<Self> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let max_fds = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        };
        Ok(Self {
            cpu_seconds: ticks(stat.utime + stat.stime),
            start_time_seconds: seconds(procfs::boot_time_secs()?) + ticks(stat.starttime),
            resident_memory_bytes: stat.rss * procfs::page_size(),
            virtual_memory_bytes: stat.vsize,
            open_fds: process.fd_count()? as u64,
            max_fds,
            threads: u64::try_from(stat.num_threads).unwrap_or_default(),
        })
    }
}

/// Clock ticks as seconds.
fn ticks(ticks: u64) -> f64 {
    seconds(ticks) / seconds(procfs::ticks_per_second())
}

/// A metric is a float by its format.
#[allow(clippy::cast_precision_loss)]
const fn seconds(whole: u64) -> f64 {
    whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let kept_open = std::fs::File::open("/dev/null").unwrap();
        let stats = ProcessStats::read().unwrap();
        drop(kept_open);
        assert!(stats.open_fds > 1 && stats.max_fds.is_none_or(|max| max >= stats.open_fds), "{stats:?}");
        assert!(stats.threads >= 1 && stats.resident_memory_bytes > 100_000, "{stats:?}");
        assert!(stats.virtual_memory_bytes >= stats.resident_memory_bytes, "{stats:?}");
        assert!(stats.start_time_seconds > 1.6e9, "{stats:?}");
    }
}
