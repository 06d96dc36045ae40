//! Calls between nodes: this node's certificate, the listener for peers, and the way to each of them.
//!
//! Invariants
//! - Nothing that a peer says is read before its certificate was checked; each connection that is refused is one line in
//!   the log that says what to do.
//! - A node without `[cluster.tls]` makes its own CA and certificate, once, in its `state_dir`: it can serve alone, and
//!   talks to nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use config::Config;
use locking::peer::grpc;
use nfs_compat::Fs;
use nfs_compat::publish::publish_new;
use rpc::PeerIdentity;
use rpc::peer::{self, Channels, HANDSHAKES_MAX, PeerStream, Routes};
use rpc::pki::{self, Pair};
use rpc::tls::{NodeTls, Pems};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::admin;
use crate::metrics::Metrics;
use crate::receive::Door;
use crate::router::unknown_node;

/// Certificates and keys are small; more is not one.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// Where a node that has no certificate keeps the one that it made.
const DIRECTORY: &str = "pki";
const CA: &str = "ca";
/// Wait after accept failed for want of descriptors, so that others can be closed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Connections that have shaken hands and wait to be served.
const WAITING_MAX: usize = 16;

/// Who this node is to its peers.
pub fn identity(config: &Config) -> PeerIdentity {
    PeerIdentity { site: config.cluster.site.clone(), node: config.node.id }
}

/// This node's certificate, from `[cluster.tls]` or made here.
pub fn tls(config: &Config, fs: &dyn Fs) -> Result<NodeTls> {
    let identity = identity(config);
    let tls = &config.cluster.tls;
    let files = match (&tls.ca, &tls.certificate, &tls.key) {
        (Some(ca), Some(certificate), Some(key)) => (ca.clone(), certificate.clone(), key.clone()),
        (None, None, None) => own_files(fs, &config.node.state_dir.join(DIRECTORY), &identity)?,
        _ => anyhow::bail!(
            "[cluster.tls] takes ca, certificate and key together; `roost cluster pki` makes them"
        ),
    };
    let (ca, certificate, key) = (read(fs, &files.0)?, read(fs, &files.1)?, read(fs, &files.2)?);
    let pems = Pems { ca: &ca, certificate: &certificate, key: &key };
    NodeTls::new(identity, pems).with_context(|| format!("cluster.tls.certificate {}", files.1.display()))
}

/// Reads the files of `[cluster.tls]` again; `None`: there are none, or they are those in use.
pub fn renewed(config: &Config, fs: &dyn Fs, tls: &NodeTls) -> Result<Option<rpc::tls::Current>> {
    let files = &config.cluster.tls;
    let (Some(ca), Some(certificate), Some(key)) = (&files.ca, &files.certificate, &files.key) else {
        return Ok(None);
    };
    let shown = certificate.display();
    let (ca, certificate, key) = (read(fs, ca)?, read(fs, certificate)?, read(fs, key)?);
    let checked = tls.check(Pems { ca: &ca, certificate: &certificate, key: &key });
    let checked = checked.with_context(|| format!("cluster.tls.certificate {shown}"))?;
    Ok((!tls.uses(&checked)).then_some(checked))
}

/// The way to each member of this site.
pub fn channels(tls: NodeTls, config: &Config) -> Channels {
    let members = config.cluster.member.0.iter().map(|member| (member.id, member.peer.clone()));
    Channels::new(tls, &config.cluster.site, members)
}

/// What peers find at `listen.peer`: they are served before there is anything behind them, and told so.
#[derive(Default)]
pub struct Doors {
    pub relay: Arc<Door>,
    pub admin: Arc<admin::Door>,
    pub coordination: Arc<locking::Door>,
}

impl Doors {
    /// Serves peers until `ended`. Returns the address that they use, and what ends when it is free again.
    pub fn serve(
        &self,
        socket: std::net::TcpListener,
        config: &Config,
        tls: &NodeTls,
        metrics: &Arc<Metrics>,
        ended: &watch::Receiver<bool>,
    ) -> Result<(SocketAddr, JoinHandle<()>)> {
        let listener = TcpListener::from_std(socket)?;
        let address = listener.local_addr()?;
        let site = &config.cluster.site;
        let coordination = grpc::service(site, config.node.id, Arc::clone(&self.coordination));
        let commands = rpc::admin::peer_service(site, Arc::clone(&self.admin));
        let routes = routes(site, &self.relay).add_service(coordination).add_service(commands);
        let (tls, metrics, ended) = (tls.clone(), Arc::clone(metrics), ended.clone());
        let serving = tokio::spawn(async move {
            if let Err(error) = serve(listener, tls, routes, metrics, ended).await {
                tracing::error!("no other node can reach this one: {error:#}");
            }
        });
        Ok((address, serving))
    }
}

