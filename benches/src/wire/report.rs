//! The report of a run: each measurement as it is made, and the page and chart of the whole run.

use std::fmt::Write;

use super::cases::Scenario::{self, Balance, Bulk, Connect, Copy, Hold, Memory, Select, Terminate};
use super::results::{Measurement, Point, Run};
use super::setups::SetupKind;
use super::targets;
use crate::chart::{Panel, Scale};
use crate::output::Results;
use crate::statistics::spread;
use crate::table::Table;

/// A figure and how it is shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    scenario: Scenario,
    figure: &'static str,
    /// With its unit.
    title: &'static str,
    /// Digits after the decimal point.
    digits: usize,
    extra: Extra,
}

/// What is shown besides the figure's table.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Extra {
    Nothing,
    /// A table of ratios between setups.
    Ratios,
    /// That table, and a panel of the chart.
    RatiosAndPanel,
}

const fn shown(
    scenario: Scenario,
    figure: &'static str,
    title: &'static str,
    digits: usize,
    extra: Extra,
) -> Shown {
    Shown { scenario, figure, title, digits, extra }
}

use Extra::{Nothing, Ratios, RatiosAndPanel};

/// Every figure, in the order in which they are shown.
const SHOWN: &[Shown] = &[
    shown(Select, "per_second", "Select-only, prepared: transactions per second", 0, RatiosAndPanel),
    shown(Select, "p50_us", "Select-only: median time of a transaction, µs", 0, Ratios),
    shown(Select, "p99_us", "Select-only: 99th percentile of the time, µs", 0, Ratios),
    shown(
        Select,
        "cpu_us",
        "Select-only: processor time of the proxy per transaction, µs",
        1,
        RatiosAndPanel,
    ),
    shown(Select, "machine_us", "Select-only: processor time of all programs per transaction, µs", 1, Ratios),
    shown(Connect, "per_second", "Connect, log in, leave: per second", 0, RatiosAndPanel),
    shown(Connect, "cpu_us", "Connect: processor time of the proxy per connection, µs", 0, RatiosAndPanel),
    shown(Connect, "machine_us", "Connect: processor time of all programs per connection, µs", 0, Ratios),
    shown(Copy, "mb_per_second", "COPY: MB per second", 0, RatiosAndPanel),
    shown(Copy, "cpu_s_per_gb", "COPY: processor time of the proxy per GB, s", 2, RatiosAndPanel),
    shown(Copy, "machine_s_per_gb", "COPY: processor time of all programs per GB, s", 2, Ratios),
    shown(Memory, "kb_per_session", "Memory of an idle session, KB (Pss)", 2, RatiosAndPanel),
    shown(Memory, "process_kb", "Memory without sessions, KB (Pss)", 0, Nothing),
    shown(Memory, "retained_kb", "Memory retained when all sessions have gone, KB (Pss)", 0, Nothing),
    shown(
        Terminate,
        "first_ms",
        "Terminate: from the server's answer to the first session's end, ms",
        1,
        Nothing,
    ),
    shown(
        Terminate,
        "last_ms",
        "Terminate: from the server's answer to the last session's end, ms",
        1,
        Nothing,
    ),
    shown(Hold, "first_ms", "Hold: from the release to the first client's answer, ms", 1, Nothing),
    shown(Hold, "last_ms", "Hold: from the release to the last client's answer, ms", 0, Nothing),
    shown(Hold, "most_logins", "Hold: most connections at the leader that had not logged in", 0, Nothing),
    shown(
        Balance,
        "busiest_thread_share",
        "Balance: share of the sessions on the busiest thread, mean",
        2,
        Nothing,
    ),
    shown(
        Balance,
        "all_on_one_thread_share",
        "Balance: share of trials with all sessions on one thread",
        2,
        Nothing,
    ),
    shown(Bulk, "p50_us", "Bulk: median time of the session's answers, µs", 0, Nothing),
    shown(Bulk, "p99_us", "Bulk: 99th percentile of the time, µs", 0, Ratios),
    shown(Bulk, "lowest_p99_us", "Bulk: the same in the best sixth of the run, µs", 0, Nothing),
    shown(Bulk, "highest_p99_us", "Bulk: the same in the worst sixth of the run, µs", 0, Nothing),
    shown(Bulk, "mb_per_second", "Bulk: MB per second of all streams", 0, Nothing),
];

/// One measurement as a line.
pub(crate) fn line(measurement: &Measurement) -> String {
    let Measurement { round, scenario, case, setup, figures, failed } = measurement;
    let mut text = format!("{round}. {scenario}, {case}: {setup:16}");
    for (name, figure) in figures {
        let _ = write!(text, "  {name} {figure:.3}");
    }
    if let Some(why) = failed {
        let _ = write!(text, "  failed: {why}");
    }
    text
}

