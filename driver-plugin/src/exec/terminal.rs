//! A pseudo-terminal for one command (pty(7)).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nomad_plugin_proto::driver::exec_task_streaming_request::TerminalSize;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::net::unix::pipe;

/// The master side, as reader and writer, and the command's side.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) reader: pipe::Receiver,
    pub(super) writer: pipe::Sender,
    pub(super) slave: OwnedFd,
}

impl Terminal {
    /// Opens a new one, which does not become the controlling terminal of this process.
    pub(super) fn open() -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        // The runtime can poll, read and write a terminal like a pipe.
        let reader = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
        let writer = pipe::Sender::from_owned_fd_unchecked(master)?;
        Ok(Self { reader, writer, slave })
    }
}

/// Sets the size; the kernel sends SIGWINCH to the foreground processes. A terminal that is closed already is no error.
pub(super) fn resize(writer: &pipe::Sender, size: TerminalSize) {
    let cells = |count: i32| u16::try_from(count.max(0)).unwrap_or(u16::MAX);
    let size = Winsize { ws_row: cells(size.height), ws_col: cells(size.width), ws_xpixel: 0, ws_ypixel: 0 };
    let _ = tcsetwinsize(writer.as_fd(), size);
}
