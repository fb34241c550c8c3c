//! The aims: what this project's proxy is to reach beside its peers, and whether it did.

use super::case::Scenario;
use super::contenders::Kind;
use super::record::{Point, Run};
use crate::table::Table;

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    /// The best peer in this figure.
    BestPeer,
    /// The better HAProxy.
    Haproxy,
    /// The floor.
    Floor,
    /// A number.
    Itself,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

struct Aim {
    title: &'static str,
    scenario: Scenario,
    /// How the cases begin that it is about.
    case: &'static str,
    figure: &'static str,
    against: Against,
    bound: Bound,
}

const fn aim(
    title: &'static str,
    (scenario, case, figure): (Scenario, &'static str, &'static str),
    against: Against,
    bound: Bound,
) -> Aim {
    Aim { title, scenario, case, figure, against, bound }
}

const TPS: &str = "transactions per second";
const CPU: &str = "proxy's processor time per transaction";
const COPY: &str = "proxy's processor time per GB of COPY";
const MEMORY: &str = "memory per idle session, in KB";

const AIMS: &[Aim] = &[
    aim(TPS, (Scenario::Select, "1 client", "per_second"), Against::BestPeer, Bound::AtLeast(1.05)),
    aim(TPS, (Scenario::Select, "16 clients", "per_second"), Against::BestPeer, Bound::AtLeast(1.05)),
    aim(CPU, (Scenario::Select, "1 client", "cpu_us"), Against::BestPeer, Bound::AtMost(0.9)),
    aim(CPU, (Scenario::Select, "1 client", "cpu_us"), Against::Floor, Bound::AtMost(1.1)),
    aim(CPU, (Scenario::Select, "16 clients", "cpu_us"), Against::BestPeer, Bound::AtMost(1.0)),
    aim(CPU, (Scenario::Select, "16 clients", "cpu_us"), Against::Floor, Bound::AtMost(1.1)),
    aim(COPY, (Scenario::Copy, "out", "cpu_s_per_gb"), Against::BestPeer, Bound::AtMost(1.0)),
    aim(
        "proxy's processor time per connection",
        (Scenario::Connect, "TLS", "cpu_us"),
        Against::Haproxy,
        Bound::AtMost(1.0),
    ),
    aim(MEMORY, (Scenario::Memory, "", "kb_per_session"), Against::Itself, Bound::AtMost(1.5)),
    aim("the same, stretched", (Scenario::Memory, "", "kb_per_session"), Against::Itself, Bound::AtMost(0.6)),
];

/// Each aim, what was reached, and against whom.
#[must_use]
pub fn table(run: &Run) -> Table {
    let mut table = Table::new(&["aim", "case", "against", "wanted", "median", "lowest – highest", ""]);
    for aim in AIMS {
        let scenario = aim.scenario.name();
        for case in run.cases(scenario).into_iter().filter(|case| case.starts_with(aim.case)) {
            let point = Point { scenario, case, figure: aim.figure };
            table.push(row(run, aim, point));
        }
    }
    table
}

fn row(run: &Run, aim: &Aim, point: Point<'_>) -> Vec<String> {
    let ours = Kind::PgLeaderProxy.name();
    let less_is_better = matches!(aim.bound, Bound::AtMost(_));
    let (against, reached) = match aim.against {
        Against::Itself => ("–", run.span(point, ours)),
        Against::Floor => (Kind::Floor.name(), run.ratio(point, ours, Kind::Floor.name())),
        Against::BestPeer | Against::Haproxy => {
            let peers = run
                .peers
                .iter()
                .filter(|peer| aim.against == Against::BestPeer || peer.starts_with("haproxy"));
            let medians = peers.filter_map(|peer| Some((&**peer, run.span(point, peer)?.median)));
            let best = if less_is_better {
                medians.min_by(|one, other| one.1.total_cmp(&other.1))
            } else {
                medians.max_by(|one, other| one.1.total_cmp(&other.1))
            };
            let best = best.map_or("–", |(peer, _)| peer);
            (best, run.ratio(point, ours, best))
        }
    };
    let (wanted, met) = match aim.bound {
        Bound::AtLeast(bound) => (format!("≥ {bound}"), reached.map(|span| span.median >= bound)),
        Bound::AtMost(bound) => (format!("≤ {bound}"), reached.map(|span| span.median <= bound)),
    };
    let met = met.map_or("not measured", |met| if met { "reached" } else { "not reached" });
    vec![
        aim.title.to_owned(),
        point.case.to_owned(),
        against.to_owned(),
        wanted,
        reached.map_or_else(|| "–".to_owned(), |span| format!("{:.2}", span.median)),
        reached.map_or_else(|| "–".to_owned(), |span| format!("{:.2} – {:.2}", span.lowest, span.highest)),
        met.to_owned(),
    ]
}
