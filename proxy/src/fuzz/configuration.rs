//! The configuration: a file, and single values.

use crate::config::fuzz::{of_file, read_values};
use crate::config::{Config, Origins, RequireAuth};

/// A file is a configuration, or each of its faults has a name and a text. A job with the same settings is the same
/// configuration.
///
/// # Panics
/// If that is not so.
pub fn configuration_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Passwords are read from the files that are named: what does not end is not for here.
    if ["/dev", "/proc", "/sys"].iter().any(|directory| text.contains(directory)) {
        return;
    }
    let (config, given) = of_file(text);
    if let Err(errors) = &config {
        assert!(errors.iter().count() > 0);
        for error in errors.iter() {
            assert!(!error.subject.is_empty() && !error.problem.is_empty(), "{error:?}");
        }
    }
    let job = Config::load(&Origins { given, ..Origins::default() });
    match (config, job) {
        (Ok(file), Ok(job)) => assert_eq!(without_places(file), without_places(job)),
        // What a file cannot say at all is no setting, which a job could lack.
        (Err(_), _) => {}
        (Ok(file), Err(errors)) => panic!("as a file it is {file:?}, as a job {errors}"),
    }
}

/// The place of a renamed key is a line or a job.
fn without_places(mut config: Config) -> Config {
    config.renamed.clear();
    config
}

/// Values are read or refused with a reason.
///
/// # Panics
/// If that is not so.
pub fn values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    read_values(text);
    if let Err(error) = RequireAuth::parse(text) {
        assert!(!error.is_empty());
    }
}
