//! The report of a run: each event as it happens, and the page and chart of the whole run.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::results::{Event, Kind, Run, SetupResult};
use super::setups::Setup;
use crate::chart::{Panel, Scale};
use crate::output::Results;
use crate::statistics::{NEVER, Spread, format_ms, spread};
use crate::table::Table;

/// The proxy's target, in milliseconds from the end of recovery to the first write: median and worst.
const TARGET_MS: (f64, f64) = (10.0, 25.0);

/// One event as text.
pub(crate) fn event(event: &Event) -> String {
    let at = |ms: Option<f64>| ms.map_or_else(|| "not seen".to_owned(), format_ms);
    let mut table = Table::new(&[
        "",
        "write downtime",
        "resumed: writers",
        "new clients",
        "25006",
        "stale leader",
        "errors",
        "terminated",
        "hung",
        "new clients failed",
        "longest",
    ]);
    for result in &event.results {
        // Marks a setup that did not work before the event.
        let mark = if result.worked_before { "" } else { " *" };
        let more = if result.still_down { "> " } else { "" };
        table.push(vec![
            result.setup.clone(),
            format!("{more}{}{mark}", format_ms(result.write_downtime_ms)),
            format!("{}{mark}", or_never(result.writers_resumed_ms)),
            format!("{}{mark}", or_never(result.new_clients_resumed_ms)),
            result.read_only.to_string(),
            result.stale_leader_writes.to_string(),
            result.errors_total().to_string(),
            result.terminated.to_string(),
            result.hung.to_string(),
            format!("{}/{}", result.new_clients_failed(), result.new_clients),
            format_ms(result.new_client_longest_ms),
        ]);
    }
    format!(
        "{number}. {what} {from} -> {to}: key deleted {deleted}, taken {taken}, left recovery {left} \
         (-{uncertainty:.1} ms), cores {busy:.0} % busy\n{table}",
        number = event.number,
        what = event.kind.name(),
        from = event.from,
        to = event.to,
        deleted = at(event.key_deleted_ms),
        taken = at(event.key_taken_ms),
        left = format_ms(event.left_recovery_ms),
        uncertainty = event.left_recovery_uncertainty_ms,
        busy = event.cpu_busy * 100.0,
    )
}

fn or_never(ms: Option<f64>) -> String {
    format_ms(ms.unwrap_or(NEVER))
}

/// A figure of one result, in milliseconds.
type Figure = fn(&SetupResult) -> f64;

const RESUMED: Figure = |result| result.resumed_ms().unwrap_or(NEVER);
const DOWNTIME: Figure = |result| if result.still_down { NEVER } else { result.write_downtime_ms };

impl Results for Run {
    fn page(&self) -> String {
        let mut page = format!(
            "# Failover: latest run\n\n[Method and meaning](../README.md#failover), [raw data](failover.json).\n\n{}\n",
            conditions(self)
        );
        let times: [(&str, Figure); 4] = [
            ("From the end of recovery to the first acknowledged write: any client", RESUMED),
            ("The same: writers, which had open sessions", |result| {
                result.writers_resumed_ms.unwrap_or(NEVER)
            }),
            ("The same: new clients", |result| result.new_clients_resumed_ms.unwrap_or(NEVER)),
            ("Write downtime: the longest time without an acknowledged write", DOWNTIME),
        ];
        for (title, figure) in times {
            let _ = write!(page, "\n## {title}\n\n{}", times_table(self, figure));
        }
        let _ = write!(page, "\n## Errors, over all events\n\n{}\n{}", errors_table(self), verdict(self));
        self.skipped.iter().for_each(|why| {
            let _ = write!(page, "\nNot evaluated: {why}\n");
        });
        page + "\n![Every event as a dot](failover.svg)\n\nA hollow dot: the setup did not work before the event.\n"
    }

    fn panels(&self) -> Vec<Panel> {
        [
            ("From the end of recovery to the first acknowledged write", 0.5, RESUMED),
            ("Write downtime", 500.0, DOWNTIME),
        ]
        .map(|(title, from, figure)| {
            let rows: Vec<&str> = self.setups.iter().map(String::as_str).collect();
            let mut panel = Panel::new(title, Scale::LogMs(from), &rows, &Kind::ALL.map(Kind::name));
            for (row, setup) in rows.iter().enumerate() {
                for (series, kind) in Kind::ALL.into_iter().enumerate() {
                    let results = self.results(setup, kind);
                    results.for_each(|result| panel.dot(row, series, figure(result), !result.worked_before));
                }
            }
            panel
        })
        .to_vec()
    }
}

