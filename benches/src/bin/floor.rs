//! The floor as a program: relays every connection of an address to a server, with nothing in between.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result};
use benches::floor;
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
    floor::serve(&listener, server).context("relaying")?;
    Ok(())
}
