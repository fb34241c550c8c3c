//! Replays what the fuzzers have kept, as a part of the tests of each crate.

use std::fs;
use std::path::Path;

/// Runs a target over its corpus and over the inputs that once broke it. A failing test prints which one does.
#[allow(clippy::print_stderr, reason = "shown if the test fails")]
pub(crate) fn replay(target: &str, run: impl Fn(&[u8])) {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|directory| directory.join("fuzz"));
    let fuzz = above.into_iter().find(|fuzz| fuzz.join("corpus").is_dir()).expect("fuzz/corpus");
    let kept = ["corpus", "regressions"].map(|kind| fuzz.join(kind).join(target));
    let inputs = kept.iter().filter(|directory| directory.is_dir()).flat_map(|directory| {
        fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path())
    });
    let mut count = 0;
    for input in inputs {
        eprintln!("{}", input.display());
        run(&fs::read(&input).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "nothing is kept of {target}");
}
