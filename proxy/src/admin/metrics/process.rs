//! Metrics of the process: how long it runs, what it was configured with, what it takes from the machine.

use std::time::Duration;

use super::Samples::{Counter, Gauge};
use super::sample::{Sample, flag, maybe, number, one, sample, seconds};
use super::{Measured, Metric};
use crate::admin::process_stats::ProcessStats;
use crate::clock;
use crate::counters::AdminRefusal;
use crate::phase::Phase;

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "build_info",
        labels: &["version"],
        meaning: "The version of the program",
        worry: "The proxies of a cluster run different versions for longer than an update takes",
        samples: Gauge(|measured| vec![sample([&measured.routing.version], 1.0)]),
    },
    Metric {
        name: "uptime_seconds",
        labels: &[],
        meaning: "How long the process has run",
        worry: "It starts again and again",
        samples: Gauge(|measured| one(seconds(measured.routing.uptime_ms))),
    },
    Metric {
        name: "draining",
        labels: &[],
        meaning: "Whether no new sessions are accepted",
        worry: "1 without anybody having stopped the proxy",
        samples: Gauge(|measured| one(flag(measured.routing.phase == Phase::Draining))),
    },
    Metric {
        name: "config_reloads_total",
        labels: &["result"],
        meaning: "Reloads of the configuration",
        worry: "`refused` grows: the log says which key was wrong or needs a restart",
        samples: Counter(|measured| {
            let reloads = &measured.counters.reloads;
            [("applied", &reloads.applied), ("refused", &reloads.refused)]
                .map(|(result, count)| sample([result], number(count.value())))
                .into()
        }),
    },
    Metric {
        name: "config_reload_refused",
        labels: &[],
        meaning: "Whether the last reload was refused, so that the old configuration is still in force",
        worry: "1: what is written is not what runs",
        samples: Gauge(|measured| one(flag(measured.counters.reloads.last_was_refused()))),
    },
    Metric {
        name: "config_age_seconds",
        labels: &[],
        meaning: "How long ago the configuration in force was read",
        worry: "Longer ago than the last change of the file",
        samples: Gauge(config_age),
    },
    Metric {
        name: "admin_refusals_total",
        labels: &["reason"],
        meaning: "Connections to the admin address from outside its allowed networks, and requests there without its token",
        worry: "`bad_token` grows: somebody guesses the token, or Prometheus has an old one",
        samples: Counter(|measured| {
            let refusals = |refusal| number(measured.counters.admin_refusals(refusal).value());
            AdminRefusal::ALL.map(|refusal| sample([refusal.code()], refusals(refusal))).into()
        }),
    },
    Metric {
        name: "log_lines_dropped_total",
        labels: &[],
        meaning: "Log lines dropped because standard error was not read fast enough",
        worry: "It grows: whatever reads the log hangs or is too slow",
        samples: Counter(|measured| one(number(measured.dropped_log_lines))),
    },
    Metric {
        name: "session_log_lines_left_out_total",
        labels: &[],
        meaning: "Sessions whose end was not logged, because too many ended within a second",
        worry: "It grows without a change of leader: clients connect in a loop",
        samples: Counter(|measured| one(number(measured.counters.session_log.left_out()))),
    },
    Metric {
        name: "process_cpu_seconds_total",
        labels: &[],
        meaning: "Processor time that the process has taken, in user and system mode",
        worry: "The rate comes near `session.workers`: the workers have no time left",
        samples: Counter(|measured| stat(measured, |process| Some(process.cpu_seconds))),
    },
    Metric {
        name: "process_start_time_seconds",
        labels: &[],
        meaning: "When the process started, in seconds since 1970",
        worry: "It changes without anybody having restarted the proxy",
        samples: Gauge(|measured| stat(measured, |process| Some(process.start_time_seconds))),
    },
    Metric {
        name: "process_resident_memory_bytes",
        labels: &[],
        meaning: "Memory of the process that is in RAM",
        worry: "It grows while the number of sessions does not",
        samples: Gauge(|measured| stat(measured, |process| Some(number(process.resident_memory_bytes)))),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        labels: &[],
        meaning: "Address space of the process",
        worry: "It comes near a limit that somebody has set (`LimitAS=`, `ulimit -v`)",
        samples: Gauge(|measured| stat(measured, |process| Some(number(process.virtual_memory_bytes)))),
    },
    Metric {
        name: "process_open_fds",
        labels: &[],
        meaning: "File descriptors that the process has open; a relayed session takes two",
        worry: "It comes near `process_max_fds`",
        samples: Gauge(|measured| stat(measured, |process| Some(number(process.open_fds)))),
    },
    Metric {
        name: "process_max_fds",
        labels: &[],
        meaning: "How many file descriptors the process may have open",
        worry: "Less than twice `max_sessions`: the operating system allows fewer sessions than the configuration",
        samples: Gauge(|measured| stat(measured, |process| process.max_fds.map(number))),
    },
    Metric {
        name: "process_threads",
        labels: &[],
        meaning: "Threads of the process",
        worry: "It grows: a look-up of names hangs, or there is a fault in the proxy",
        samples: Gauge(|measured| stat(measured, |process| Some(number(process.threads)))),
    },
];

fn config_age(measured: &Measured) -> Vec<Sample<f64>> {
    let since_start = clock::now() - Duration::from_millis(measured.routing.uptime_ms);
    let applied_at = measured.counters.reloads.applied_at().unwrap_or(since_start);
    one(clock::now().since(applied_at).as_secs_f64())
}

fn stat(measured: &Measured, value: fn(&ProcessStats) -> Option<f64>) -> Vec<Sample<f64>> {
    maybe(measured.process.as_ref().and_then(value))
}
