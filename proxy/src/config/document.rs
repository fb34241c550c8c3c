//! `docs/src/reference/configuration.md`, made from the table of keys.

use std::fmt::Write as _;

use super::environment::FILE_VARIABLE;
use super::keys::{Block, Change, Key, Kind};
use super::names::Form;
use super::table::{BLOCKS, KEYS};
use super::values::show_duration;

/// The smallest useful configuration, and a little more.
const EXAMPLE: &str = r#"[cluster]
scope = "main"                  # Patroni's scope
namespace = "/service"          # the default

[etcd]
endpoints = ["http://10.0.0.1:2379", "http://10.0.0.2:2379", "http://10.0.0.3:2379"]

[probe]
user = "monitor"
password_env = "PGLP_PROBE_PASSWORD"   # or password_file

[write]
listen = ["0.0.0.0:5433"]

[read]                          # optional
listen = ["0.0.0.0:5434"]
max_lag = "16MiB"

[admin]
listen = "127.0.0.1:9433"
"#;

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the table of keys in proxy/src/config/table.rs by `pg-leader-proxy document`. -->

";

const RULES: &str = "\
Without etcd, and without a file:

```sh
export PGLP_PROBE_PASSWORD=secret
```

<!-- background -->
```sh
pg-leader-proxy run --member 10.0.0.1:5432 --member 10.0.0.2:5432 --probe-user monitor
```

Every key can be given in the file, by a flag and by an environment variable. A flag overrides a variable, a variable
overrides the file, the file overrides the default. In a Nomad job the keys are in the task's `config`, with a block for
each table below; it takes the place of the file, and variables override it. `pg-leader-proxy check` takes the same flags
as `run` and prints every error at once; with `--connect` it also checks etcd, the servers and the addresses.

";

const FORMS: &str = "\
- A **duration** has a unit: `250ms`, `30s`, `5m`, `1h`.
- A **size** is a number of bytes: `1048576`, `64kB`, `16MiB`. As in PostgreSQL, `kB`, `MB` and `GB` are powers of 1024.
- A **list** is `[\"a\", \"b\"]` in the file; in a flag or a variable the items are separated by commas, and a flag can be
  repeated.
- A **map** is a table in the file; in a flag or a variable it is `from=to,from=to`.
- A **network** is an IP address and the length of its prefix: `10.0.0.0/8`, `fd00::/8`. A single address stands for itself.
- An **empty variable** counts as not set.

## Passwords

The configuration holds no passwords, because it is shown and copied more often than a secret should be. A password is
read from a file (`password_file`; one newline at its end is not part of it) or from an environment variable
(`password_env`). The variables `PGLP_PROBE_PASSWORD` and `PGLP_ETCD_PASSWORD` are used if they are set and no other
source is given.

## Changing the configuration

SIGHUP reads the file, the password files and the certificates again. No open session is ended or interrupted: limits and
time-outs hold for the sessions that begin afterwards, addresses are opened and closed, and the policy holds at once. A
key that says *restart* below must keep its value: a reload that finds another one is refused, and everything stays as
it was. So is a reload whose configuration has errors, or names a file that cannot be read within 10 s, because its file
system hangs. A start fails in the same case, with exit code 1.

## Keys

";

const RENAMED: &str = "
## Renamed keys

The old names still work, in every place and with a warning that says what to write. The old and the new name together
are an error.

| old | new |
| --- | --- |
";

/// The text of `docs/src/reference/configuration.md`.
pub fn document() -> String {
    let mut text = String::from(INTRODUCTION);
    push(
        &mut text,
        format_args!("The smallest useful configuration, for `pg-leader-proxy run --config proxy.toml` "),
    );
    push(&mut text, format_args!("(or `{FILE_VARIABLE}=proxy.toml`):\n\n```toml\n{EXAMPLE}```\n\n"));
    text.push_str(RULES);
    text.push_str(FORMS);
    push(&mut text, format_args!("{} keys in {} blocks.\n", KEYS.len(), BLOCKS.len()));
    for block in BLOCKS {
        push(&mut text, format_args!("\n### `[{}]`\n\n{}\n\n", block.name, block.doc));
        rows(&mut text, block);
    }
    renamed(&mut text);
    text
}

fn rows(text: &mut String, block: &Block) {
    text.push_str(
        "| key | value | default | what it does | changes by | flag, variable |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for key in block.keys() {
        push(
            text,
            format_args!(
                "| `{}` | {} | {} | {} | {} | {} |\n",
                key.name(),
                form(key.kind),
                default(key),
                key.doc,
                change(key.change),
                flags_and_variables(key)
            ),
        );
    }
}

fn default(key: &Key) -> String {
    match (key.default, key.required) {
        (Some(default), _) => format!("`{default}`"),
        (None, true) => "**required**".to_owned(),
        (None, false) => "–".to_owned(),
    }
}

const fn change(change: Change) -> &'static str {
    match change {
        Change::Reload => "reload",
        Change::Restart => "restart",
    }
}

/// The present flag and variable, and their short forms.
fn flags_and_variables(key: &'static Key) -> String {
    let names = key.names().filter(|name| name.form != Form::Old);
    names
        .map(|name| format!("`--{}` `{}`", name.flag(), name.variable()))
        .collect::<Vec<_>>()
        .join(", short ")
}

/// The names and words of earlier versions.
fn renamed(text: &mut String) {
    text.push_str(RENAMED);
    for name in KEYS.iter().flat_map(Key::names).filter(|name| name.form == Form::Old) {
        push(text, format_args!("| `{}` | `{}` |\n", name.path, name.key.path));
    }
    for key in KEYS {
        for (old, new) in key.old_words {
            push(text, format_args!("| `{} = \"{old}\"` | `{} = \"{new}\"` |\n", key.path, key.path));
        }
    }
}

fn form(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Path => "path of a file".to_owned(),
        Kind::Duration(least, most) => {
            format!("duration, {} to {}", show_duration(least), show_duration(most))
        }
        Kind::Size => "size".to_owned(),
        Kind::Count(least, most) => format!("number, {least} to {most}"),
        Kind::Boolean => "`true`, `false`".to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Address => "IP address and port, or `off`".to_owned(),
        Kind::Addresses => "list of IP addresses and ports".to_owned(),
        Kind::Servers => "list of `host:port`".to_owned(),
        Kind::Urls => "list of URLs".to_owned(),
        Kind::Networks => "list of networks".to_owned(),
        Kind::ServerMap => "map from `host:port` to `host:port`".to_owned(),
    }
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = text.write_fmt(part);
}
