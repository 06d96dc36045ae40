//! A client's connection: plain or encrypted, over TCP, a UNIX socket, or another node.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rpc::relay::Pipe;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A connection. TLS state is boxed: most of it is bigger than all the rest of a session.
pub enum Stream {
    /// Between plain and encrypted, and after a handshake that failed.
    Gone,
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Stream>>),
    /// Carried here by another node, which has the client's connection.
    Carried(Box<Pipe>),
}

impl Stream {
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Becomes encrypted, or is gone.
    pub async fn encrypt(&mut self, acceptor: &TlsAcceptor, within: Duration) -> io::Result<()> {
        let plain = std::mem::replace(self, Self::Gone);
        match tokio::time::timeout(within, acceptor.accept(plain)).await {
            Ok(encrypted) => *self = Self::Tls(Box::new(encrypted?)),
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long")),
        }
        Ok(())
    }
}

/// Calls a method of whichever stream this is.
macro_rules! delegate {
    ($self:expr, $method:ident ( $($argument:expr),* )) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Stream::Carried(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Stream::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(cx))
    }
}
