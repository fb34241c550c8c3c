//! Tells a run: each event as it happens, and the whole in text and Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::contenders::Contender;
use crate::results::{Event, Kind, Run, Seen};
use crate::statistics::{Figure, Spread, spread};
use crate::table::Table;

/// What the proxy is to reach, in milliseconds from out of recovery to the first write: median and worst.
pub const AIM_MS: (f64, f64) = (10.0, 25.0);

/// One event as text.
#[must_use]
pub fn event(event: &Event) -> String {
    let what = match event.kind {
        Kind::Switchover => "switchover",
        Kind::Death => "leader death",
    };
    let at = |ms: Option<f64>| ms.map_or_else(|| "not seen".to_owned(), |ms| Figure::Ms(ms).to_string());
    let mut text = format!(
        "{number}. {what} {from} -> {to}: key gone {gone}, taken {taken}, out of recovery {out} (-{uncertain:.1} ms), \
         cores {busy:.0} % busy\n",
        number = event.number,
        from = event.from,
        to = event.to,
        gone = at(event.key_gone_ms),
        taken = at(event.key_taken_ms),
        out = at(Some(event.out_of_recovery_ms)),
        uncertain = event.out_of_recovery_uncertain_ms,
        busy = event.busy * 100.0,
    );
    let mut table = Table::new(&[
        "",
        "gap",
        "resumed: writers",
        "latecomers",
        "25006",
        "strays",
        "errors",
        "severed",
        "hung",
        "late failed",
        "late longest",
    ]);
    for seen in &event.seen {
        table.push(vec![
            seen.contender.clone(),
            gap(seen),
            resumed(seen, seen.writers_resumed_ms),
            resumed(seen, seen.latecomers_resumed_ms),
            seen.read_only.to_string(),
            seen.strays.to_string(),
            seen.errors_total().to_string(),
            seen.severed.to_string(),
            seen.hung.to_string(),
            format!("{}/{}", seen.latecomers_failed(), seen.latecomers),
            Figure::Ms(seen.latecomer_longest_ms).to_string(),
        ]);
    }
    let _ = writeln!(text, "{table}");
    text
}

fn gap(seen: &Seen) -> String {
    let more = if seen.gap_open { "> " } else { "" };
    format!("{more}{}{}", Figure::Ms(seen.gap_ms), mark(seen))
}

fn resumed(seen: &Seen, ms: Option<f64>) -> String {
    format!("{}{}", Figure::from(ms), mark(seen))
}

fn mark(seen: &Seen) -> &'static str {
    if seen.worked_before { "" } else { " *" }
}

/// The whole run as text.
#[must_use]
pub fn text(run: &Run) -> String {
    let mut text = format!("{}\n\n", conditions(run));
    for (title, table) in tables(run) {
        let _ = writeln!(text, "{title}\n{table}");
    }
    text + &verdict(run) + &skipped(run)
}

/// The whole run as Markdown.
#[must_use]
pub fn markdown(run: &Run) -> String {
    let mut text = format!("{}\n", conditions(run));
    for (title, table) in tables(run) {
        let _ = write!(text, "\n**{title}**\n\n{}", table.markdown());
    }
    text + "\n" + &verdict(run) + &skipped(run)
}

fn conditions(run: &Run) -> String {
    let machine = &run.machine;
    let programs: Vec<String> =
        machine.programs.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let [ttl, loop_wait, retry_timeout] = run.settings.patroni_seconds;
    let busy = spread(run.events.iter().map(|event| Figure::Ms(event.busy)).collect());
    let uncertain = run.events.iter().map(|event| event.out_of_recovery_uncertain_ms).fold(0.0, f64::max);
    format!(
        "{date} UTC, commit {commit}: {switchovers} switchovers and {deaths} leader deaths. {cores} cores of {processor}, \
         {memory} MiB, {system}, Linux {kernel}. {programs}. Patroni: ttl {ttl} s, loop_wait {loop_wait} s, \
         retry_timeout {retry_timeout} s. For each contender {writers} writers with a pause of {pause} ms \
         ({pause_after_error} ms after an error) and a latecomer every {every} ms. Around the promotions the cores were \
         {busy} busy; the moment of leaving recovery is known to {uncertain:.1} ms or better.{unusual}",
        date = machine.date,
        commit = machine.commit,
        switchovers = run.count(Kind::Switchover),
        deaths = run.count(Kind::Death),
        cores = machine.cores,
        processor = machine.processor,
        memory = machine.memory_mib,
        system = machine.system,
        kernel = machine.kernel,
        programs = programs.join(", "),
        writers = run.settings.writers,
        pause = run.settings.pause_ms,
        pause_after_error = run.settings.pause_after_error_ms,
        every = run.settings.latecomer_every_ms,
        busy = busy.map_or_else(String::new, percent),
        unusual = unusual(run),
    )
}

fn percent(share: Spread) -> String {
    match (share.median, share.worst) {
        (Figure::Ms(median), Figure::Ms(worst)) => {
            format!("{:.0} % (median) to {:.0} % (worst)", median * 100.0, worst * 100.0)
        }
        (_, Figure::Never) | (Figure::Never, _) => String::new(),
    }
}

