//! Opens files in directories that the user of a task can write, without following a symbolic link that it put there.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Opens `path`. Where it lies below `trusted`, a directory that only root can write with all its parents, no symbolic
/// link below that directory is followed; elsewhere, none at all.
///
/// # Errors
/// `PermissionDenied` for a path with a symbolic link; else what the operating system says.
pub(crate) fn open(trusted: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = match path.strip_prefix(trusted) {
        Ok(below) if !below.as_os_str().is_empty() => {
            let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let trusted = rustix::fs::open(trusted, directory, Mode::empty())?;
            openat2(trusted, below, flags, Mode::empty(), resolve | ResolveFlags::BENEATH)
        }
        _ => openat2(CWD, path, flags, Mode::empty(), resolve),
    };
    opened.map_err(|errno| match errno {
        // ELOOP: a symbolic link. EXDEV: the path leaves the directory.
        Errno::LOOP | Errno::XDEV => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the path has a symbolic link or leaves the allocation's directory; root opens no such file",
        ),
        errno => errno.into(),
    })
}

/// Whether the kernel can open files this way (openat2(2), Linux 5.6).
///
/// # Errors
/// What the operating system says.
pub(crate) fn is_supported() -> io::Result<()> {
    open(Path::new("/"), Path::new("/dev/null"), OFlags::RDONLY).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_symbolic_link_below_the_trusted_directory_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("real")).unwrap();
        fs::write(path("real/file"), "").unwrap();
        symlink(path("real/file"), path("link")).unwrap();
        symlink("real", path("directory")).unwrap();
        for wrong in ["link", "directory/file", "real/../../x", "directory"] {
            let error = open(root.path(), &path(wrong), OFlags::RDONLY).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{wrong}: {error}");
        }
        open(root.path(), &path("real/file"), OFlags::RDONLY).unwrap();
        let missing = open(root.path(), &path("real/missing"), OFlags::RDONLY).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn links_in_the_trusted_part_are_followed_and_elsewhere_none() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir(path("real")).unwrap();
        fs::write(path("real/file"), "").unwrap();
        symlink("real", path("alias")).unwrap();
        open(&path("alias"), &path("alias/file"), OFlags::RDONLY).unwrap();
        let elsewhere = open(&path("real"), &path("alias/file"), OFlags::RDONLY).unwrap_err();
        assert_eq!(elsewhere.kind(), io::ErrorKind::PermissionDenied);
        open(&path("real"), Path::new("/dev/null"), OFlags::RDONLY).unwrap();
        is_supported().unwrap();
    }
}
