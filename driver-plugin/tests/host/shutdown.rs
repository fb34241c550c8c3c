//! The shutdown of the plugin: by the host and by signals.

use std::process::{Command, Stdio};
use std::time::Duration;

use nomad_plugin_proto::base::PluginInfoRequest;
use nomad_plugin_proto::driver::TaskEventsRequest;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{COOKIE, Plugin, program};

fn send(plugin: &Plugin, signal: Signal) {
    let pid = Pid::from_raw(plugin.pid().try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Without an answer the host would wait for ever; a plugin that does not exit is killed after 2 s.
#[tokio::test]
async fn pitfall_04_the_plugin_answers_and_exits() {
    let state = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(state.path()).await;
    let mut events = plugin.driver().task_events(TaskEventsRequest {}).await.unwrap().into_inner();
    let open = tokio::spawn(async move { drop(events.message().await) });
    let socket = plugin.socket();
    let (took, status, _) = plugin.kill().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(status.success());
    assert!(!socket.exists() && !socket.parent().unwrap().exists());
    open.await.unwrap();
}

#[tokio::test]
async fn pitfall_03_ctrl_c_does_not_end_the_plugin() {
    let state = tempfile::tempdir().unwrap();
    let mut command = program_with_interrupts();
    let plugin = Plugin::launch(command.env(COOKIE.0, COOKIE.1), state.path()).await;
    send(&plugin, Signal::INT);
    tokio::time::sleep(Duration::from_millis(200)).await;
    plugin.base().plugin_info(PluginInfoRequest {}).await.unwrap();
    assert!(plugin.kill().await.1.success());
}

/// Background jobs of a shell ignore SIGINT and children inherit that. An agent at a terminal does not.
fn program_with_interrupts() -> Command {
    let program = program();
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal=INT").arg(program.get_program()).env_clear().stdin(Stdio::null());
    command
}

#[tokio::test]
async fn sigterm_ends_the_plugin() {
    let state = tempfile::tempdir().unwrap();
    let mut plugin = Plugin::start(state.path()).await;
    let socket = plugin.socket();
    send(&plugin, Signal::TERM);
    assert!(plugin.wait().await.success());
    assert!(!socket.exists());
}
