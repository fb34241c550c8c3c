//! A process that has not heard from etcd yet: what its clients, `status` and the log say.

use std::sync::atomic::Ordering::Relaxed;

use crate::lone::{Lone, member, program, words};

fn settings(endpoint: &str) -> String {
    format!(
        "cluster.scope = \"main\"\netcd.endpoints = [\"http://{endpoint}\"]\nwrite.hold_timeout = \"1s\"\n\
         log.filter = \"warn\""
    )
}

#[test]
fn status_tells_what_etcd_answered_last_and_clients_hear_what_kind_of_problem_it_is() {
    let lone = Lone::start(&settings("127.0.0.1:1"));
    let problem = "nothing is known about the cluster yet: http://127.0.0.1:1: cannot ";
    lone.wait("etcd was asked", |lone| lone.get("/leader").is_some_and(|answer| answer.contains(problem)));
    let told = lone.rejection();
    let kind = "nothing is known about the cluster yet: etcd cannot be reached or does not answer\0";
    assert!(told.contains("57P03") && told.contains(kind), "{told}");
    let status = words(&program(&["status", "--config", &lone.config_file()]));
    assert!(status.contains(problem) && status.contains("Connection refused"), "{status}");
}

#[test]
fn an_endpoint_that_never_answers_is_one_warning_however_often_it_is_asked() {
    let (etcd, asked) = member();
    let lone = Lone::start(&settings(&etcd.to_string()));
    lone.wait("etcd was asked several times", |_| asked.load(Relaxed) >= 8);
    let log = lone.log();
    let warnings = log.lines().filter(|line| line.contains("etcd failed")).count();
    assert_eq!(warnings, 1, "{log}");
    assert!(log.contains(&format!("http://{etcd}")), "{log}");
}
