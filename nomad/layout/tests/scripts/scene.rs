//! A directory for one run of a script, with stand-ins first on its PATH.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder with all scripts and job files.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// One script with its environment.
pub(crate) struct Scene {
    place: tempfile::TempDir,
    script: PathBuf,
    shell: &'static str,
    environment: Vec<(String, String)>,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
}

impl Scene {
    /// `script` is relative to the folder, and run by `/bin/sh` or `/bin/bash`.
    pub(crate) fn new(shell: &'static str, script: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("bin")).unwrap();
        Self { place, script: folder().join(script), shell, environment: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A program first on the PATH; `$here` in it is the directory of the run.
    pub(crate) fn stand_in(self, name: &str, script: &str) -> Self {
        let file = self.path("bin").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("#!/bin/bash\nhere={}\n{script}\n", self.place.path().display())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let output = Command::new(self.shell)
            .arg(&self.script)
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        Ended { code: output.status.code(), output: String::from_utf8(text).unwrap() }
    }

    /// Runs, and wants success.
    pub(crate) fn passes(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{}", ended.output);
        ended.output
    }

    /// Runs, and wants exit 1 with these words.
    pub(crate) fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(1), "{}", ended.output);
        for word in words {
            assert!(ended.output.contains(word), "{word:?} is not in: {}", ended.output);
        }
    }
}
