//! Tells a run: each measurement as it is made, and the whole as text and Markdown.

use std::fmt::Write;

use super::aims;
use super::case::Scenario;
use super::contenders::Kind;
use super::record::{Measured, Point, Run};
use crate::table::Table;

/// A figure and how it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// In which kind of case.
    pub scenario: Scenario,
    /// Its name.
    pub figure: &'static str,
    /// Its title, with its unit.
    pub title: &'static str,
    /// Digits after the point.
    pub digits: usize,
    /// Whether ratios say more than the figure.
    pub ratios: bool,
}

const fn shown(scenario: Scenario, figure: &'static str, title: &'static str, digits: usize) -> Shown {
    Shown { scenario, figure, title, digits, ratios: true }
}

const fn plain(scenario: Scenario, figure: &'static str, title: &'static str, digits: usize) -> Shown {
    Shown { scenario, figure, title, digits, ratios: false }
}

/// Every figure, in the order in which they are shown.
pub const SHOWN: &[Shown] = &[
    shown(Scenario::Select, "per_second", "Select-only, prepared: transactions per second", 0),
    shown(Scenario::Select, "p50_us", "Select-only: median time of a transaction, µs", 0),
    shown(Scenario::Select, "p99_us", "Select-only: 99th percentile of the time, µs", 0),
    shown(Scenario::Select, "cpu_us", "Select-only: processor time of the proxy per transaction, µs", 1),
    shown(
        Scenario::Select,
        "machine_us",
        "Select-only: processor time of all programs per transaction, µs",
        1,
    ),
    shown(Scenario::Connect, "per_second", "Connect, log in, leave: per second", 0),
    shown(Scenario::Connect, "cpu_us", "Connect: processor time of the proxy per connection, µs", 0),
    shown(Scenario::Connect, "machine_us", "Connect: processor time of all programs per connection, µs", 0),
    shown(Scenario::Copy, "mb_per_second", "COPY: MB per second", 0),
    shown(Scenario::Copy, "cpu_s_per_gb", "COPY: processor time of the proxy per GB, s", 2),
    shown(Scenario::Copy, "machine_s_per_gb", "COPY: processor time of all programs per GB, s", 2),
    shown(Scenario::Memory, "kb_per_session", "Memory of an idle session, KB (Pss)", 2),
    plain(Scenario::Memory, "process_kb", "Memory without sessions, KB (Pss)", 0),
    plain(Scenario::Memory, "kept_kb", "Memory kept when all sessions have gone, KB (Pss)", 0),
    plain(Scenario::Sever, "first_ms", "Sever: from the word to the first session's end, ms", 1),
    plain(Scenario::Sever, "last_ms", "Sever: from the word to the last session's end, ms", 1),
    plain(Scenario::Hold, "first_ms", "Hold: from the release to the first client's answer, ms", 1),
    plain(Scenario::Hold, "last_ms", "Hold: from the release to the last client's answer, ms", 0),
    plain(Scenario::Hold, "most_making", "Hold: most connections at the leader that had not logged in", 0),
    plain(
        Scenario::Balance,
        "fullest_share",
        "Balance: share of the sessions on the fullest thread, mean",
        2,
    ),
    plain(
        Scenario::Balance,
        "all_on_one_share",
        "Balance: share of trials with all sessions on one thread",
        2,
    ),
];

/// One measurement as a line.
#[must_use]
pub fn line(measured: &Measured) -> String {
    let Measured { round, scenario, case, contender, figures, failed } = measured;
    let mut text = format!("{round}. {scenario}, {case}: {contender:16}");
    for (name, figure) in figures {
        let _ = write!(text, "  {name} {figure:.3}");
    }
    if let Some(why) = failed {
        let _ = write!(text, "  failed: {why}");
    }
    text
}

/// The whole run as text.
#[must_use]
pub fn text(run: &Run) -> String {
    let mut text = format!("{}\n\n", conditions(run));
    for (title, table) in tables(run) {
        let _ = writeln!(text, "{title}\n{table}");
    }
    text + &remarks(run)
}

