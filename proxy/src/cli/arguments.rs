//! The command line: a flag for every key of the table, and the few flags that are not settings.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use super::Start;
use super::running::CONFIGURATIONS;
use crate::config::{BLOCKS, Block, FILE_VARIABLE, Form, KEYS, Key, Kind, Name, Origins, Shape};
use crate::files::FileReader;
use crate::import;

const ABOUT: &str = "Routes PostgreSQL clients to the leader of a Patroni cluster.";

const EXAMPLES: &str = "\
Examples:
  pg-leader-proxy run --config proxy.toml
  pg-leader-proxy run --member 127.0.0.1:5432 --member 127.0.0.2:5432 --probe-user monitor
  pg-leader-proxy check --config proxy.toml --connect
  pg-leader-proxy import /etc/haproxy/haproxy.cfg --output proxy.toml
  pg-leader-proxy status --watch
  pg-leader-proxy sessions --user anna
  pg-leader-proxy terminate 4711

Exit codes: 0 success, 1 failure or refused, 2 no proxy answers, 64 wrong command line, 78 wrong configuration.
`status`: 0 new sessions go to a leader, 1 they wait, 2 no proxy answers, 70 the answer cannot be printed.
Commands that talk to a running proxy read /etc/pg-leader-proxy/proxy.toml, if there is one and no other is named.";

/// The command line, for clap.
pub fn command() -> Command {
    Command::new("pg-leader-proxy")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(with_settings(
            Command::new("run").about(
                "Run the proxy in the foreground (SIGTERM stops it, SIGHUP reloads the configuration)",
            ),
        ))
        .subcommand(
            with_settings(Command::new("check").about("Check a configuration and print every error in it"))
                .arg(
                    Arg::new("connect")
                        .long("connect")
                        .action(ArgAction::SetTrue)
                        .help("Also check etcd, the servers and the addresses to listen on"),
                ),
        )
        .subcommand(import())
        .subcommand(status())
        .subcommand(failovers())
        .subcommands(operating())
        .subcommand(
            Command::new("completions")
                .about("Print the completions for a shell")
                .arg(Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell))),
        )
        .subcommand(Command::new("man").about("Write the manual pages into a directory").hide(true).arg(
            Arg::new("directory").value_name("DIRECTORY").required(true).value_parser(value_parser!(PathBuf)),
        ))
        .subcommand(Command::new("document").about("Print docs/src/reference/configuration.md").hide(true))
}

fn import() -> Command {
    Command::new("import")
        .about("Make a configuration from that of HAProxy, PgBouncer or patroni_proxy, and say what could not be carried over")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("haproxy.cfg, pgbouncer.ini or the YAML of patroni_proxy; - for the standard input"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("PROGRAM")
                .value_parser(PossibleValuesParser::new(import::Kind::ALL.map(|(word, _)| word)))
                .help("Whose configuration it is [default: by its content]"),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A new file to write the configuration to [default: standard output]"),
        )
}

fn status() -> Command {
    Command::new("status")
        .about(
            "Show what a running proxy does, and why (exit code 0: new sessions go to a leader, 1: they wait, 2: no proxy \
             answers)",
        )
        .arg(file())
        .arg(admin())
        .arg(token_file())
        .arg(json("Print the answers of /routing and /failovers as JSON"))
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("2")
                .value_parser(value_parser!(u64).range(1..=3600))
                .help("Ask again after this many seconds [default: 2], until it is interrupted"),
        )
        .arg(
            Arg::new("all")
                .long("all")
                .value_name("DIRECTORY")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(CONFIGURATIONS)
                .value_parser(value_parser!(PathBuf))
                .conflicts_with_all(["config", "admin", "token-file"])
                .help(format!("Ask every proxy with a configuration (*.toml) in DIRECTORY [default: {CONFIGURATIONS}]")),
        )
}

fn failovers() -> Command {
    Command::new("failovers")
        .about("List the changes of leader that a running proxy has seen, or explain one step by step")
        .arg(
            Arg::new("number")
                .value_name("NUMBER")
                .value_parser(value_parser!(u64))
                .help("The change to explain, by its number in the list"),
        )
        .arg(file())
        .arg(admin())
        .arg(token_file())
        .arg(json("Print the answer of /failovers as JSON"))
}

