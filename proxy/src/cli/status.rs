//! `status`: what a running proxy does, and why, for people; of one proxy or of all on this machine, once or again and again.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::ArgMatches;
use serde::Deserialize as _;

use super::exit::Exit;
use super::is_broken_pipe;
use super::report::{tell, tell_failover, tell_failovers};
use super::running::{RunningAdmin, origins_of_running};
use super::{Start, arguments};
use crate::admin::answers::{FailoversAnswer, RoutingAnswer};
use crate::config::{ConfigError, Origins};

/// Clears a terminal and goes to its first line (ECMA-48: CUP, ED).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Asks the proxy, or all proxies, and prints what they answer.
pub(super) fn status(
    start: &Start,
    matches: &ArgMatches,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let proxies = match matches.get_one::<PathBuf>("all") {
        Some(directory) => instances(directory, &arguments::origins(matches, start))?,
        None => vec![(None, origins_of_running(matches, start))],
    };
    let json = matches.get_flag("json");
    let mut once = |out: &mut dyn Write| {
        let mut worst = Exit::Success;
        for (name, origins) in &proxies {
            if let Some(name) = name.as_ref().filter(|_| !json) {
                writeln!(out, "== {name}")?;
            }
            worst = worse(worst, of_one(matches, origins, (&mut *out, &mut *err))?);
        }
        anyhow::Ok(worst)
    };
    let Some(seconds) = matches.get_one::<u64>("watch") else { return once(out) };
    loop {
        if io::stdout().is_terminal() {
            write!(out, "{CLEAR}")?;
        }
        once(out)?;
        out.flush()?;
        thread::sleep(Duration::from_secs(*seconds));
    }
}

/// The proxies whose configurations are in `directory`, by name.
fn instances(directory: &Path, origins: &Origins) -> anyhow::Result<Vec<(Option<String>, Origins)>> {
    let reading = || format!("cannot list the configurations in {}", directory.display());
    let mut files = Vec::new();
    for entry in directory.read_dir().with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    anyhow::ensure!(!files.is_empty(), "there is no configuration (*.toml) in {}", directory.display());
    files.sort();
    let instance = |path: PathBuf| {
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        (name, Origins { file: Some(path), ..origins.clone() })
    };
    Ok(files.into_iter().map(instance).collect())
}

/// The exit code that says most: a proxy that does not answer, then one whose clients wait.
const fn worse(one: Exit, other: Exit) -> Exit {
    if other.code() > one.code() { other } else { one }
}

fn of_one(
    matches: &ArgMatches,
    origins: &Origins,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<Exit> {
    let admin = match RunningAdmin::find(matches, origins) {
        Ok(admin) => admin,
        Err(errors) => return complain(&errors, err),
    };
    match ask(&admin) {
        Ok(answer) => {
            let exit = if answer.waits() { Exit::Waiting } else { Exit::Success };
            match print(&answer, matches.get_flag("json"), out) {
                Ok(()) => Ok(exit),
                Err(error) if is_broken_pipe(&error) => Ok(exit),
                Err(error) => {
                    writeln!(err, "pg-leader-proxy: {error:#}")?;
                    Ok(Exit::Unprinted)
                }
            }
        }
        Err(error) => {
            writeln!(err, "pg-leader-proxy: {error:#}")?;
            Ok(Exit::Unreachable)
        }
    }
}

fn complain(errors: &[ConfigError], err: &mut dyn Write) -> anyhow::Result<Exit> {
    errors.iter().try_for_each(|error| writeln!(err, "{error}"))?;
    Ok(Exit::Configuration)
}

/// `failovers`: the changes of leader, or one of them step by step.
pub(super) fn failovers(
    start: &Start,
    matches: &ArgMatches,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let origins = origins_of_running(matches, start);
    let asked = match RunningAdmin::find(matches, &origins) {
        Ok(admin) => admin.get("/failovers"),
        Err(errors) => return complain(&errors, err),
    };
    let body = match asked {
        Ok(body) => body,
        Err(error) => {
            writeln!(err, "pg-leader-proxy: {error:#}")?;
            return Ok(Exit::Unreachable);
        }
    };
    if matches.get_flag("json") {
        writeln!(out, "{:#}", serde_json::from_str::<serde_json::Value>(&body)?)?;
        return Ok(Exit::Success);
    }
    let answer: FailoversAnswer = serde_json::from_str(&body).context(OTHER_VERSION)?;
    let Some(number) = matches.get_one::<u64>("number") else {
        tell_failovers(out, &answer)?;
        return Ok(Exit::Success);
    };
    match answer.numbered().find(|(known, _)| known == number) {
        Some((_, failover)) => {
            tell_failover(out, failover)?;
            Ok(Exit::Success)
        }
        None => {
            let numbers: Vec<String> = answer.numbered().map(|(number, _)| number.to_string()).collect();
            let known = if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") };
            writeln!(
                err,
                "pg-leader-proxy: no change of leader {number} is remembered (there are: {known})"
            )?;
            Ok(Exit::Failure)
        }
    }
}

const OTHER_VERSION: &str = "the proxy is of another version, whose answer this one cannot read; try --json";

/// What the proxy answered.
struct Answer {
    routing: serde_json::Value,
    failovers: serde_json::Value,
}

impl Answer {
    /// Whether new sessions of the write route wait.
    fn waits(&self) -> bool {
        !self.routing["write"]["reason"].is_null()
    }
}

fn ask(admin: &RunningAdmin) -> anyhow::Result<Answer> {
    let (routing, failovers) = (admin.get("/routing")?, admin.get("/failovers")?);
    Ok(Answer { routing: serde_json::from_str(&routing)?, failovers: serde_json::from_str(&failovers)? })
}

fn print(answer: &Answer, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let Answer { routing, failovers } = answer;
    if json {
        writeln!(out, "{:#}", serde_json::json!({ "routing": routing, "failovers": failovers }))?;
        return Ok(());
    }
    let (routing, failovers) = (RoutingAnswer::deserialize(routing), FailoversAnswer::deserialize(failovers));
    tell(out, &routing.context(OTHER_VERSION)?, &failovers.context(OTHER_VERSION)?)?;
    Ok(())
}