impl Results for Run {
    fn page(&self) -> String {
        let mut page = format!(
            "# Wire: latest run\n\n[Method and meaning](../README.md#wire), [raw data](wire.json).\n\n{}\n\n\
             ## Targets\n\n{}",
            conditions(self),
            targets::table(self)
        );
        for shown in SHOWN.iter().filter(|shown| !self.cases(shown.scenario.name()).is_empty()) {
            let title = shown.title;
            let _ = write!(page, "\n## {title}\n\nMedian (lowest – highest):\n\n{}", figures(self, shown));
            if shown.extra != Nothing {
                let _ = write!(
                    page,
                    "\nRatios: the setup to direct / pg-leader-proxy to the setup:\n\n{}",
                    ratios(self, shown)
                );
            }
        }
        let failed = self.measurements.iter().filter(|measurement| measurement.failed.is_some()).map(line);
        self.notes.iter().cloned().chain(failed).for_each(|note| {
            let _ = write!(page, "\n{note}\n");
        });
        page + "\n![Every round as a dot](wire.svg)\n"
    }

    fn panels(&self) -> Vec<Panel> {
        let drawn = SHOWN.iter().filter(|shown| shown.extra == RatiosAndPanel);
        let measured = drawn.filter(|shown| !self.cases(shown.scenario.name()).is_empty());
        measured.map(|shown| panel(self, shown)).collect()
    }
}

fn panel(run: &Run, shown: &Shown) -> Panel {
    let scenario = shown.scenario.name();
    let cases = run.cases(scenario);
    let values = |case, setup: &str| run.values(Point { scenario, case, figure: shown.figure }, setup);
    let has_values = |setup: &&String| cases.iter().any(|case| !values(case, setup).is_empty());
    let setups: Vec<&str> = run.setups.iter().filter(has_values).map(String::as_str).collect();
    let mut panel = Panel::new(shown.title, Scale::Linear, &setups, &cases);
    for (row, setup) in setups.iter().enumerate() {
        for (series, case) in cases.iter().enumerate() {
            values(case, setup).into_values().for_each(|value| panel.dot(row, series, value, false));
        }
    }
    panel
}

fn figures(run: &Run, shown: &Shown) -> Table {
    table(run, shown, |point, setup| {
        let spread = run.spread(point, setup)?;
        let digits = shown.digits;
        Some(format!("{:.digits$} ({:.digits$} – {:.digits$})", spread.median, spread.lowest, spread.highest))
    })
}

fn ratios(run: &Run, shown: &Shown) -> Table {
    let ours = SetupKind::PgLeaderProxy.name();
    table(run, shown, |point, setup| {
        run.spread(point, setup)?;
        let show = |one: &str, to: &str| {
            let ratio = run.ratio(point, one, to).filter(|_| one != to);
            ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{:.2}", ratio.median))
        };
        Some(format!("{} / {}", show(setup, SetupKind::Direct.name()), show(ours, setup)))
    })
}

/// A row for each setup that has a cell, a column for each case.
fn table(run: &Run, shown: &Shown, cell: impl Fn(Point<'_>, &str) -> Option<String>) -> Table {
    let scenario = shown.scenario.name();
    let cases = run.cases(scenario);
    let mut table = Table::new(&[&[""], &*cases].concat());
    for setup in &run.setups {
        let point = |case| Point { scenario, case, figure: shown.figure };
        let row: Vec<Option<String>> = cases.iter().map(|case| cell(point(case), setup)).collect();
        if row.iter().any(Option::is_some) {
            let row = row.into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
            table.push([setup.clone()].into_iter().chain(row).collect());
        }
    }
    table
}

fn conditions(run: &Run) -> String {
    let experiment = match &*run.proxy_settings {
        [] => String::new(),
        settings => format!(" An experiment: the proxy ran with {}.", settings.join(", ")),
    };
    let select = run.measurements.iter().filter(|measurement| measurement.scenario == Select.name());
    let busy = spread(select.filter_map(|measurement| measurement.figures.get("busy_share").copied()));
    let busy = busy.map_or_else(String::new, |busy| {
        format!(" Under the select-only load the cores were {:.0} % busy.", busy.median * 100.0)
    });
    format!(
        "{} Network: {}. {} rounds of {} s for each load.{busy}{experiment}",
        run.machine, run.network, run.sizes.rounds, run.sizes.seconds
    )
}