/// The whole run as Markdown.
#[must_use]
pub fn markdown(run: &Run) -> String {
    let mut text = format!("{}\n", conditions(run));
    for (title, table) in tables(run) {
        let _ = write!(text, "\n**{title}**\n\n{}", table.markdown());
    }
    text + "\n" + &remarks(run)
}

fn tables(run: &Run) -> Vec<(String, Table)> {
    let mut tables = vec![("The aims".to_owned(), aims::table(run))];
    for shown in SHOWN.iter().filter(|shown| !run.cases(shown.scenario.name()).is_empty()) {
        tables.push((format!("{}: median (lowest – highest)", shown.title), figures(run, shown)));
        if shown.ratios {
            tables.push(("The same: to direct / pg-leader-proxy to it".to_owned(), ratios(run, shown)));
        }
    }
    tables
}

fn figures(run: &Run, shown: &Shown) -> Table {
    cells(run, shown, |point, contender| {
        let span = run.span(point, contender)?;
        let digits = shown.digits;
        Some(format!("{:.digits$} ({:.digits$} – {:.digits$})", span.median, span.lowest, span.highest))
    })
}

fn ratios(run: &Run, shown: &Shown) -> Table {
    let ours = Kind::PgLeaderProxy.name();
    cells(run, shown, |point, contender| {
        run.span(point, contender)?;
        let show = |one: &str, to: &str| {
            let ratio = run.ratio(point, one, to).filter(|_| one != to);
            ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{:.2}", ratio.median))
        };
        Some(format!("{} / {}", show(contender, Kind::Direct.name()), show(ours, contender)))
    })
}

/// A row for each contender that has something to show, a column for each case.
fn cells(run: &Run, shown: &Shown, cell: impl Fn(Point<'_>, &str) -> Option<String>) -> Table {
    let scenario = shown.scenario.name();
    let cases = run.cases(scenario);
    let mut table = Table::new(&[&[""], &*cases].concat());
    for contender in &run.contenders {
        let point = |case| Point { scenario, case, figure: shown.figure };
        let row: Vec<Option<String>> = cases.iter().map(|case| cell(point(case), contender)).collect();
        if row.iter().any(Option::is_some) {
            let row = row.into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
            table.push([contender.clone()].into_iter().chain(row).collect());
        }
    }
    table
}

fn conditions(run: &Run) -> String {
    let machine = &run.machine;
    let programs: Vec<String> =
        machine.programs.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let unusual = match &*run.proxy_settings {
        [] => String::new(),
        settings => format!(" An experiment: the proxy ran with {}.", settings.join(", ")),
    };
    let busy = |scenario: Scenario| {
        let of = run.measured.iter().filter(|measured| measured.scenario == scenario.name());
        let shares: Vec<f64> =
            of.filter_map(|measured| measured.figures.get("busy_share").copied()).collect();
        crate::statistics::span(shares).map(|span| span.median * 100.0)
    };
    let busy = busy(Scenario::Select).map_or_else(String::new, |busy| {
        format!(" Under the select-only load the cores were {busy:.0} % busy.")
    });
    format!(
        "{date} UTC, commit {commit}. {cores} cores of {processor}, {memory} MiB, {system}, Linux {kernel}. {programs}. \
         Network: {network}. {rounds} rounds of {seconds} s for each load.{busy}{unusual}",
        date = machine.date,
        commit = machine.commit,
        cores = machine.cores,
        processor = machine.processor,
        memory = machine.memory_mib,
        system = machine.system,
        kernel = machine.kernel,
        programs = programs.join(", "),
        network = run.network,
        rounds = run.sizes.rounds,
        seconds = run.sizes.seconds,
    )
}

/// Who did not take part, and what failed.
fn remarks(run: &Run) -> String {
    let failed = run.measured.iter().filter(|measured| measured.failed.is_some()).map(line);
    run.notes.iter().cloned().chain(failed).map(|remark| format!("\n{remark}\n")).collect()
}
