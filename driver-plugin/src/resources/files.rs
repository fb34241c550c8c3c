//! The small text files of cgroupfs: reading, writing, making directories, and errors that name the path.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The same error, but it says of which path.
pub(super) fn at(path: &Path, error: &io::Error) -> io::Error {
    // A file of a group that is being removed says "no such device" instead of "no such file".
    let gone = error.raw_os_error() == Some(Errno::NODEV.raw_os_error());
    let kind = if gone { ErrorKind::NotFound } else { error.kind() };
    io::Error::new(kind, format!("{}: {error}", path.display()))
}

/// Writes to a file that the kernel made. It is never created: outside a cgroup there would be a useless file afterwards.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    let written = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(|error| at(path, &error))
}

/// Sets a limit, or takes away that of an earlier task by writing `none`. Where that does not succeed there was none.
pub(super) fn set(path: &Path, value: Option<&str>, none: Option<&str>) -> io::Result<()> {
    match (value, none) {
        (Some(value), _) => write(path, value),
        (None, Some(none)) => write(path, none).or(Ok(())),
        (None, None) => Ok(()),
    }
}

/// The file's text.
pub(super) fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| at(path, &error))
}

/// A file that holds one number. `max` and what cannot be read are `None`.
pub(super) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of lines such as `oom_kill 3`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find_map(|mut words| (words.next() == Some(key)).then_some(words))?;
    line.next()?.parse().ok()
}

/// The numbers of a file with one on each line, such as `cgroup.procs`: sorted, none twice, none that is not a process.
pub(super) fn pids(text: &str) -> Vec<u32> {
    // The kernel writes 0 for a process of another pid namespace: nothing can be done to it.
    let mut pids: Vec<u32> =
        text.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid != 0).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Makes a directory and its parents, and adds to `made` those that were not there.
pub(super) fn make(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.is_dir()).collect();
    for directory in missing.into_iter().rev() {
        match fs::create_dir(directory) {
            Ok(()) => made.push(directory.to_owned()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(at(directory, &error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_as_a_whole_word_only() {
        let text = "low 1\noom 2\noom_kill 3\n";
        assert_eq!(keyed(text, "oom"), Some(2));
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "kill"), None);
        assert_eq!(keyed("usage_usec", "usage_usec"), None);
    }

    #[test]
    fn pids_are_sorted_and_unique_and_never_zero() {
        assert_eq!(pids("12\n7\n12\n0\n"), [7, 12]);
        assert_eq!(pids(""), [0; 0]);
    }

    #[test]
    fn only_the_directories_that_were_missing_count_as_made() {
        let root = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        make(&root.path().join("a/b"), &mut made).unwrap();
        assert_eq!(made, [root.path().join("a"), root.path().join("a/b")]);
        make(&root.path().join("a/c"), &mut made).unwrap();
        assert_eq!(made.len(), 3);
        make(&root.path().join("a/c"), &mut made).unwrap();
        assert_eq!(made.len(), 3);
    }

    #[test]
    fn a_group_that_is_being_removed_counts_as_gone() {
        let error = io::Error::from_raw_os_error(Errno::NODEV.raw_os_error());
        assert_eq!(at(Path::new("cgroup.procs"), &error).kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_missing_file_is_not_created_and_the_error_names_it() {
        let root = tempfile::tempdir().unwrap();
        let error = write(&root.path().join("memory.max"), "max").unwrap_err();
        assert!(error.to_string().contains("memory.max: No such file"), "{error}");
        assert!(!root.path().join("memory.max").exists());
    }
}
