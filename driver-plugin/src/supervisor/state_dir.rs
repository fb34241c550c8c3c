//! The directory that holds a directory for each supervisor. Nobody else may write there: whoever does receives the
//! secrets of tasks, or hands in sockets.

use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use rustix::process::geteuid;

/// The permissions of the group and of others to write.
const WRITABLE: u32 = 0o022;
/// In a directory with this bit, only the owner of a file can rename or remove it.
const STICKY: u32 = 0o1000;

/// Creates the directory if it is missing, and checks that nobody else can write there or replace it.
///
/// # Errors
/// `PermissionDenied` with the owner or mode that is wrong; else what the operating system says.
pub(crate) fn prepare(state_dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let state_dir = fs::canonicalize(state_dir)?;
    check(&state_dir, WRITABLE)?;
    let sticky = |directory: &Path| fs::metadata(directory).is_ok_and(|found| found.mode() & STICKY != 0);
    state_dir
        .ancestors()
        .skip(1)
        .try_for_each(|parent| check(parent, if sticky(parent) { 0 } else { WRITABLE }))
}

/// Checks the owner of a directory, and that it has none of these permissions.
fn check(directory: &Path, forbidden: u32) -> io::Result<()> {
    let found: Metadata = fs::metadata(directory)?;
    let denied = |text: String| {
        Err(io::Error::new(ErrorKind::PermissionDenied, format!("{} {text}", directory.display())))
    };
    if found.uid() != 0 && found.uid() != geteuid().as_raw() {
        return denied(format!("belongs to the user {}: only root may own it", found.uid()));
    }
    if found.mode() & forbidden != 0 {
        return denied(format!("can be written by others: its mode is {:04o}", found.mode() & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn a_missing_directory_is_created_for_this_user_alone() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = root.path().join("a/b");
        prepare(&state_dir).unwrap();
        assert_eq!(state_dir.metadata().unwrap().mode() & 0o777, 0o700);
        prepare(&state_dir).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_or_replace_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let state_dir = root.path().join("parent/state");
        prepare(&state_dir).unwrap();
        for path in [&state_dir, state_dir.parent().unwrap()] {
            fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
            let error = prepare(&state_dir).unwrap_err();
            assert!(error.to_string().contains(&format!("{} can be written", path.display())), "{error}");
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
            chown(path, Some(65_534), None).unwrap();
            let error = prepare(&state_dir).unwrap_err();
            assert!(error.to_string().contains("belongs to the user 65534"), "{error}");
            chown(path, Some(0), None).unwrap();
        }
        prepare(&state_dir).unwrap();
    }
}
