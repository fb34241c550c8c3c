//! The dashboard for Grafana, made from the table of metrics: a panel for each.

use pg_leader_proxy::admin::metrics::{GROUPS, Kind, Metric};
use serde_json::{Value, json};

/// Where the dashboard is, from the root of the repository.
pub const DASHBOARD: &str = "nomad/observability/dashboard.json";

/// What is shown first, for whoever opens the dashboard at night.
const OVERVIEW: [&str; 8] = [
    "member_leader",
    "hold_reason",
    "alarm",
    "member_healthy",
    "sessions",
    "held_clients",
    "rejections_total",
    "relayed_bytes_total",
];

/// The width of the dashboard, in Grafana's columns.
const WIDTH: usize = 24;
/// The width of a panel.
const PANEL_WIDTH: usize = 6;
/// The height of a panel, in Grafana's rows.
const PANEL_HEIGHT: usize = 8;

/// What selects the series of the proxies that are chosen at the top of the dashboard.
const CHOSEN: &str = r#"cluster=~"$cluster",instance=~"$instance""#;

/// The dashboard as Grafana imports it.
#[must_use]
pub fn dashboard() -> Value {
    let metrics = || GROUPS.iter().flat_map(|group| group.metrics);
    let overview = OVERVIEW.iter().filter_map(|name| metrics().find(|metric| metric.name == *name));
    let mut layout = Layout::default();
    layout.row("Overview", overview);
    for group in GROUPS {
        let others = group.metrics.iter().filter(|metric| !OVERVIEW.contains(&metric.name));
        layout.row(group.title, others);
    }
    json!({
        "title": "pg-leader-proxy",
        "uid": "pg-leader-proxy",
        "tags": ["patroni", "pg-leader-proxy", "postgresql"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "10s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [source(), variable("cluster", ""), variable("instance", "{cluster=~\"$cluster\"}")] },
        "annotations": { "list": [leader_changes()] },
        "panels": layout.panels,
    })
}

/// Puts panels side by side, row by row.
#[derive(Default)]
struct Layout {
    panels: Vec<Value>,
    y: usize,
}

impl Layout {
    fn row<'a>(&mut self, title: &str, metrics: impl Iterator<Item = &'a Metric>) {
        let position = json!({ "x": 0, "y": self.y, "w": WIDTH, "h": 1 });
        self.add(json!({ "type": "row", "title": title, "collapsed": false, "panels": [] }), &position);
        self.y += 1;
        let mut x = 0;
        for metric in metrics {
            if x == WIDTH {
                (x, self.y) = (0, self.y + PANEL_HEIGHT);
            }
            let position = json!({ "x": x, "y": self.y, "w": PANEL_WIDTH, "h": PANEL_HEIGHT });
            self.add(panel(metric), &position);
            x += PANEL_WIDTH;
        }
        self.y += PANEL_HEIGHT;
    }

    fn add(&mut self, mut panel: Value, position: &Value) {
        panel["id"] = json!(self.panels.len() + 1);
        panel["gridPos"] = position.clone();
        self.panels.push(panel);
    }
}

fn panel(metric: &Metric) -> Value {
    let targets = queries(metric).into_iter().enumerate().map(|(index, (quantile, expr))| {
        let named = metric.labels.iter().map(|label| format!("{{{{{label}}}}}"));
        let legend: Vec<String> =
            ["{{instance}}".to_owned()].into_iter().chain(named).chain(quantile.map(str::to_owned)).collect();
        json!({
            "refId": char::from(b'A' + index as u8).to_string(),
            "datasource": { "type": "prometheus", "uid": "${datasource}" },
            "expr": expr,
            "legendFormat": legend.join(" "),
        })
    });
    json!({
        "type": "timeseries",
        "title": title(metric),
        "description": format!("{}.", metric.help()),
        "datasource": { "type": "prometheus", "uid": "${datasource}" },
        "targets": targets.collect::<Vec<_>>(),
        "fieldConfig": { "defaults": { "unit": unit(metric), "min": 0 }, "overrides": [] },
        "options": {
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        },
    })
}

