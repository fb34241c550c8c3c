//! Sends one HTTP request to a proxy of this machine or network and reads its answer.

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest answer that is read, in bytes. A real one, with 32 changes of leader and many members, is far shorter.
const MAX_BODY: usize = 16 << 20;

/// The answer to `request`: its status and its body. It has no bound in time.
///
/// # Errors
/// If the connection breaks, or the answer is no text or too long.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, String)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response, MAX_BODY).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok((status, String::from_utf8(body.to_bytes().into())?))
    };
    tokio::pin!(answer);
    // The connection does the work; its end, which the proxy brings about, may come before the answer is taken.
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => {
            ended?;
            answer.await
        }
    }
}