/// The other nodes of the site, for the coordination service; `None` for a node alone. Its channels are its own, so that
/// mail never holds up an election.
pub fn site(tls: &NodeTls, config: &Config, doors: &Doors) -> Option<locking::Site> {
    let members: BTreeMap<u8, String> =
        config.cluster.member.0.iter().map(|member| (member.id, member.peer.clone())).collect();
    if members.len() < 2 {
        return None;
    }
    let mut others = members.clone();
    others.remove(&config.node.id);
    let channels = Channels::new(tls.clone(), &config.cluster.site, others.clone());
    let dial = move |node: u8, address: &str| {
        channels.set_address(node, address.to_owned());
        channels.to(node).ok_or_else(|| unknown_node(node))
    };
    let peers = grpc::GrpcPeers::new(&config.cluster.site, config.node.id, others, Box::new(dial));
    Some(locking::Site { members, peers, door: Arc::clone(&doors.coordination) })
}

/// The files of a node that has none configured: made once. A node that is renamed makes another certificate.
fn own_files(fs: &dyn Fs, directory: &Path, identity: &PeerIdentity) -> Result<(PathBuf, PathBuf, PathBuf)> {
    fs.create_dir_all(directory)?;
    let name = format!("{}-{}", identity.site, identity.node);
    let (ca, ca_key) = paths(directory, CA);
    let (certificate, key) = paths(directory, &name);
    if !fs.exists(&ca)? {
        write(fs, directory, CA, &pki::make_ca()?)?;
    }
    if !fs.exists(&certificate)? {
        let ca = Pair { certificate: read(fs, &ca)?, key: read(fs, &ca_key)? };
        write(fs, directory, &name, &pki::issue(&ca, identity, &[])?)?;
    }
    Ok((ca, certificate, key))
}

fn paths(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")))
}

/// The key first, and over one that a crash left behind without its certificate.
fn write(fs: &dyn Fs, directory: &Path, name: &str, pair: &Pair) -> Result<()> {
    nfs_compat::publish::publish(fs, directory, &format!("{name}.key"), pair.key.as_bytes())?;
    publish_new(fs, directory, &format!("{name}.pem"), pair.certificate.as_bytes())?;
    Ok(())
}

fn read(fs: &dyn Fs, path: &Path) -> Result<String> {
    let bytes = fs.read(path, PEM_BYTES_MAX).context("[cluster.tls]")?;
    String::from_utf8(bytes).with_context(|| format!("[cluster.tls] {} is no PEM file", path.display()))
}

/// The services of a node. More can be added with `Routes::add_service`.
pub fn routes(site: &str, door: &Arc<Door>) -> Routes {
    Routes::new(rpc::relay::service(site, Arc::clone(door)))
}

/// Serves these services to peers until `ended`.
pub async fn serve(
    listener: TcpListener,
    tls: NodeTls,
    routes: Routes,
    metrics: Arc<Metrics>,
    ended: watch::Receiver<bool>,
) -> Result<()> {
    let (sender, connections) = mpsc::channel(WAITING_MAX);
    let mut accepting_ended = ended.clone();
    let accepting = async {
        tokio::select! {
            () = accept(&listener, &tls, &sender, &metrics) => {}
            _ = accepting_ended.wait_for(|ended| *ended) => {}
        }
    };
    let mut serving_ended = ended;
    let shutdown = async move {
        // The sender is gone only when the node is.
        let _ = serving_ended.wait_for(|ended| *ended).await;
    };
    tokio::select! {
        served = peer::serve(routes, connections, shutdown) => served?,
        () = accepting => {}
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    tls: &NodeTls,
    sender: &mpsc::Sender<PeerStream>,
    metrics: &Arc<Metrics>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (acceptor, sender, metrics) = (tls.acceptor(), sender.clone(), Arc::clone(metrics));
                tokio::spawn(async move {
                    shake_hands(stream, &acceptor, &sender, &metrics).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection from another node");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    sender: &mpsc::Sender<PeerStream>,
    metrics: &Metrics,
) {
    let remote = stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |remote| remote.to_string());
    match peer::accept(acceptor, stream).await {
        Ok(stream) => {
            tracing::debug!(%remote, peer = %stream.identity(), "another node has connected");
            // Whoever served them is gone with the node.
            let _ = sender.send(stream).await;
        }
        Err(why) => {
            metrics.peers_refused.inc();
            tracing::warn!(%remote, "connection at listen.peer refused: {why}");
        }
    }
}
