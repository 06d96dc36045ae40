//! Connections between nodes: accepted with the peer's identity, and kept open to each node that is called.
//!
//! Invariants
//! - A service sees only peers whose certificate was checked; who it is stands in the request's extensions as
//!   [`PeerIdentity`].
//! - A peer that is dead, or hangs, is noticed within [`PING_EVERY`] and [`PING_TIMEOUT`], on both ends.
//! - A slow handshake holds up nobody else.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
pub use tonic::service::Routes;
pub use tonic::transport::Channel;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server, Uri};

use crate::PeerIdentity;
use crate::tls::{ALPN, NodeTls, identity_of, server_name};

/// TCP and TLS to a peer take no longer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that dials us has so long for its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent connection is asked whether it lives.
pub const PING_EVERY: Duration = Duration::from_millis(2500);
pub const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Handshakes under way at a time. More wait in the listener's queue.
pub const HANDSHAKES_MAX: usize = 64;
/// Calls at a time on one connection: each carried session is one.
const STREAMS_MAX: u32 = 1 << 20;
/// What one call may have in flight; carried sessions have their own, smaller limit.
const STREAM_WINDOW: u32 = 1 << 20;
/// What a connection may have in flight. Services read what comes at once and keep their own bounds, so that one slow
/// call cannot use this up and hold up all others.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Why a connection from a peer is refused; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("no TLS handshake within {} s: is it a node that dials, and not some other program?", HANDSHAKE_TIMEOUT.as_secs())]
    Slow,
    #[error("it spoke no TLS: only nodes with a certificate of this site may use listen.peer")]
    NotTls,
    #[error("it showed no certificate: give it one with `roost cluster pki issue` and [cluster.tls]")]
    NoCertificate,
    #[error("it speaks another version of the protocol between nodes: run the same version of roost on both")]
    Version,
    #[error("it does not accept our certificate ({0}): both must be issued by the CA in cluster.tls.ca")]
    RefusedUs(String),
    #[error("{0}")]
    Certificate(String),
    #[error("TLS failed: {0}")]
    Failed(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Failed(error.to_string());
        };
        if let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = tls {
            return Self::Certificate(other.0.to_string());
        }
        if let rustls::Error::AlertReceived(alert) = tls {
            return Self::RefusedUs(format!("{alert:?}"));
        }
        if matches!(tls, rustls::Error::InvalidMessage(_)) {
            Self::NotTls
        } else if matches!(tls, rustls::Error::NoCertificatesPresented) {
            Self::NoCertificate
        } else if matches!(tls, rustls::Error::NoApplicationProtocol | rustls::Error::PeerIncompatible(_)) {
            Self::Version
        } else {
            Self::Failed(tls.to_string())
        }
    }
}

/// A connection whose peer is known.
pub struct PeerStream {
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    identity: PeerIdentity,
}

impl PeerStream {
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }
}

/// Shakes hands with a peer that has dialled us.
pub async fn accept(acceptor: &TlsAcceptor, stream: TcpStream) -> Result<PeerStream, Refused> {
    // Frames are written whole: waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = shaken.map_err(|_| Refused::Slow)??;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(ALPN) {
        return Err(Refused::Version);
    }
    let certificate = session.peer_certificates().and_then(<[_]>::first).ok_or(Refused::NoCertificate)?;
    let identity = identity_of(certificate).map_err(|error| Refused::Certificate(error.to_string()))?;
    Ok(PeerStream { stream, identity })
}

impl Connected for PeerStream {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.identity.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("calls between nodes cannot be served: {0}")]
pub struct ServeError(#[source] tonic::transport::Error);

/// Serves these services to peers, until `shutdown`. Connections come through the channel, checked.
pub async fn serve(
    routes: Routes,
    connections: mpsc::Receiver<PeerStream>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let incoming = ReceiverStream::new(connections);
    let incoming = tokio_stream::StreamExt::map(incoming, Ok::<_, io::Error>);
    Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
        .map_err(ServeError)
}

/// Where the nodes of a site are, and a connection to each that is called. Cheap to clone.
#[derive(Clone)]
pub struct Channels {
    tls: NodeTls,
    site: Arc<str>,
    peers: Arc<Mutex<BTreeMap<u8, Peer>>>,
}

struct Peer {
    address: String,
    channel: Option<Channel>,
}

impl Channels {
    /// `addresses` are hosts and ports, by node id.
    pub fn new(tls: NodeTls, site: &str, addresses: impl IntoIterator<Item = (u8, String)>) -> Self {
        let peers = addresses.into_iter().map(|(node, address)| (node, Peer { address, channel: None }));
        Self { tls, site: site.into(), peers: Arc::new(Mutex::new(peers.collect())) }
    }

    /// A node is elsewhere now, or new. The connection to where it was ends with the calls on it.
    pub fn set_address(&self, node: u8, address: String) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.get(&node).is_none_or(|peer| peer.address != address) {
            peers.insert(node, Peer { address, channel: None });
        }
    }

    /// The connection to a node, made when it is first used and made anew when it broke. `None`: no such node.
    pub fn to(&self, node: u8) -> Option<Channel> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.get_mut(&node)?;
        if peer.channel.is_none() {
            let identity = PeerIdentity { site: self.site.to_string(), node };
            peer.channel = Some(dial_lazily(self.tls.clone(), identity, peer.address.clone()));
        }
        peer.channel.clone()
    }
}

fn dial_lazily(tls: NodeTls, peer: PeerIdentity, address: String) -> Channel {
    let dial = move |_: Uri| {
        // With the certificate of the moment.
        let (connector, address) = (tls.connector(peer.clone()), address.clone());
        async move {
            let connector = connector.map_err(io::Error::other)?;
            match tokio::time::timeout(CONNECT_TIMEOUT, dial(connector, &address)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"))),
            }
        }
    };
    // The name is never looked up: `dial` knows where to go.
    let endpoint = Endpoint::from_static("http://peer.roost.internal")
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    endpoint.connect_with_connector_lazy(tower::service_fn(dial))
}

type Dialled = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;

#[expect(clippy::disallowed_methods, reason = "connections between nodes are this room's")]
async fn dial(connector: TlsConnector, address: &str) -> io::Result<Dialled> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = server_name().map_err(io::Error::other)?;
    let stream =
        connector.connect(name, stream).await.map_err(|error| io::Error::other(Refused::from(error)))?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::other(Refused::Version));
    }
    Ok(TokioIo::new(stream))
}
