//! The page for people: the decision and why at the top, then members, sessions and the last changes of leader.

use std::fmt::{self, Write as _};

use super::answers::{FailoverAnswer, FailoversAnswer, MemberAnswer, RoutingAnswer};
use super::words::{Age, Bytes, Of};

/// How many changes of leader are shown.
const SHOWN: usize = 5;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>pg-leader-proxy</title>
<style>
:root { color-scheme: light dark; --well: #17803d; --ill: #b42318; --calm: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.1rem; margin: 0; font-weight: 600; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
.decision { border-left: .4rem solid var(--well); padding: .5rem 1rem; background: var(--calm); }
.decision.ill { border-color: var(--ill); } .decision p { margin: .2rem 0; } .big { font-size: 1.4rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .75rem .25rem 0; }
th { font-weight: 500; opacity: .7; } tr { border-bottom: 1px solid var(--calm); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.well { color: var(--well); } .ill { color: var(--ill); } .decision.ill { color: inherit; }
@media (prefers-color-scheme: dark) { :root { --well: #4ade80; --ill: #f97066; } }
small { opacity: .7; }
</style></head><body>
"#;

/// The page, whole.
pub(super) fn page(routing: &RoutingAnswer, failovers: &FailoversAnswer) -> String {
    let mut html = String::from(HEAD);
    // Writing to a `String` cannot fail.
    let _ = body(&mut html, routing, failovers);
    html
}

fn body(html: &mut String, routing: &RoutingAnswer, failovers: &FailoversAnswer) -> fmt::Result {
    decision(html, routing)?;
    members(html, routing)?;
    sessions(html, routing)?;
    changes(html, failovers)?;
    writeln!(
        html,
        "<p><small>pg-leader-proxy {}, up {} · <a href=\"/routing\">/routing</a> <a href=\"/failovers\">/failovers</a> \
         <a href=\"/metrics\">/metrics</a></small></p></body></html>",
        Text(&routing.version),
        Age(routing.uptime_ms)
    )
}

fn decision(html: &mut String, routing: &RoutingAnswer) -> fmt::Result {
    let write = &routing.write;
    let well = write.reason.is_none() && routing.two_primaries.is_empty() && routing.phase == "serving";
    write!(html, "<div class=\"decision{}\"><h1>Writes</h1>", if well { "" } else { " ill" })?;
    match &write.leader {
        Some(leader) => write!(
            html,
            "<p class=\"big\">go to <b>{}</b> at {}</p><p>timeline {}, epoch {}, confirmed by {}; trusted for {}</p>",
            Text(&leader.member),
            Text(&leader.address),
            leader.timeline,
            leader.epoch,
            if leader.basis == "lease" {
                "its lease in etcd and its own word"
            } else {
                "every member's word"
            },
            Age(write.trusted_for_ms.unwrap_or_default())
        )?,
        None => html.write_str("<p class=\"big\">wait</p>")?,
    }
    if let Some(reason) = &write.reason {
        write!(html, "<p>because {}</p>", Text(&reason.text))?;
    }
    if !routing.two_primaries.is_empty() {
        html.write_str("<p class=\"ill\"><b>Two primaries:</b>")?;
        for primary in &routing.two_primaries {
            write!(html, " {} on timeline {};", Text(&primary.member), primary.timeline)?;
        }
        html.write_str("</p>")?;
    }
    if routing.phase != "serving" {
        write!(html, "<p>This proxy is {}: it takes no new sessions.</p>", Text(&routing.phase))?;
    }
    writeln!(html, "<p><small>{}</small></p></div>", Text(&store(routing)))
}

/// What etcd says, in one line.
fn store(routing: &RoutingAnswer) -> String {
    let evidence = &routing.evidence;
    if routing.policy.witnesses == "servers" {
        return "followed without etcd: every member must answer".to_owned();
    }
    let mut line = match (evidence.dcs.as_str(), evidence.dcs_silent_for_ms) {
        ("live", _) => "etcd answers".to_owned(),
        (_, Some(silent)) => format!("etcd has been silent for {}", Age(silent)),
        (_, None) => "etcd has not answered yet".to_owned(),
    };
    if let Some(key) = &evidence.leader_key {
        line.push_str(&format!("; {} holds the leader key for {}", key.holder, Age(key.age_ms)));
    }
    if let Some(lease) = &evidence.lease {
        line.push_str(&format!("; its lease lasts {} more", Age(lease.remaining_ms)));
    }
    for (is, what) in [
        (evidence.paused, "maintenance mode"),
        (evidence.standby_cluster, "standby cluster"),
        (evidence.switchover_announced, "a switchover was asked for"),
    ] {
        if is {
            line.push_str("; ");
            line.push_str(what);
        }
    }
    line
}

fn members(html: &mut String, routing: &RoutingAnswer) -> fmt::Result {
    html.write_str(
        "<h2>Members</h2><table><tr><th>member</th><th>address</th><th>is</th><th class=\"number\">timeline</th>\
         <th class=\"number\">lag</th><th class=\"number\">last word</th><th>reads</th></tr>\n",
    )?;
    for member in &routing.evidence.members {
        let reads = routing.read.servers.iter().find(|server| server.member == member.member);
        let reads = match reads {
            Some(server) if server.admits => "takes new sessions",
            Some(_) => "keeps its sessions",
            None => "–",
        };
        row(html, member, reads)?;
    }
    html.write_str("</table>\n")
}

fn row(html: &mut String, member: &MemberAnswer, reads: &str) -> fmt::Result {
    let word = member.word.as_ref();
    let timeline = word.and_then(|word| word.timeline);
    let lag = word.and_then(|word| word.lag_bytes);
    let dash = || "–".to_owned();
    writeln!(
        html,
        "<tr><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td><td>{reads}</td></tr>",
        Text(&member.member),
        Text(&member.address),
        if member.healthy { "well" } else { "ill" },
        Text(&member.summary),
        timeline.map_or_else(dash, |timeline| timeline.to_string()),
        lag.map_or_else(dash, |lag| Bytes(lag).to_string()),
        word.map_or_else(dash, |word| format!("{} ago", Age(word.age_ms))),
    )
}

fn sessions(html: &mut String, routing: &RoutingAnswer) -> fmt::Result {
    html.write_str(
        "<h2>Sessions</h2><table><tr><th>route</th><th class=\"number\">open</th><th class=\"number\">waiting</th>\
         <th class=\"number\">accepted</th><th class=\"number\">severed</th><th class=\"number\">turned away</th>\
         <th class=\"number\">to servers</th><th class=\"number\">to clients</th></tr>\n",
    )?;
    for (route, counted) in &routing.sessions {
        write!(html, "<tr><td>{}</td>", Text(route))?;
        let refused = counted.refusals.values().sum();
        for number in [counted.open, counted.held, counted.accepted, counted.severed, refused] {
            write!(html, "<td class=\"number\">{number}</td>")?;
        }
        for bytes in [counted.bytes_to_server, counted.bytes_to_client] {
            write!(html, "<td class=\"number\">{}</td>", Bytes(bytes))?;
        }
        html.write_str("</tr>\n")?;
    }
    html.write_str("</table>\n")
}

fn changes(html: &mut String, failovers: &FailoversAnswer) -> fmt::Result {
    write!(html, "<h2>Changes of leader: {}</h2>", failovers.total)?;
    for failover in failovers.failovers.iter().rev().take(SHOWN) {
        change(html, failover)?;
    }
    Ok(())
}

fn change(html: &mut String, failover: &FailoverAnswer) -> fmt::Result {
    let to = failover.to.as_ref().map_or("nobody yet", |to| to.member.as_str());
    let from = Text(&failover.from.member);
    write!(html, "<p><b>{from} → {}</b>, {} ago", Text(to), Age(failover.age_ms))?;
    if let Some(gap) = failover.gap_ms {
        write!(html, ", no service for <b>{}</b>", Age(gap))?;
    }
    write!(html, "; {} severed, {} waited", Of(failover.severed, "session"), Of(failover.waited, "client"))?;
    writeln!(html, "<br><small>because {}</small></p><table>", Text(&failover.cause.text))?;
    for step in &failover.steps {
        writeln!(
            html,
            "<tr><td class=\"number\">{:+} ms</td><td>{}</td></tr>",
            step.at_ms,
            Text(&step.text)
        )?;
    }
    html.write_str("</table>\n")
}

/// Text that HTML shows as it is.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
