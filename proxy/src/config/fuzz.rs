//! What the fuzz targets ask of the configuration.

use std::time::Duration;

use super::checked::Config;
use super::error::ConfigErrors;
use super::given::Given;
use super::raw::Named;
use super::settings::{Origins, Settings};
use super::{file, values};

/// The configuration in the text of a file, and its settings as a job would give them.
pub(crate) fn of_file(text: &str) -> (Result<Config, ConfigErrors>, Vec<Given>) {
    let mut errors = Vec::new();
    let named = file::parse("proxy.toml", text, &mut errors);
    let given = |named: &Named| Given { path: named.name.path.to_owned(), raw: named.raw.clone() };
    let given = named.iter().map(given).collect();
    let origins = Origins::default();
    let settings = Settings::with_file(named, &origins, &mut errors);
    (Config::of_settings(&settings, &origins, errors), given)
}

/// Every value is read or refused with a reason, and what was read is read again from how it is shown.
pub(crate) fn read_values(text: &str) {
    let refused = |error: String| assert!(!error.is_empty(), "an error without a text");
    match values::duration(text, Duration::ZERO, Duration::from_secs(u64::MAX)) {
        Ok(duration) => {
            let shown = values::show_duration(duration);
            assert_eq!(values::duration(&shown, duration, duration), Ok(duration), "{shown}");
        }
        Err(error) => refused(error),
    }
    match values::size(text) {
        Ok(size) => assert_eq!(values::size(&size.to_string()), Ok(size)),
        Err(error) => refused(error),
    }
    match values::listen(text) {
        Ok(addr) => assert_eq!(values::listen(&addr.to_string()), Ok(addr)),
        Err(error) => refused(error),
    }
    match values::server(text) {
        Ok(addr) => assert_eq!(values::server(&addr.to_string()), Ok(addr)),
        Err(error) => refused(error),
    }
    match values::endpoint(text) {
        Ok(url) => {
            assert_eq!(values::endpoint(&url), Ok(url.clone()));
            let port = |url: &str| url.trim_end_matches('/').rsplit(':').next()?.parse::<u64>().ok();
            assert!(port(text).is_none_or(|named| port(&url) == Some(named)), "{text} became {url}");
        }
        Err(error) => {
            // It may carry a password.
            assert!(text.len() < 16 || !error.contains(text), "{error}");
        }
    }
    values::boolean(text).map_or_else(refused, drop);
    values::count(text, 1, 1000).map_or_else(refused, drop);
}
