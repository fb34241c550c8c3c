//! The files that settings of a task name: found by a user who may not enter Nomad's data directory, and explained when
//! that user may not read one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use pg_leader_proxy::config::{FILE_VARIABLE, KEYS, Key, Kind, Name, Raw};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::supervisor::LaunchSpec;
use crate::user::Account;

/// Makes the paths of files below the allocation's directory relative to the task's, which is the working directory.
/// Nomad gives absolute paths, in `NOMAD_SECRETS_DIR` for example, and advises to close its data directory to everybody
/// but root; by its working directory the process gets past that.
pub(super) fn make_relative(launch: &mut LaunchSpec) {
    let LaunchSpec { alloc_dir, directory, settings, environment, .. } = launch;
    let relative = |text: &str| relative(text, directory, alloc_dir);
    for given in settings.iter_mut().filter(|given| is_file(&given.path)) {
        if let Raw::Text(text) = &mut given.raw
            && let Some(path) = relative(text)
        {
            *text = path;
        }
    }
    let files = KEYS.iter().filter(|key| key.kind == Kind::Path).flat_map(Key::names);
    for variable in files.map(|name| name.variable()).chain([FILE_VARIABLE.to_owned()]) {
        if let Some(text) = environment.get_mut(&variable)
            && let Some(path) = relative(text)
        {
            *text = path;
        }
    }
}

/// Whether the value of this key is the path of a file.
pub(super) fn is_file(key: &str) -> bool {
    Name::find(key).is_some_and(|name| name.key.kind == Kind::Path)
}

fn relative(text: &str, directory: &Path, alloc_dir: &Path) -> Option<String> {
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let inside = match path.strip_prefix(directory) {
        Ok(inside) => inside.to_owned(),
        // The task's directory lies in the allocation's.
        Err(_) => Path::new("..").join(path.strip_prefix(alloc_dir).ok()?),
    };
    inside.into_os_string().into_string().ok()
}

/// Why this process, which runs as `account`, may not read a file; `None` when permissions are not the reason.
pub(super) fn explain_denied(path: &Path, account: Option<&Account>) -> Option<String> {
    let user = account.map_or_else(|| "of the agent".to_owned(), |account| format!("`{}`", account.label()));
    let denied = |path: &Path, wanted| matches!(access(path, wanted), Err(Errno::ACCESS));
    let closed = directories(path).into_iter().find(|directory| denied(directory, Access::EXEC_OK));
    let (verb, object) = match &closed {
        Some(directory) => ("enter", directory.as_path()),
        None if denied(path, Access::READ_OK) => ("read", path),
        None => return None,
    };
    let owned = fs::metadata(object).map_or_else(
        |_| String::new(),
        |found| format!(" (mode {:04o}, owner {}:{})", found.mode() & 0o7777, found.uid(), found.gid()),
    );
    Some(format!(
        "the user {user} may not {verb} {}{owned}: change its mode or owner, in a template by `perms`, `uid` and `gid`, \
         or set another `user` in the task",
        object.display()
    ))
}

/// The directories above a path, outermost first.
fn directories(path: &Path) -> Vec<PathBuf> {
    let parents = path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
    let mut parents: Vec<PathBuf> = parents.map(Path::to_owned).collect();
    parents.reverse();
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_allocation_become_relative_to_the_task_and_others_stay() {
        let (directory, alloc) = (Path::new("/data/alloc/1/proxy"), Path::new("/data/alloc/1"));
        for (path, expected) in [
            ("/data/alloc/1/proxy/secrets/pw", Some("secrets/pw")),
            ("/data/alloc/1/alloc/data/ca.pem", Some("../alloc/data/ca.pem")),
            ("/data/alloc/1/proxy/../x", None),
            ("/data/alloc/2/x", None),
            ("/etc/ssl/ca.pem", None),
            ("local/x", None),
        ] {
            assert_eq!(relative(path, directory, alloc).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_directories_above_a_path_are_looked_at_from_the_outside() {
        assert_eq!(directories(Path::new("/a/b/c")), ["/", "/a", "/a/b"].map(PathBuf::from));
        assert_eq!(directories(Path::new("secrets/pw")), [PathBuf::from("secrets")]);
    }

    #[test]
    fn what_can_be_read_or_does_not_exist_is_not_denied() {
        assert_eq!(explain_denied(Path::new("/etc/passwd"), None), None);
        assert_eq!(explain_denied(Path::new("/etc/no-such-file"), None), None);
    }
}
