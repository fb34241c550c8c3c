//! Checks a law against random histories, and saves the shortest history that breaks it as a scenario file.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::histories::{Outcome, histories};
use crate::script::{Player, Step, play, scenario_text};

/// How many histories each law is checked against.
pub(crate) const CASES: u32 = 800;

/// Checks a law against random histories, and panics if one breaks it.
pub(crate) fn check_law(law: &str, rule: impl Fn(&[Step], &Player) -> Outcome) {
    if let Err((why, path)) = try_check_law(law, rule) {
        panic!("{law}: {why}\nthe history is saved in {}", path.display());
    }
}

/// Checks a law. If a history breaks it, returns how, and the scenario file that replays it.
pub(crate) fn try_check_law(
    law: &str,
    rule: impl Fn(&[Step], &Player) -> Outcome,
) -> Result<(), (String, PathBuf)> {
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&histories(), |steps| rule(&steps, &play(&steps)).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, steps)) => Err((why.to_string(), save(law, why.message(), &steps))),
        Err(TestError::Abort(why)) => panic!("{law}: no verdict, {why}"),
    }
}

/// Saves a history as a scenario file.
pub(crate) fn save(law: &str, why: &str, steps: &[Step]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-laws");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{}.txt", law.replace(' ', "-")));
    fs::write(&path, scenario_text(&format!("{law}\n{why}"), steps)).unwrap();
    path
}
