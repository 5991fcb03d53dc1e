//! A request to one of our own parts, over loopback or a Unix socket.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// One of our own parts that needs longer does not answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Sends a request to a port on loopback. Gives the status and the body.
pub(crate) async fn to_port(port: u16, request: Request<Empty<Bytes>>) -> io::Result<(u16, Bytes)> {
    within_time(async { send(TcpStream::connect(("127.0.0.1", port)).await?, request).await }).await
}

/// Sends a request to a Unix socket.
pub(crate) async fn to_socket(socket: &Path, request: Request<Empty<Bytes>>) -> io::Result<(u16, Bytes)> {
    within_time(async { send(UnixStream::connect(socket).await?, request).await }).await
}

/// A request without a body.
pub(crate) fn request(method: &str, path: &str) -> io::Result<Request<Empty<Bytes>>> {
    let builder = Request::builder().method(method).uri(path).header("host", "tollgate");
    builder.body(Empty::new()).map_err(io::Error::other)
}

async fn within_time(exchange: impl Future<Output = io::Result<(u16, Bytes)>>) -> io::Result<(u16, Bytes)> {
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> io::Result<(u16, Bytes)> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes()))
    };
    tokio::select! {
        answer = exchange => answer,
        // The connection may end with its answer; without one it is an error.
        ended = connection => Err(ended.map_or_else(io::Error::other, |()| io::ErrorKind::UnexpectedEof.into())),
    }
}
