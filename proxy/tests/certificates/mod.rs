//! Certificates made by the `openssl` program, as PostgreSQL's manual and its readers make them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory of certificates, `<name>.crt`, and their keys, `<name>.key`.
pub(crate) struct OpenSsl(TempDir);

impl OpenSsl {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn run(&self, command: &str) -> String {
        let mut openssl = Command::new("openssl");
        openssl.args(command.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        let output = openssl.output().expect("openssl must be on the PATH");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A root certificate, by the manual's commands.
    pub(crate) fn root(&self, name: &str) {
        self.run(&format!("req -new -nodes -out {name}.csr -keyout {name}.key -subj /CN={name}"));
        self.run(&format!(
            "x509 -req -in {name}.csr -days 30 -extfile /etc/ssl/openssl.cnf -extensions v3_ca -signkey {name}.key \
             -out {name}.crt"
        ));
    }

    /// A certificate that `root` has signed, by the manual's commands; without further names, it has no extensions.
    pub(crate) fn signed(&self, name: &str, common_name: &str, further_names: Option<&str>, root: &str) {
        self.run(&format!("req -new -nodes -out {name}.csr -keyout {name}.key -subj /CN={common_name}"));
        let extensions = further_names.map_or_else(String::new, |names| {
            std::fs::write(self.path("extensions"), format!("subjectAltName={names}\n")).unwrap();
            "-extfile extensions".to_owned()
        });
        self.run(&format!(
            "x509 -req -in {name}.csr -days 30 -CA {root}.crt -CAkey {root}.key -CAcreateserial -out {name}.crt \
             {extensions}"
        ));
    }

    /// A self-signed certificate with a key of this kind, as `openssl req -x509` makes it: with CA:TRUE.
    pub(crate) fn self_signed(&self, name: &str, common_name: &str, further_names: &str, key: &str) {
        self.run(&format!(
            "req -new -x509 -days 30 -nodes -newkey {key} -out {name}.crt -keyout {name}.key -subj /CN={common_name} \
             -addext subjectAltName={further_names}"
        ));
    }

    /// The certificate in words.
    pub(crate) fn text(&self, name: &str) -> String {
        self.run(&format!("x509 -in {name}.crt -noout -text"))
    }
}