/// The commands for the control socket.
fn operating() -> Vec<Command> {
    let command = |name: &'static str, about: &'static str| {
        Command::new(name).about(about).arg(file()).arg(
            Arg::new("socket")
                .long("socket")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The control socket of the proxy [default: `control.socket` of the configuration]"),
        )
    };
    let member = || Arg::new("member").value_name("MEMBER").required(true).help("The member's name");
    let of_member = |help: &'static str| Arg::new("member").long("member").value_name("MEMBER").help(help);
    let of_user = |help: &'static str| Arg::new("user").long("user").value_name("USER").help(help);
    let choice = |id: &'static str, words: &'static [&'static str], help: &'static str| {
        Arg::new(id).long(id).value_name("WORD").value_parser(PossibleValuesParser::new(words)).help(help)
    };
    vec![
        command("sessions", "List the sessions of a running proxy, held clients included")
            .arg(of_member("Only sessions with this member"))
            .arg(of_user("Only sessions of this user (the user of an encrypted session is not known)"))
            .arg(choice(
                "state",
                &["starting", "held", "connecting", "relaying"],
                "Only sessions in this state",
            ))
            .arg(choice("route", &["write", "read"], "Only sessions of this route"))
            .arg(json("Print JSON")),
        command("pause", "Let all new sessions wait, on both routes; open ones go on"),
        command("resume", "End `pause`"),
        command("drain", "Send no new readers to a member; those that it has go on").arg(member()),
        command("undrain", "End `drain`").arg(member()),
        command("terminate", "End sessions, with the error of pg_terminate_backend")
            .arg(
                Arg::new("session")
                    .value_name("SESSION")
                    .value_parser(value_parser!(u64))
                    .help("The session with this number in the list of `sessions`"),
            )
            .arg(of_member("All sessions with this member"))
            .arg(of_user("All sessions of this user, unless they are encrypted"))
            .group(ArgGroup::new("which").args(["session", "member", "user"]).required(true)),
        command("reload", "Read the configuration again, as SIGHUP does, and say what came of it"),
        command("log-level", "Change what is logged until the next reload").arg(
            Arg::new("filter")
                .value_name("FILTER")
                .required(true)
                .help("As `log.filter`: a level such as debug, or info,pg_leader_proxy=debug"),
        ),
    ]
}

fn admin() -> Arg {
    Arg::new("admin").long("admin").value_name("ADDRESS").help(
        "The admin address of the proxy: 127.0.0.1:9433 or a URL [default: `admin.listen` of the configuration]",
    )
}

fn token_file() -> Arg {
    Arg::new("token-file").long("token-file").value_name("FILE").value_parser(value_parser!(PathBuf)).help(
        "A file that holds the token of the admin address [default: `admin.token_file` of the configuration, unless --admin is given]",
    )
}

fn json(help: &'static str) -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help(help)
}

fn file() -> Arg {
    Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help(format!("The configuration file (TOML) [env: {FILE_VARIABLE}]"))
}

fn with_settings(command: Command) -> Command {
    let names = BLOCKS.iter().flat_map(Block::keys).flat_map(Key::names);
    names
        .filter(|name| name.form != Form::Short)
        .fold(command.arg(file()), |command, name| command.arg(flag(name)))
}

/// The flag for a name of a key; an old name is not in the help. Its value stays text, because file and variables go
/// through the same parser later.
fn flag(name: Name) -> Arg {
    let key = name.key;
    let arg = Arg::new(name.path)
        .long(name.flag())
        .value_name(key.kind.placeholder())
        .help_heading(format!("[{}]", key.block()))
        .help(explanation(key))
        .action(ArgAction::Append)
        .hide(name.form == Form::Old);
    let arg = match (name.form, key.short_name()) {
        (Form::Present, Some(short)) => arg.visible_alias(short.flag()),
        _ => arg,
    };
    match key.kind.shape() {
        Shape::Boolean => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Shape::Text | Shape::Number | Shape::List | Shape::Map => arg.num_args(1),
    }
}

fn explanation(key: &Key) -> String {
    let mut text = key.doc.trim_end_matches('.').to_owned();
    if let Kind::Choice(words) = key.kind {
        text.push_str(&format!(" [{}]", words.join(", ")));
    }
    match (key.default, key.required) {
        (Some(default), _) => text.push_str(&format!(" [default: {default}]")),
        (None, true) => text.push_str(" [required]"),
        (None, false) => {}
    }
    format!("{text} [env: {}]", key.variable())
}

/// Where the settings come from, according to the command line.
pub fn origins(matches: &ArgMatches, start: &Start) -> Origins {
    let named = start.environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let names = KEYS.iter().flat_map(Key::names).filter(|name| name.form != Form::Short);
    let flags = names.filter_map(|name| {
        // `status` has no flags for settings.
        let given = matches.try_get_many::<String>(name.path).ok().flatten();
        let values: Vec<String> = given?.cloned().collect();
        Some((name.path, values))
    });
    Origins {
        file: matches.get_one::<PathBuf>("config").cloned().or(named),
        given: Vec::new(),
        flags: flags.collect(),
        environment: start.environment.clone(),
        not_unicode: start.not_unicode.clone(),
        files: FileReader::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        command().debug_assert();
    }

    #[test]
    fn every_key_has_a_flag_with_its_doc_default_and_variable() {
        let mut command = command();
        let help = command.find_subcommand_mut("run").unwrap().render_long_help().to_string();
        for key in KEYS {
            assert!(
                help.contains(&format!("--{} ", key.flag())) || help.contains(&format!("--{}[", key.flag()))
            );
            assert!(help.contains(&format!("[env: {}]", key.variable())), "{}", key.path);
        }
        for block in BLOCKS {
            assert!(help.contains(&format!("[{}]:", block.name)), "{}", block.name);
        }
    }
}
