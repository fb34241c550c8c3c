//! Writes to a command's standard input: a pipe or a terminal.

use nomad_plugin_proto::driver::exec_task_streaming_request::TerminalSize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

use super::terminal;

/// Ctrl-D: at the start of a line a terminal reports it as the end of the input.
const END_OF_INPUT: u8 = 4;

/// The writing end of a command's standard input. Input that arrives after it was closed, or when the command no
/// longer reads, is dropped.
#[derive(Debug)]
pub(super) enum Stdin {
    Pipe(Option<pipe::Sender>),
    Terminal(TerminalInput),
}

/// The input of a terminal.
#[derive(Debug)]
pub(super) struct TerminalInput {
    master: pipe::Sender,
    in_line: bool,
    closed: bool,
}

impl Stdin {
    pub(super) fn terminal(master: pipe::Sender) -> Self {
        Self::Terminal(TerminalInput { master, in_line: false, closed: false })
    }

    /// Writes all bytes. It waits while the command does not read.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Pipe(Some(pipe)) => {
                if pipe.write_all(bytes).await.is_err() {
                    *self = Self::Pipe(None);
                }
            }
            Self::Pipe(None) => {}
            Self::Terminal(input) => input.write(bytes).await,
        }
    }

    /// Ends the input.
    pub(super) async fn close(&mut self) {
        match self {
            Self::Pipe(pipe) => *pipe = None,
            Self::Terminal(input) => {
                // Within a line the first one only flushes the line.
                let ends = if input.in_line { [END_OF_INPUT; 2].as_slice() } else { &[END_OF_INPUT] };
                input.write(ends).await;
                input.closed = true;
            }
        }
    }

    /// Sets the terminal's size. A pipe has none.
    pub(super) fn resize(&self, size: TerminalSize) {
        if let Self::Terminal(input) = self {
            terminal::resize(&input.master, size);
        }
    }
}

impl TerminalInput {
    async fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.in_line = !matches!(last, b'\n' | b'\r');
        }
        if !self.closed {
            self.closed = self.master.write_all(bytes).await.is_err();
        }
    }
}
