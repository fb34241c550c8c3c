//! The lower bound as a program: relays every connection to a server with a bare epoll loop.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result};
use benches::lower_bound;
use clap::Parser;

/// Relays every connection to a server with the least work that epoll allows, to show the limit. Not for use.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where every connection goes.
    #[arg(long, value_name = "ADDRESS")]
    server: SocketAddr,
}

fn main() -> Result<()> {
    let Arguments { listen, server } = Arguments::parse();
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    lower_bound::serve(&listener, server).context("relaying")?;
    Ok(())
}
