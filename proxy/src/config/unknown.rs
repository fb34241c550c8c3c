//! Names that are no settings: what is said of them wherever they stand.

use super::keys::Key;
use super::nearest;

/// Why a password is refused where a key would hold it.
const NO_PASSWORDS: &str = "a password does not stand in a configuration, which is shown and copied more often than \
                            a secret should be; give the name of a file or of an environment variable";

/// What to call a key that there is not, and what is wrong with it.
pub(super) fn key(path: &str) -> (String, String) {
    if path.ends_with(".password") && Key::find(&format!("{path}_file")).is_some() {
        return (path.to_owned(), format!("{NO_PASSWORDS}: `{path}_file` or `{path}_env`"));
    }
    name("key", path, nearest::key(path).map(|near| format!("`{near}`")))
}

/// What to call a block that there is not, and what is wrong with it.
pub(super) fn block(word: &str) -> (String, String) {
    name("block", word, nearest::block(word).map(|near| format!("`[{near}]`")))
}

fn name(what: &str, name: &str, near: Option<String>) -> (String, String) {
    let problem = near.map_or_else(|| "names no setting".to_owned(), |near| format!("did you mean {near}?"));
    (format!("unknown {what} `{name}`"), problem)
}
