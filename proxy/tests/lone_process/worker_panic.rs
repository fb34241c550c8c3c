//! A worker thread that panics: without it the process would take clients and serve none.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process::Command;

use crate::lone::Lone;
use crate::running::PROGRAM;

/// Takes the place of the C library's function: once the file is there, epoll fails in the thread of the first worker, which
/// panics as it would over any other mistake.
const EPOLL_THAT_FAILS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

int epoll_wait(int epoll, struct epoll_event *events, int max, int timeout) {
    char thread[16] = "";
    prctl(PR_GET_NAME, thread);
    if (strcmp(thread, "worker-0") == 0 && access(getenv("EPOLL_FAILS_ONCE_THERE_IS"), F_OK) == 0) {
        errno = EBADF;
        return -1;
    }
    return epoll_pwait(epoll, events, max, timeout, NULL);
}
"#;

#[test]
fn a_worker_thread_that_panics_ends_the_process() {
    let made = tempfile::tempdir().unwrap();
    let (source, library, fault) =
        (made.path().join("epoll.c"), made.path().join("epoll.so"), made.path().join("fault"));
    fs::write(&source, EPOLL_THAT_FAILS).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.expect("a C compiler must be on the PATH").success());

    let mut command = Command::new(PROGRAM);
    command.env("LD_PRELOAD", &library).env("EPOLL_FAILS_ONCE_THERE_IS", &fault);
    let mut lone = Lone::launch(command, "", |log| log.into());
    File::create(&fault).unwrap();
    // Wakes the worker.
    let _client = TcpStream::connect(lone.write());
    assert_eq!(lone.wait_end().code(), Some(1), "{}", lone.log());
    let log = lone.log();
    assert!(log.contains("the thread worker-0 panicked, and the proxy does not go on without it"), "{log}");
    assert_eq!(lone.get("/live"), None, "nobody is told that it lives");
}
