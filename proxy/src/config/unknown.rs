//! What is said about a name that is no setting.

use super::elsewhere;
use super::keys::Key;
use super::nearest;
use super::table::BLOCKS;

/// Why a password is refused where a key would hold it.
const NO_PASSWORDS: &str = "a configuration holds no passwords, because it is shown and copied more often than a secret \
                            should be; name a file or an environment variable instead";

/// What an unknown key is called in an error, and what is wrong with it.
pub(super) fn key(path: &str) -> (String, String) {
    if path.ends_with(".password") && Key::find(&format!("{path}_file")).is_some() {
        return (path.to_owned(), format!("{NO_PASSWORDS}: `{path}_file` or `{path}_env`"));
    }
    (format!("unknown key `{path}`"), hint(path).unwrap_or_else(|| "there is no such key".to_owned()))
}

/// What an unknown block is called in an error, and what is wrong with it.
pub(super) fn block(name: &str) -> (String, String) {
    let elsewhere = || elsewhere::hint(name);
    let near = nearest::block(name).map(|near| format!("did you mean `[{near}]`?"));
    let problem = near.or_else(elsewhere).unwrap_or_else(|| "there is no such block".to_owned());
    (format!("unknown block `{name}`"), problem)
}

/// What to say about a flag that there is not, beyond the names that are close to it: `--maxconn`.
pub fn flag(flag: &str) -> Option<String> {
    let word = flag.trim_start_matches('-');
    let in_block = BLOCKS.iter().find_map(|block| {
        let name = word.strip_prefix(block.name)?.strip_prefix('-')?;
        Some(format!("{}.{name}", block.name))
    });
    let path = in_block.unwrap_or_else(|| word.to_owned());
    elsewhere::hint(&path)
}

/// What `path` was probably meant to be.
pub(super) fn hint(path: &str) -> Option<String> {
    elsewhere::hint(path).or_else(|| nearest::key(path).map(|near| format!("did you mean `{near}`?")))
}
