//! A terminal for one command (pty(7)).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nomad_plugin_proto::driver::exec_task_streaming_request::TerminalSize;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::net::unix::pipe;

/// Our side of a terminal, and the command's.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) screen: pipe::Receiver,
    pub(super) keyboard: pipe::Sender,
    pub(super) slave: OwnedFd,
}

impl Terminal {
    /// A new one. It does not become a terminal of this process.
    pub(super) fn open() -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        // To the runtime a terminal is as good as a pipe: it can be polled, read and written.
        let screen = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
        let keyboard = pipe::Sender::from_owned_fd_unchecked(master)?;
        Ok(Self { screen, keyboard, slave })
    }
}

/// The processes in the foreground learn of it by SIGWINCH. A terminal that is closed already has no size.
pub(super) fn resize(keyboard: &pipe::Sender, size: TerminalSize) {
    let cells = |count: i32| u16::try_from(count.max(0)).unwrap_or(u16::MAX);
    let size = Winsize { ws_row: cells(size.height), ws_col: cells(size.width), ws_xpixel: 0, ws_ypixel: 0 };
    let _ = tcsetwinsize(keyboard.as_fd(), size);
}
