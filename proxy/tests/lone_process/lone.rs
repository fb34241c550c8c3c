//! A proxy process of a list of members, and the program's answers.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::process::Signal;

use crate::running::{PROGRAM, Running, SOON, STARTUP};

/// A proxy of a list of members.
pub(crate) struct Lone(Running);

impl Lone {
    /// Starts one whose log goes to a file, and waits until it answers.
    pub(crate) fn start(more: &str) -> Self {
        Self::launch(Command::new(PROGRAM), more, |log| log.into())
    }

    /// Starts the program that `command` runs, and waits until it answers.
    pub(crate) fn launch(command: Command, more: &str, stderr: impl FnOnce(File) -> Stdio) -> Self {
        let running = Running::launch(command, |address, _| config(address, more), stderr);
        running.wait("the admin address answers", |running| running.get("/live").is_some());
        Self(running)
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        self.0.metric(name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        self.0.wait(what, |_| is_so(self));
    }

    pub(crate) fn reload(&self, more: &str) {
        fs::write(self.config_file(), config(self.address, more)).unwrap();
        self.signal(Signal::HUP);
    }

    /// What a client is told that must not be served: at the end of its hold, for example.
    pub(crate) fn rejection(&self) -> String {
        let mut client = TcpStream::connect(self.write()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.write_all(STARTUP).unwrap();
        let mut told = Vec::new();
        client.read_to_end(&mut told).unwrap();
        String::from_utf8_lossy(&told).into_owned()
    }
}

impl Deref for Lone {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl DerefMut for Lone {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.0
    }
}

/// A configuration with a member that refuses connections, unless `more` names others.
pub(crate) fn config(address: Ipv4Addr, more: &str) -> String {
    let named = more.contains("cluster.members") || more.contains("etcd.endpoints");
    let members = if named { "" } else { "cluster.members = [\"127.0.0.1:1\"]\n" };
    format!(
        "{members}probe.user = \"monitor\"\nwrite.listen = [\"{address}:5433\"]\nadmin.listen = \"{address}:9433\"\n\
         session.workers = 2\nsession.drain_timeout = \"0s\"\n{more}\n"
    )
}

/// A server that hangs up on everybody, and how many came.
pub(crate) fn member() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            drop(client);
            counted.fetch_add(1, Relaxed);
        }
    });
    (address, count)
}

pub(crate) fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

pub(crate) fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
