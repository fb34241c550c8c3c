//! Holding a law against random histories, and saving the shortest history that breaks it as a scenario file.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use crate::script::{Player, Step, play, story};

use super::histories;

/// How many histories each law is held against.
pub(crate) const CASES: u32 = 800;

/// What a law says of one history: nothing, or how it was broken.
pub(crate) type Judgement = Result<(), String>;

/// Holds a law against random histories.
pub(crate) fn hold(law: &str, judge: impl Fn(&[Step], &Player) -> Judgement) {
    if let Err((why, path)) = try_hold(law, judge) {
        panic!("{law}: {why}\nthe history is saved in {}", path.display());
    }
}

/// Holds a law, and on a breach gives the reason and the file that replays it.
pub(crate) fn try_hold(
    law: &str,
    judge: impl Fn(&[Step], &Player) -> Judgement,
) -> Result<(), (String, PathBuf)> {
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&histories(), |steps| judge(&steps, &play(&steps)).map_err(TestCaseError::fail));
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
    fs::write(&path, story(&format!("{law}\n{why}"), steps)).unwrap();
    path
}
