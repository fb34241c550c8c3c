//! The targets of this project's proxy, compared with its peers and with the lower bound, and whether they are reached.

use super::cases::Scenario;
use super::results::{Point, Run};
use super::setups::SetupKind;
use crate::table::Table;

/// What a figure is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Baseline {
    /// The best peer in this figure.
    BestPeer,
    /// The better HAProxy.
    Haproxy,
    /// The bare epoll loop.
    LowerBound,
    /// Nothing: the limit is a value of the figure itself.
    None,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

struct Target {
    title: &'static str,
    scenario: Scenario,
    /// The beginning of the names of its cases.
    case: &'static str,
    figure: &'static str,
    baseline: Baseline,
    limit: Limit,
}

const fn target(
    title: &'static str,
    (scenario, case, figure): (Scenario, &'static str, &'static str),
    baseline: Baseline,
    limit: Limit,
) -> Target {
    Target { title, scenario, case, figure, baseline, limit }
}

const TPS: &str = "transactions per second";
const CPU: &str = "proxy's processor time per transaction";
const CPU_CONNECT: &str = "proxy's processor time per connection";
const CPU_COPY: &str = "proxy's processor time per GB of COPY";
const MEMORY: &str = "memory per idle session, in KB";

const TARGETS: &[Target] = &[
    target(TPS, (Scenario::Select, "1 client", "per_second"), Baseline::BestPeer, Limit::AtLeast(1.05)),
    target(TPS, (Scenario::Select, "16 clients", "per_second"), Baseline::BestPeer, Limit::AtLeast(1.05)),
    target(CPU, (Scenario::Select, "1 client", "cpu_us"), Baseline::BestPeer, Limit::AtMost(0.9)),
    target(CPU, (Scenario::Select, "1 client", "cpu_us"), Baseline::LowerBound, Limit::AtMost(1.1)),
    target(CPU, (Scenario::Select, "16 clients", "cpu_us"), Baseline::BestPeer, Limit::AtMost(1.0)),
    target(CPU, (Scenario::Select, "16 clients", "cpu_us"), Baseline::LowerBound, Limit::AtMost(1.1)),
    target(CPU_COPY, (Scenario::Copy, "out", "cpu_s_per_gb"), Baseline::BestPeer, Limit::AtMost(1.0)),
    target(CPU_CONNECT, (Scenario::Connect, "TLS", "cpu_us"), Baseline::Haproxy, Limit::AtMost(1.0)),
    target(MEMORY, (Scenario::Memory, "", "kb_per_session"), Baseline::None, Limit::AtMost(1.5)),
    target("stretch target", (Scenario::Memory, "", "kb_per_session"), Baseline::None, Limit::AtMost(0.6)),
];

/// Each target, what it is compared with, and what was reached.
pub(crate) fn table(run: &Run) -> Table {
    let mut table =
        Table::new(&["target", "case", "compared with", "limit", "median", "lowest – highest", ""]);
    for target in TARGETS {
        let scenario = target.scenario.name();
        for case in run.cases(scenario).into_iter().filter(|case| case.starts_with(target.case)) {
            let point = Point { scenario, case, figure: target.figure };
            table.push(row(run, target, point));
        }
    }
    table
}

fn row(run: &Run, target: &Target, point: Point<'_>) -> Vec<String> {
    let ours = SetupKind::PgLeaderProxy.name();
    let (baseline, reached) = match target.baseline {
        Baseline::None => ("–", run.spread(point, ours)),
        Baseline::LowerBound => {
            let lower_bound = SetupKind::LowerBound.name();
            (lower_bound, run.ratio(point, ours, lower_bound))
        }
        Baseline::BestPeer | Baseline::Haproxy => {
            let best = best_peer(run, target, point);
            (best, run.ratio(point, ours, best))
        }
    };
    let (limit, met) = match target.limit {
        Limit::AtLeast(limit) => (format!("≥ {limit}"), reached.map(|spread| spread.median >= limit)),
        Limit::AtMost(limit) => (format!("≤ {limit}"), reached.map(|spread| spread.median <= limit)),
    };
    let met = met.map_or("not measured", |met| if met { "reached" } else { "not reached" });
    let dash = || "–".to_owned();
    vec![
        target.title.to_owned(),
        point.case.to_owned(),
        baseline.to_owned(),
        limit,
        reached.map_or_else(dash, |spread| format!("{:.2}", spread.median)),
        reached.map_or_else(dash, |spread| format!("{:.2} – {:.2}", spread.lowest, spread.highest)),
        met.to_owned(),
    ]
}

/// The peer, or the HAProxy, with the best median.
fn best_peer<'a>(run: &'a Run, target: &Target, point: Point<'_>) -> &'a str {
    let any = target.baseline == Baseline::BestPeer;
    let peers = run.peers.iter().filter(|peer| any || peer.starts_with("haproxy"));
    let medians = peers.filter_map(|peer| Some((&**peer, run.spread(point, peer)?.median)));
    let best = match target.limit {
        Limit::AtLeast(_) => medians.max_by(|one, other| one.1.total_cmp(&other.1)),
        Limit::AtMost(_) => medians.min_by(|one, other| one.1.total_cmp(&other.1)),
    };
    best.map_or("–", |(peer, _)| peer)
}