/// The queries of a metric's panel, each with what its legend adds.
fn queries(metric: &Metric) -> Vec<(Option<&'static str>, String)> {
    let name = metric.full_name();
    let by: Vec<&str> = ["cluster", "instance"].iter().chain(metric.labels).copied().collect();
    let by = by.join(", ");
    match metric.kind() {
        Kind::Counter => vec![(None, format!("sum by ({by}) (rate({name}{{{CHOSEN}}}[$__rate_interval]))"))],
        Kind::Gauge if metric.name == "process_start_time_seconds" => {
            // Grafana wants milliseconds.
            vec![(None, format!("1000 * max by ({by}) ({name}{{{CHOSEN}}})"))]
        }
        Kind::Gauge => match metric.labels.last().filter(|label| ["alarm", "reason"].contains(label)) {
            None => vec![(None, format!("max by ({by}) ({name}{{{CHOSEN}}})"))],
            // Dozens of series of which one at most is not 0: only that one is shown, or a single 0.
            Some(label) => {
                let none = format!("max without ({label}, job) ({name}{{{CHOSEN}}}) == 0");
                vec![(None, format!("(max by ({by}) ({name}{{{CHOSEN}}}) > 0) or ({none})"))]
            }
        },
        Kind::Histogram => [("50 %", "0.5"), ("99 %", "0.99")]
            .map(|(legend, quantile)| {
                let rate = format!("rate({name}_bucket{{{CHOSEN}}}[$__rate_interval])");
                (Some(legend), format!("histogram_quantile({quantile}, sum by (le, {by}) ({rate}))"))
            })
            .into(),
    }
}

/// The name in words, without what the axis says.
fn title(metric: &Metric) -> String {
    let name = metric.name.trim_end_matches("_total").trim_end_matches("_seconds").trim_end_matches("_bytes");
    let words = name.replace('_', " ");
    let (first, rest) = words.split_at(1);
    first.to_uppercase() + rest
}

/// Grafana's name of the unit.
fn unit(metric: &Metric) -> &'static str {
    match (metric.unit(), metric.kind()) {
        _ if metric.name == "process_start_time_seconds" => "dateTimeAsIso",
        ("bytes", Kind::Counter) => "Bps",
        ("bytes", _) => "bytes",
        // A second in each second.
        ("seconds", Kind::Counter) => "percentunit",
        ("seconds", _) => "s",
        (_, Kind::Counter) => "cps",
        _ => "short",
    }
}

fn source() -> Value {
    json!({ "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus" })
}

/// A variable with every value of the label `name`.
fn variable(name: &str, among: &str) -> Value {
    json!({
        "name": name,
        "label": name,
        "type": "query",
        "datasource": { "type": "prometheus", "uid": "${datasource}" },
        "query": format!("label_values(pg_leader_proxy_build_info{among}, {name})"),
        "refresh": 2,
        "includeAll": true,
        "multi": true,
        "allValue": ".*",
        "current": { "text": "All", "value": "$__all" },
    })
}

/// A line across all panels at each change of leader.
fn leader_changes() -> Value {
    json!({
        "name": "Leader changes",
        "datasource": { "type": "prometheus", "uid": "${datasource}" },
        "enable": true,
        "iconColor": "orange",
        "expr": format!("max by (cluster) (changes(pg_leader_proxy_route_epoch{{{CHOSEN}}}[$__interval])) > 0"),
        "titleFormat": "{{cluster}}: another leader",
        "step": "10s",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_one_panel() {
        let dashboard = dashboard();
        let panels = dashboard["panels"].as_array().unwrap();
        let expressions: Vec<&str> =
            panels.iter().filter_map(|panel| panel["targets"][0]["expr"].as_str()).collect();
        for metric in GROUPS.iter().flat_map(|group| group.metrics) {
            let name = metric.full_name();
            let shows = |expr: &&&str| {
                [format!("{name}{{"), format!("{name}_bucket{{")]
                    .iter()
                    .any(|used| expr.match_indices(used.as_str()).any(|(at, _)| expr[..at].ends_with('(')))
            };
            assert_eq!(expressions.iter().filter(shows).count(), 1, "{name}");
        }
        assert!(OVERVIEW.iter().all(|name| {
            GROUPS.iter().flat_map(|group| group.metrics).any(|metric| metric.name == *name)
        }));
    }

    #[test]
    fn panels_do_not_overlap() {
        let dashboard = dashboard();
        let mut taken = std::collections::BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(x < WIDTH as u64 && taken.insert((x, y)), "{} overlaps", panel["title"]);
                }
            }
        }
    }
}
