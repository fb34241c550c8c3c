//! The byte stream of a probe's connection: plain or TLS, with an eye on what the server asks for during the login.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready as await_ready};

use postgres_openssl::TlsStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{self, ChannelBinding, TlsConnect};

use super::login_watch::LoginWatch;

/// An SSLRequest: its length, and the code 80877103.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Asks the server for TLS. Returns its answer: `S` for yes, `N` for no.
///
/// The one byte is read alone, so that nothing behind it, which is not encrypted, is taken for a part of the login.
pub(super) async fn ask_for_tls(stream: &mut TcpStream) -> io::Result<u8> {
    stream.write_all(&SSL_REQUEST).await?;
    stream.read_u8().await
}

/// A connection to a server before the login.
pub(super) enum Encryption {
    /// Without TLS.
    None(TcpStream),
    /// Through TLS.
    Tls(TlsStream<TcpStream>),
}

impl Encryption {
    pub(super) const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// The stream that tokio-postgres reads and writes.
pub(super) struct Transport {
    stream: Encryption,
    watch: LoginWatch,
}

impl Transport {
    pub(super) const fn new(stream: Encryption, watch: LoginWatch) -> Self {
        Self { stream, watch }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.stream {
            Encryption::None(stream) => Pin::new(stream).poll_read(context, buffer),
            Encryption::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        await_ready!(read)?;
        Poll::Ready(self.watch.read(&buffer.filled()[before..]).map_err(io::Error::other))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Encryption::None(stream) => Pin::new(stream).poll_write(context, bytes),
            Encryption::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Encryption::None(stream) => Pin::new(stream).poll_flush(context),
            Encryption::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Encryption::None(stream) => Pin::new(stream).poll_shutdown(context),
            Encryption::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl tls::TlsStream for Transport {
    fn channel_binding(&self) -> ChannelBinding {
        match &self.stream {
            Encryption::None(_) => ChannelBinding::none(),
            Encryption::Tls(stream) => stream.channel_binding(),
        }
    }
}

/// Hands a stream on as it is: whether there is TLS was settled before tokio-postgres sees the stream.
pub(super) struct Settled;

impl TlsConnect<Transport> for Settled {
    type Stream = Transport;
    type Error = io::Error;
    type Future = Ready<io::Result<Transport>>;

    fn connect(self, stream: Transport) -> Self::Future {
        ready(Ok(stream))
    }
}
