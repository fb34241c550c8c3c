//! Commands and words: what changes something is printed first, and only printed in a dry run.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many characters of a failed command's output are told.
const EVIDENCE: usize = 2000;

/// Runs commands and tells the operator what is done.
#[derive(Clone, Copy, Debug)]
pub struct Shell {
    /// Whether changes are only printed.
    pub dry_run: bool,
}

impl Shell {
    /// Prints a line for the operator.
    pub fn say(&self, line: &str) {
        // Nobody to tell is no reason to stop half-way.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    /// Runs a command that changes something. A dry run only prints it.
    ///
    /// # Errors
    /// When it cannot be run or fails; the error has the end of its output.
    pub fn act(&self, command: &[&str]) -> Result<String> {
        self.say(&format!("+ {}", shown(command)));
        if self.dry_run { Ok(String::new()) } else { output(command, &[], None) }
    }

    /// Runs a command that changes something in a directory.
    ///
    /// # Errors
    /// As [`Shell::act`].
    pub fn act_in(&self, folder: &Path, command: &[&str]) -> Result<String> {
        self.say(&format!("+ (cd {} && {})", folder.display(), shown(command)));
        if self.dry_run { Ok(String::new()) } else { output(command, &[], Some(folder)) }
    }

    /// Runs a command that only looks in a directory.
    ///
    /// # Errors
    /// As [`Shell::look`].
    pub fn look_in(&self, folder: &Path, command: &[&str]) -> Result<String> {
        output(command, &[], Some(folder))
    }

    /// The same, with more in the environment, which is not printed.
    ///
    /// # Errors
    /// As [`Shell::act`].
    pub fn act_with(&self, environment: &[(&str, &str)], command: &[&str]) -> Result<String> {
        self.say(&format!("+ {}", shown(command)));
        if self.dry_run { Ok(String::new()) } else { output(command, environment, None) }
    }

    /// Runs a command that only looks, also in a dry run.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    pub fn look(&self, command: &[&str]) -> Result<String> {
        output(command, &[], None)
    }

    /// The same, with more in the environment.
    ///
    /// # Errors
    /// As [`Shell::look`].
    pub fn look_with(&self, environment: &[(&str, &str)], command: &[&str]) -> Result<String> {
        output(command, environment, None)
    }
}

fn output(command: &[&str], environment: &[(&str, &str)], folder: Option<&Path>) -> Result<String> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let output = Command::new(program)
        .current_dir(folder.unwrap_or_else(|| Path::new(".")))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}: is it installed, and on the PATH?"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} ended with {}:\n{}",
            shown(command),
            output.status,
            tail(&without_noise(&format!("{text}{errors}")))
        );
    }
    Ok(text)
}

/// With one var-file for many jobs, Nomad tells of every name of another job beside each error.
fn without_noise(text: &str) -> String {
    text.lines()
        .filter(|line| !line.contains("was not found in known variables"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The end of a text, in whole characters.
fn tail(text: &str) -> &str {
    let text = text.trim();
    let from = text.char_indices().rev().nth(EVIDENCE).map_or(0, |(at, _)| at);
    &text[from..]
}

/// A command as a person would type it.
fn shown(command: &[&str]) -> String {
    let quoted = command.iter().map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            (*word).to_owned()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_changes_nothing_and_looks_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made").display().to_string();
        let shell = Shell { dry_run: true };
        shell.act(&["touch", &file]).unwrap();
        assert!(!Path::new(&file).exists());
        assert_eq!(shell.look(&["echo", "seen"]).unwrap(), "seen\n");
        Shell { dry_run: false }.act(&["touch", &file]).unwrap();
        assert!(Path::new(&file).exists());
    }

    #[test]
    fn a_failure_tells_the_command_and_its_last_words() {
        let shell = Shell { dry_run: false };
        let error = shell.look(&["sh", "-c", "echo one; echo two >&2; exit 3"]).unwrap_err().to_string();
        for part in ["sh -c 'echo one; echo two >&2; exit 3'", "exit status: 3", "one\ntwo"] {
            assert!(error.contains(part), "{error}");
        }
        let error = shell.look(&["no-such-program"]).unwrap_err().to_string();
        assert!(error.contains("no-such-program: is it installed"), "{error}");
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        assert_eq!(shown(&["nomad", "var", "it's", ""]), "nomad var 'it'\\''s' ''");
    }
}