fn conditions(run: &Run) -> String {
    let settings = &run.settings;
    let [ttl, loop_wait, retry_timeout] = settings.patroni_seconds;
    let busy = spread(run.events.iter().map(|event| event.cpu_busy * 100.0));
    let busy = busy.map_or_else(String::new, |busy| {
        format!(
            " Around the promotions the cores were {:.0} % (median) to {:.0} % (worst) busy.",
            busy.median, busy.highest
        )
    });
    let uncertainty = run.events.iter().map(|event| event.left_recovery_uncertainty_ms).fold(0.0, f64::max);
    // A run with other settings must not pass for an ordinary one.
    let experiment = match &*settings.proxy_settings {
        [] => String::new(),
        settings => format!(" An experiment: the proxy ran with {}.", settings.join(", ")),
    };
    format!(
        "{machine} {switchovers} switchovers and {crashes} leader crashes. Patroni: ttl {ttl} s, loop_wait {loop_wait} s, \
         retry_timeout {retry_timeout} s. For each setup {writers} writers with a pause of {pause} ms \
         ({pause_after_error} ms after an error) and a new client every {every} ms.{busy} The end of recovery is known to \
         {uncertainty:.1} ms or better.{experiment}",
        machine = run.machine,
        switchovers = run.count(Kind::Switchover),
        crashes = run.count(Kind::LeaderCrash),
        writers = settings.writers,
        pause = settings.pause_ms,
        pause_after_error = settings.pause_after_error_ms,
        every = settings.new_client_every_ms,
    )
}

fn times_table(run: &Run, figure: Figure) -> Table {
    let mut table = Table::new(&[
        "",
        "switchovers: median",
        "worst",
        "counted",
        "leader crashes: median",
        "worst",
        "counted",
    ]);
    for setup in &run.setups {
        let mut row = vec![setup.clone()];
        for kind in Kind::ALL {
            let counted = run.results(setup, kind).filter(|result| result.worked_before);
            let spread = spread(counted.map(figure));
            let show =
                |of: fn(Spread) -> f64| spread.map_or_else(|| "–".to_owned(), |spread| format_ms(of(spread)));
            row.push(show(|spread| spread.median));
            row.push(show(|spread| spread.highest));
            row.push(format!("{}/{}", spread.map_or(0, |spread| spread.count), run.count(kind)));
        }
        table.push(row);
    }
    table
}

fn errors_table(run: &Run) -> Table {
    let mut table = Table::new(&[
        "",
        "sent to a read-only server (25006)",
        "acknowledged by the former leader",
        "errors of writers",
        "of them sessions terminated",
        "hung",
        "new clients failed",
        "longest wait of a new client",
        "most frequent errors",
    ]);
    for setup in &run.setups {
        let all = all_results(run, setup);
        let sum = |of: fn(&SetupResult) -> usize| all.iter().map(|result| of(result)).sum::<usize>();
        let longest = all.iter().map(|result| result.new_client_longest_ms).fold(0.0, f64::max);
        table.push(vec![
            setup.clone(),
            sum(|result| result.read_only).to_string(),
            sum(|result| result.stale_leader_writes).to_string(),
            sum(SetupResult::errors_total).to_string(),
            sum(|result| result.terminated).to_string(),
            sum(|result| result.hung).to_string(),
            format!("{} of {}", sum(SetupResult::new_clients_failed), sum(|result| result.new_clients)),
            format_ms(longest),
            most_frequent_errors(&all),
        ]);
    }
    table
}

fn all_results<'a>(run: &'a Run, setup: &'a str) -> Vec<&'a SetupResult> {
    Kind::ALL.into_iter().flat_map(|kind| run.results(setup, kind)).collect()
}

fn most_frequent_errors(all: &[&SetupResult]) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, count) in all.iter().flat_map(|result| result.errors.iter().chain(&result.new_client_errors)) {
        *kinds.entry(kind).or_default() += count;
    }
    let mut kinds: Vec<(&str, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let texts: Vec<String> = kinds.iter().take(3).map(|(kind, count)| format!("{kind} × {count}")).collect();
    if texts.is_empty() { "–".to_owned() } else { texts.join(", ") }
}

/// Whether this project has reached its target.
fn verdict(run: &Run) -> String {
    let name = Setup::PgLeaderProxy.name();
    let all = all_results(run, name);
    let Some(times) = spread(all.iter().map(|result| RESUMED(result))) else { return String::new() };
    let wrong: usize = all.iter().map(|result| result.read_only + result.stale_leader_writes).sum();
    let failed: usize = all.iter().map(|result| result.new_clients_failed()).sum();
    let met = times.median <= TARGET_MS.0 && times.highest <= TARGET_MS.1 && wrong == 0 && failed == 0;
    format!(
        "The target of {name} is a first write within {} ms (median) and {} ms (worst) after the new leader has left \
         recovery, no write at a server that is not the leader, and no error for new clients. Over all {} events: {} and \
         {}, {wrong}, and {failed}: {}.\n",
        TARGET_MS.0,
        TARGET_MS.1,
        times.count,
        format_ms(times.median),
        format_ms(times.highest),
        if met { "reached" } else { "not reached" },
    )
}
