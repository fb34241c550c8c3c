//! The parts of pages that are made from the code, each between two comments.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use nomad_driver_pg_leader_proxy::plugin_config::{self, Key};
use pg_leader_proxy::admin::metrics::{GROUPS, Group};
use pg_leader_proxy::config::{Program, replacements};

const END: &str = "<!-- made: end -->";

/// Every made part: the page it stands in, its name, its text.
#[must_use]
pub fn made() -> Vec<(&'static str, &'static str, String)> {
    vec![
        ("docs/src/reference/command-line.md", "help", help()),
        ("docs/src/reference/driver.md", "plugin block", plugin_block()),
        ("docs/src/reference/metrics.md", "metrics", metrics()),
        ("docs/src/how-to/replace-haproxy.md", "settings", replacements(Program::Haproxy)),
        ("docs/src/how-to/replace-pgbouncer.md", "settings", replacements(Program::Pgbouncer)),
        ("docs/src/how-to/replace-patroni-proxy.md", "settings", replacements(Program::PatroniProxy)),
    ]
}

/// `text` with the made part `name` replaced.
///
/// # Errors
/// When the page has no such part.
pub fn rewrite(text: &str, name: &str, part: &str) -> Result<String> {
    let begin = format!("<!-- made: {name} -->");
    let (before, rest) = text.split_once(&begin).with_context(|| format!("there is no {begin}"))?;
    let Some((_, after)) = rest.split_once(END) else { bail!("{begin} has no {END}") };
    Ok(format!("{before}{begin}\n\n{part}\n{END}{after}"))
}

/// What `--help` prints: of the program, and of each command without the flags that are settings.
fn help() -> String {
    let mut command = pg_leader_proxy::cli::command();
    // Only then its commands know whose they are.
    command.build();
    let mut text = String::new();
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect();
    push(&mut text, None, &command.render_long_help().to_string());
    for name in names {
        let sub = command.find_subcommand_mut(&name);
        let help = sub.map(|sub| sub.render_long_help().to_string()).unwrap_or_default();
        push(&mut text, Some(&name), &help);
    }
    text
}

fn push(text: &mut String, command: Option<&str>, help: &str) {
    // Under headings of their own: the settings, which the page of the configuration lists.
    let own = help.split("\n[").next().unwrap_or_default().trim_end();
    let title =
        command.map_or_else(|| "pg-leader-proxy".to_owned(), |name| format!("pg-leader-proxy {name}"));
    let lines: Vec<&str> = own.lines().map(str::trim_end).collect();
    // Writing to a `String` cannot fail.
    let _ = write!(text, "## `{title}`\n\n```text\n{}\n```\n\n", lines.join("\n"));
}

/// The keys of the agent's `plugin` block.
fn plugin_block() -> String {
    let mut table = String::from("| key | default | what it does |\n| --- | --- | --- |\n");
    for Key { name, default, doc } in plugin_config::KEYS {
        // Writing to a `String` cannot fail.
        let _ = writeln!(table, "| `{name}` | `{default}` | {doc} |");
    }
    table
}

/// A table of metrics for each group.
fn metrics() -> String {
    let mut text = String::new();
    for Group { title, metrics } in GROUPS {
        let head = "| name | type | labels | unit | meaning | when to worry |\n| --- | --- | --- | --- | --- | --- |\n";
        // Writing to a `String` cannot fail.
        let _ = write!(text, "## {title}\n\n{head}");
        for metric in *metrics {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let cells = [
                &format!("`{}`", metric.name),
                metric.kind().word(),
                &labels.join(", "),
                metric.unit(),
                metric.meaning,
                &format!("{}.", metric.worry),
            ];
            let cells: Vec<String> = cells
                .iter()
                .map(|cell| if cell.is_empty() { String::new() } else { format!("{cell} ") })
                .collect();
            let _ = writeln!(text, "| {}|", cells.join("| "));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_between_its_comments() {
        let text = "a\n<!-- made: x -->\nold\n<!-- made: end -->\nb\n";
        let new = rewrite(text, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- made: x -->\n\nnew\n\n<!-- made: end -->\nb\n");
        assert_eq!(rewrite(&new, "x", "new\n").unwrap(), new);
        assert!(rewrite(text, "y", "").is_err());
    }
}
