//! The lines on standard error, as the host's hclog reads them.

use nomad_plugin_proto::base::PluginInfoRequest;
use nomad_plugin_proto::driver::StopTaskRequest;
use serde_json::Value;

use crate::harness::{COOKIE, Job, Plugin, program};

/// A line with an `@` key that is not a string crashes the agent.
#[tokio::test]
async fn pitfall_02_hclog_can_read_every_line() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let unknown = StopTaskRequest { task_id: job.id(), timeout: None, signal: "SIGNONSENSE".into() };
    plugin.driver().stop_task(unknown).await.unwrap();
    let (_, _, log) = plugin.kill().await;
    let mut levels = Vec::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("{key} of {line}"));
        levels.push(text("@level").to_owned());
        assert!(!text("@message").is_empty() && !text("@module").is_empty());
        let time = text("@timestamp");
        assert!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
    }
    for level in ["info", "warn", "debug"] {
        assert!(levels.iter().any(|found| found == level), "{level} of {levels:?}");
    }
    assert!(!log.contains("hunter2"), "the task's environment is not logged");
}

/// After the death of the agent nobody reads the log.
#[tokio::test]
async fn pitfall_03_a_plugin_without_a_reader_continues() {
    let mut job = Job::new();
    let mut plugin = Plugin::launch_unread(program().env(COOKIE.0, COOKIE.1), &job.state_dir()).await;
    plugin.configure(None).await;
    plugin.close_pipes();
    for _ in 0..5 {
        let stop = StopTaskRequest { task_id: job.id(), timeout: None, signal: "SIGNONSENSE".into() };
        job.start(&plugin).await.unwrap();
        plugin.driver().stop_task(stop).await.unwrap();
        job.next_run();
    }
    plugin.reattach().await;
    plugin.base().plugin_info(PluginInfoRequest {}).await.unwrap();
}
