//! How a connection comes in: accepted, its TLS agreed on, and known by its certificate.

use crate::identity::{Identity, Nameless};
use crate::tls::{Callers, Tls};
use axum::extract::connect_info::Connected as AxumConnected;
use axum::serve::{IncomingStream, Listener};
use futures_util::Stream;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take to agree on TLS: several round trips around the world.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Handshakes under way at once; further clients wait in the system's queue. Each holds a few kilobytes.
const HANDSHAKES_MAX: usize = 512;
/// How long to wait where the system has no descriptor to give: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Whoever can reach a listener without TLS: on loopback, or where somebody said that the network is trusted.
    Unasked,
    /// A client without a certificate.
    Anonymous,
    /// A part of Tollgate.
    Known(Identity),
    /// A certificate of ours that names nobody.
    Nameless(Nameless),
}

/// A listener, and what it asks of its clients.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    tls: Option<(Arc<Tls>, Callers)>,
    handshakes: JoinSet<Option<(Wire, SocketAddr)>>,
    handshake_max: Duration,
}

impl Door {
    /// Without TLS.
    pub fn plain(listener: TcpListener) -> Self {
        Self { listener, tls: None, handshakes: JoinSet::new(), handshake_max: HANDSHAKE_MAX }
    }

    /// With TLS, for these callers.
    pub fn tls(listener: TcpListener, tls: Arc<Tls>, callers: Callers) -> Self {
        Self { tls: Some((tls, callers)), ..Self::plain(listener) }
    }

    /// Whether it asks for TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Every connection, for a server that wants them as a stream.
    pub(crate) fn incoming(self) -> impl Stream<Item = io::Result<Wire>> {
        futures_util::stream::unfold(self, |mut door| async {
            let (wire, _) = door.accept().await;
            Some((Ok(wire), door))
        })
    }

    /// Begins with a connection: a handshake goes its own way, so that a slow client holds up nobody.
    fn welcome(&mut self, stream: TcpStream, from: SocketAddr) -> Option<Wire> {
        // Small answers that somebody waits for: sent at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection sends late");
        }
        let Some((tls, callers)) = self.tls.clone() else {
            return Some(Wire { io: Io::Plain(stream), peer: Peer::Unasked });
        };
        let at_most = self.handshake_max;
        self.handshakes.spawn(async move {
            let agreed = tokio::time::timeout(at_most, agree(&tls, callers, stream)).await;
            let agreed = agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let tell = |error: &io::Error| tracing::warn!(%from, %error, "no TLS with a client");
            agreed.inspect_err(tell).ok().map(|wire| (wire, from))
        });
        None
    }
}

async fn agree(tls: &Tls, callers: Callers, stream: TcpStream) -> io::Result<Wire> {
    let stream = TlsAcceptor::from(tls.config(callers)).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = match certificate.map(|certificate| Identity::of_certificate(certificate)) {
        None => Peer::Anonymous,
        Some(Ok(identity)) => Peer::Known(identity),
        Some(Err(nameless)) => Peer::Nameless(nameless),
    };
    Ok(Wire { io: Io::Tls(Box::new(stream)), peer })
}

impl Listener for Door {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES_MAX => match accepted {
                    Ok((stream, from)) => {
                        if let Some(wire) = self.welcome(stream, from) {
                            return (wire, from);
                        }
                    }
                    Err(error) if is_of_the_client(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The client had left before it was let in.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A connection, and who is at the other end.
#[derive(Debug)]
pub struct Wire {
    io: Io,
    peer: Peer,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl tonic::transport::server::Connected for Wire {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AxumConnected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().peer.clone()
    }
}

/// Carries a call over to whatever is below.
macro_rules! below {
    ($wire:ident, $io:ident => $call:expr) => {
        match &mut $wire.get_mut().io {
            Io::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Io::Tls($io) => {
                let $io = Pin::new($io.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        below!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        below!(self, io => io.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        below!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        below!(self, io => io.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        below!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFiles;
    use rcgen::{CertificateParams, KeyPair};
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_client_that_says_nothing_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key, client_authorities] =
            ["tls.crt", "tls.key", "ca.crt"].map(|name| folder.path().join(name));
        let pair = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["ledger".to_owned()]).unwrap().self_signed(&pair).unwrap();
        std::fs::write(&certificate, own.pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        std::fs::write(&client_authorities, own.pem()).unwrap();
        let tls = Tls::open(TlsFiles { certificate, key, client_authorities }).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut door = Door::tls(listener, Arc::new(tls), Callers::Certified);
        door.handshake_max = Duration::from_millis(50);
        let serving = tokio::spawn(async move { door.accept().await });
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0, "closed");
        serving.abort();
    }
}
