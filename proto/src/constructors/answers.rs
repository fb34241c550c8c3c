//! Answers with fields that Nomad's client reads without checking that they exist (`plugins/drivers/client.go`).

use std::collections::HashMap;
use std::time::SystemTime;

use crate::driver::{
    DriverTaskEvent, ExecTaskResponse, ExecTaskStreamingIoOperation, ExecTaskStreamingResponse, ExitResult,
    StartTaskResponse, TaskConfig, TaskHandle, TaskState, WaitTaskResponse, start_task_response,
};

impl TaskHandle {
    /// What Nomad stores of a running task to recover it later. Without `config` the task would silently not be
    /// recovered; version 0 marks a handle of Nomad before 0.9.
    pub fn running(version: std::num::NonZeroU16, config: TaskConfig, driver_state: Vec<u8>) -> Self {
        Self {
            version: i32::from(version.get()),
            config: Some(config),
            state: TaskState::Running.into(),
            driver_state,
        }
    }
}

impl StartTaskResponse {
    /// The task runs. Without a handle it could not be recovered.
    pub fn started(handle: TaskHandle) -> Self {
        Self {
            result: start_task_response::Result::Success.into(),
            driver_error_msg: String::new(),
            handle: Some(handle),
            network_override: None,
        }
    }
}

impl ExitResult {
    /// The process exited by itself.
    pub const fn exited(exit_code: i32) -> Self {
        Self { exit_code, signal: 0, oom_killed: false }
    }

    /// The process was killed by a signal. The exit code is 128 + `signal`, as in a shell and in Nomad's own executor.
    pub const fn signalled(signal: i32, oom_killed: bool) -> Self {
        Self { exit_code: 128 + signal, signal, oom_killed }
    }
}

impl WaitTaskResponse {
    /// How the task exited, and a message if there is one. Without a result Nomad would assume the exit code 0.
    pub fn new(result: ExitResult, message: Option<String>) -> Self {
        Self { result: Some(result), err: message.unwrap_or_default() }
    }
}

impl ExecTaskResponse {
    /// What a command wrote and how it exited. Without a result the agent would panic.
    pub const fn new(stdout: Vec<u8>, stderr: Vec<u8>, result: ExitResult) -> Self {
        Self { stdout, stderr, result: Some(result) }
    }
}

impl ExecTaskStreamingResponse {
    /// Bytes from the command's standard output.
    pub fn stdout(data: Vec<u8>) -> Self {
        Self { stdout: Some(ExecTaskStreamingIoOperation { data, close: false }), ..Self::default() }
    }

    /// Bytes from the command's standard error.
    pub fn stderr(data: Vec<u8>) -> Self {
        Self { stderr: Some(ExecTaskStreamingIoOperation { data, close: false }), ..Self::default() }
    }

    /// The end of standard output.
    pub fn stdout_closed() -> Self {
        Self {
            stdout: Some(ExecTaskStreamingIoOperation { data: Vec::new(), close: true }),
            ..Self::default()
        }
    }

    /// The end of standard error.
    pub fn stderr_closed() -> Self {
        Self {
            stderr: Some(ExecTaskStreamingIoOperation { data: Vec::new(), close: true }),
            ..Self::default()
        }
    }

    /// The command has exited. This is the last message of the stream.
    pub fn exited(result: ExitResult) -> Self {
        Self { exited: true, result: Some(result), ..Self::default() }
    }
}

impl DriverTaskEvent {
    /// An event that Nomad shows in the status of the allocation. Without a time it would show the year 1970.
    pub fn new(
        task_id: String,
        alloc_id: String,
        task_name: String,
        at: SystemTime,
        message: String,
    ) -> Self {
        Self {
            task_id,
            alloc_id,
            task_name,
            timestamp: Some(at.into()),
            message,
            annotations: HashMap::new(),
        }
    }
}
