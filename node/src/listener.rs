//! Accepting connections: limits, implicit TLS, and a task for each conversation.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nfs_compat::{DiskFs, Fs};
use session::{Closing, Connection, Doing, Session};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::Instrument;

use crate::asking::{Asking, Services};
use crate::driver::Conversation;
use crate::metrics::{ByProtocol, Metrics};
use crate::protocols::Admit;
use crate::resume::Resuming;
use crate::standing::Following;
use crate::stream::Stream;

/// A TLS handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Wait after accept failed for want of descriptors, so that others can be closed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Makes the session of a new connection.
pub type Begin = Arc<dyn Fn(Connection) -> Box<dyn Session> + Send + Sync>;

/// One protocol as this node serves it.
#[derive(Clone)]
pub struct Protocol {
    /// As in metrics and log: `imap`, `pop3`, `lmtp`.
    pub name: &'static str,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    pub begin: Begin,
}

/// What all listeners share.
pub struct Front {
    pub services: Arc<Services>,
    pub admit: Arc<Admit>,
    pub acceptor: Option<TlsAcceptor>,
    pub host: Arc<str>,
    pub connections_max: usize,
    /// Of one address, before anybody logged in.
    pub unauthenticated_max: usize,
    pub open: AtomicUsize,
    pub output_stall: Duration,
    pub stopping: watch::Receiver<bool>,
    pub metrics: Arc<Metrics>,
    /// Tells the session ids of this run from those of others.
    pub run: u32,
}

impl Front {
    /// What it takes to go on with the session of this connection, should its account come here.
    pub fn resuming(&self, connection: Connection, id: String) -> Resuming {
        let (services, admit) = (Arc::clone(&self.services), Arc::clone(&self.admit));
        Resuming { services, admit, connection, id }
    }
}

/// A bound socket.
pub enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds, before root is given up.
#[expect(clippy::disallowed_methods, reason = "listeners are node's to bind")]
pub fn bind_tcp(address: SocketAddr) -> Result<std::net::TcpListener> {
    let listener =
        std::net::TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// As [`bind_tcp`]. A socket that an earlier run left behind is removed; one that somebody answers on stays.
pub fn bind_unix(path: &Path) -> Result<std::os::unix::net::UnixListener> {
    let refused = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if refused {
        DiskFs::new().unlink(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)
        .with_context(|| format!("cannot listen on {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Bound {
    /// The address that clients use; a port of 0 has become a real one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self) -> std::io::Result<(Stream, IpAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // Replies are written whole: waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), remote.ip().to_canonical()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), IpAddr::V4(Ipv4Addr::LOCALHOST)))
            }
        }
    }
}

/// Accepts until the node stops.
pub async fn serve(bound: Bound, protocol: Protocol, front: Arc<Front>) {
    let mut stopping = front.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = bound.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match accepted {
            Ok((stream, remote)) => begin(stream, remote, &protocol, &front),
            Err(error) => {
                tracing::warn!(protocol = protocol.name, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn begin(stream: Stream, remote: IpAddr, protocol: &Protocol, front: &Arc<Front>) {
    let label = ByProtocol { protocol: protocol.name };
    if front.open.fetch_add(1, Ordering::AcqRel) >= front.connections_max {
        front.open.fetch_sub(1, Ordering::AcqRel);
        front.metrics.connections_refused.get_or_create(&label).inc();
        tracing::warn!(protocol = protocol.name, %remote, limit = front.connections_max, "too many connections");
        return;
    }
    // An MTA never logs in, and has many connections.
    let strangers = front.services.live.strangers(remote, "lmtp");
    if protocol.name != "lmtp" && strangers >= front.unauthenticated_max {
        front.open.fetch_sub(1, Ordering::AcqRel);
        front.metrics.connections_refused.get_or_create(&label).inc();
        tracing::warn!(protocol = protocol.name, %remote, strangers, "too many connections without a login");
        return;
    }
    front.metrics.connections_total.get_or_create(&label).inc();
    front.metrics.connections.get_or_create(&label).inc();
    let (protocol, front) = (protocol.clone(), Arc::clone(front));
    tokio::spawn(async move {
        converse(stream, remote, &protocol, &front).await;
        front.metrics.connections.get_or_create(&label).dec();
        front.open.fetch_sub(1, Ordering::AcqRel);
    });
}

async fn converse(mut stream: Stream, remote: IpAddr, protocol: &Protocol, front: &Arc<Front>) {
    if protocol.implicit_tls {
        let Some(acceptor) = &front.acceptor else { return };
        if let Err(error) = stream.encrypt(acceptor, HANDSHAKE).await {
            tracing::info!(protocol = protocol.name, %remote, %error, "TLS handshake failed");
            return;
        }
    }
    let tls = stream.is_tls();
    let place = front.services.live.enter(front.run, protocol.name, remote, tls);
    let span = tracing::info_span!("session", id = place.id(), protocol = protocol.name);
    let resuming = front.resuming(connection(front, remote, tls), place.id());
    let conversation = Conversation {
        session: (protocol.begin)(connection(front, remote, tls)),
        asking: Asking::new(Arc::clone(&front.services), protocol.name, remote, tls, place.id()),
        stream,
        place,
        acceptor: front.acceptor.clone(),
        stopping: front.stopping.clone(),
        output_stall: front.output_stall,
        protocol: protocol.name,
        metrics: Arc::clone(&front.metrics),
        told: Doing::default(),
        moved: false,
        resuming,
        edge_moves: false,
        leaving: None,
        standing: Following::new(&front.services.router),
    };
    async {
        let closing = conversation.run().await;
        log_end(&closing, remote);
    }
    .instrument(span)
    .await;
}

fn connection(front: &Front, remote: IpAddr, tls: bool) -> Connection {
    let auth = &front.services.auth;
    let loopback = remote.is_loopback();
    let mechanisms = |tls| auth.mechanisms(tls, loopback).into_iter().map(str::to_owned).collect();
    Connection {
        remote,
        tls,
        tls_available: front.acceptor.is_some(),
        plaintext_without_tls: auth.plaintext_allowed(false, loopback),
        mechanisms_plain: mechanisms(false),
        mechanisms_tls: mechanisms(true),
        host: Arc::clone(&front.host),
    }
}

pub(crate) fn log_end(closing: &Closing, remote: IpAddr) {
    match closing {
        Closing::LoggedOut
        | Closing::ClientHungUp
        | Closing::Stopping
        | Closing::Moved
        | Closing::Kicked(_) => {
            tracing::debug!(%remote, ?closing, "session ended");
        }
        Closing::TimedOut(_) | Closing::Misbehaved(_) => tracing::info!(%remote, ?closing, "session ended"),
        Closing::UnknownFate | Closing::Failed(_) => tracing::warn!(%remote, ?closing, "session ended"),
    }
}
