//! What a command reads: a pipe or a terminal.

use nomad_plugin_proto::driver::exec_task_streaming_request::TerminalSize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

use super::terminal;

/// Ctrl-D: with nothing before it on its line a terminal makes it the end of the input.
const END_OF_INPUT: u8 = 4;

/// The writing end of a command's standard input. Once it is closed, or the command no longer reads, what still comes is
/// thrown away.
#[derive(Debug)]
pub(super) enum Stdin {
    Pipe(Option<pipe::Sender>),
    Terminal(Keyboard),
}

/// Who types at a terminal.
#[derive(Debug)]
pub(super) struct Keyboard {
    keys: pipe::Sender,
    in_line: bool,
    closed: bool,
}

impl Stdin {
    pub(super) fn terminal(keys: pipe::Sender) -> Self {
        Self::Terminal(Keyboard { keys, in_line: false, closed: false })
    }

    /// Waits for as long as the command does not read.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Pipe(Some(pipe)) => {
                if pipe.write_all(bytes).await.is_err() {
                    *self = Self::Pipe(None);
                }
            }
            Self::Pipe(None) => {}
            Self::Terminal(keyboard) => keyboard.write(bytes).await,
        }
    }

    /// The end of the input.
    pub(super) async fn close(&mut self) {
        match self {
            Self::Pipe(pipe) => *pipe = None,
            Self::Terminal(keyboard) => {
                // In the middle of a line the first one only hands over what is there.
                let ends = if keyboard.in_line { [END_OF_INPUT; 2].as_slice() } else { &[END_OF_INPUT] };
                keyboard.write(ends).await;
                keyboard.closed = true;
            }
        }
    }

    /// A pipe has no size.
    pub(super) fn resize(&self, size: TerminalSize) {
        if let Self::Terminal(keyboard) = self {
            terminal::resize(&keyboard.keys, size);
        }
    }
}

impl Keyboard {
    async fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.in_line = !matches!(last, b'\n' | b'\r');
        }
        if !self.closed {
            self.closed = self.keys.write_all(bytes).await.is_err();
        }
    }
}