/// A run with settings of its own must not pass for an ordinary one.
fn unusual(run: &Run) -> String {
    match &*run.settings.proxy_settings {
        [] => String::new(),
        settings => format!(" An experiment: the proxy ran with {}.", settings.join(", ")),
    }
}

fn tables(run: &Run) -> [(&'static str, Table); 5] {
    [
        (
            "From out of recovery to the first acknowledged write: any client",
            times(run, |seen| seen.resumed_ms().into()),
        ),
        (
            "The same: writers, whose sessions were open before",
            times(run, |seen| seen.writers_resumed_ms.into()),
        ),
        ("The same: latecomers, which connect anew", times(run, |seen| seen.latecomers_resumed_ms.into())),
        (
            "Downtime: the longest time without an acknowledged write",
            times(run, |seen| if seen.gap_open { Figure::Never } else { Figure::Ms(seen.gap_ms) }),
        ),
        ("What went wrong, over all events", counts(run)),
    ]
}

fn times(run: &Run, figure: impl Fn(&Seen) -> Figure) -> Table {
    let mut table = Table::new(&[
        "",
        "switchovers: median",
        "worst",
        "counted",
        "leader deaths: median",
        "worst",
        "counted",
    ]);
    for contender in &run.contenders {
        let mut row = vec![contender.clone()];
        for kind in [Kind::Switchover, Kind::Death] {
            let counted = run.seen(contender, kind).filter(|seen| seen.worked_before);
            let spread = spread(counted.map(&figure).collect());
            let show = |of: fn(Spread) -> Figure| {
                spread.map_or_else(|| "–".to_owned(), |spread| of(spread).to_string())
            };
            row.push(show(|spread| spread.median));
            row.push(show(|spread| spread.worst));
            row.push(format!("{}/{}", spread.map_or(0, |spread| spread.count), run.count(kind)));
        }
        table.push(row);
    }
    table
}

fn counts(run: &Run) -> Table {
    let mut table = Table::new(&[
        "",
        "sent to a read-only server (25006)",
        "acknowledged by the former leader",
        "errors of writers",
        "of them sessions severed",
        "hung",
        "latecomers failed",
        "latecomer's longest wait",
        "most frequent errors",
    ]);
    for contender in &run.contenders {
        let all: Vec<&Seen> = both(run, contender).collect();
        let sum = |of: fn(&Seen) -> usize| all.iter().map(|seen| of(seen)).sum::<usize>();
        let longest = all.iter().map(|seen| seen.latecomer_longest_ms).fold(0.0, f64::max);
        table.push(vec![
            contender.clone(),
            sum(|seen| seen.read_only).to_string(),
            sum(|seen| seen.strays).to_string(),
            sum(Seen::errors_total).to_string(),
            sum(|seen| seen.severed).to_string(),
            sum(|seen| seen.hung).to_string(),
            format!("{} of {}", sum(Seen::latecomers_failed), sum(|seen| seen.latecomers)),
            Figure::Ms(longest).to_string(),
            frequent(&all),
        ]);
    }
    table
}

fn both<'a>(run: &'a Run, contender: &'a str) -> impl Iterator<Item = &'a Seen> {
    run.seen(contender, Kind::Switchover).chain(run.seen(contender, Kind::Death))
}

fn frequent(all: &[&Seen]) -> String {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, count) in all.iter().flat_map(|seen| seen.errors.iter().chain(&seen.latecomer_errors)) {
        *kinds.entry(kind).or_default() += count;
    }
    let mut kinds: Vec<(&str, usize)> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words: Vec<String> = kinds.iter().take(3).map(|(kind, count)| format!("{kind} × {count}")).collect();
    if words.is_empty() { "–".to_owned() } else { words.join(", ") }
}

fn verdict(run: &Run) -> String {
    let name = Contender::PgLeaderProxy.name();
    let all: Vec<&Seen> = both(run, name).collect();
    let Some(spread) = spread(all.iter().map(|seen| seen.resumed_ms().into()).collect()) else {
        return String::new();
    };
    let read_only: usize = all.iter().map(|seen| seen.read_only + seen.strays).sum();
    let failed: usize = all.iter().map(|seen| seen.latecomers_failed()).sum();
    let met =
        spread.median.within(AIM_MS.0) && spread.worst.within(AIM_MS.1) && read_only == 0 && failed == 0;
    format!(
        "The aim of {name} is a first write within {} ms (median) and {} ms (worst) of the new leader's leaving recovery, \
         no write at a non-leader and no error for clients that connect meanwhile. Over all {} events: {} and {}, \
         {read_only} and {failed}: {}.\n",
        AIM_MS.0,
        AIM_MS.1,
        spread.count,
        spread.median,
        spread.worst,
        if met { "reached" } else { "not reached" },
    )
}

fn skipped(run: &Run) -> String {
    run.skipped.iter().map(|why| format!("\nNot judged: {why}\n")).collect()
}
