//! The end of the plugin: when the host says so, by signals, and without a host.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Plugin;

fn send(plugin: &Plugin, signal: Signal) {
    let pid = Pid::from_raw(plugin.pid().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Without an answer the host would wait for ever, and without an end it would kill the plugin after 2 s.
#[tokio::test]
async fn pitfall_04_the_plugin_answers_and_ends_by_itself() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let mut events = plugin
        .driver()
        .task_events(nomad_plugin_proto::driver::TaskEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let open = tokio::spawn(async move { drop(events.message().await) });
    let socket = plugin.socket();
    let (took, status, _) = plugin.kill().await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(status.success());
    assert!(!socket.exists() && !socket.parent().unwrap().exists());
    open.await.unwrap();
}

#[tokio::test]
async fn pitfall_03_ctrl_c_at_the_agent_does_not_end_the_plugin() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    send(&plugin, Signal::INT);
    tokio::time::sleep(Duration::from_millis(200)).await;
    plugin.base().plugin_info(nomad_plugin_proto::base::PluginInfoRequest {}).await.unwrap();
    assert!(plugin.kill().await.1.success());
}

#[tokio::test]
async fn sigterm_ends_the_plugin_as_the_host_does() {
    let state = tempfile::tempdir().unwrap();
    let mut plugin = Plugin::start(state.path()).await;
    let socket = plugin.socket();
    send(&plugin, Signal::TERM);
    assert!(plugin.wait().await.success());
    assert!(!socket.exists());
}
