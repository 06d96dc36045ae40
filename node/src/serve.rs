//! One node: start, ready, drain, stop.
//!
//! Invariants
//! - Sockets are bound and root is given up before a byte from the network is read.
//! - "ready" is logged, and systemd told, when every listener accepts and a change can be acknowledged.
//! - SIGTERM: no new sessions, open accounts go to other nodes, running commands end, everything is durable and written
//!   back, exit 0.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use account::tenure::Volume;
use anyhow::{Context, Result};
use auth::Authenticator;
use config::Config;
use locking::Locking;
use model::SiteId;
use nfs_compat::lock::DirectoryLock;
use nfs_compat::{DiskFs, Fs};
use rpc::tls::NodeTls;
use store::spool::Spool;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::asking::Services;
use crate::bind::{self, Sockets};
use crate::handover::Departures;
use crate::listener::{self, Front};
use crate::live::Live;
use crate::measured::Measured;
use crate::metrics::Metrics;
use crate::owners::BucketOwners;
use crate::peer::Doors;
use crate::pool::Pool;
use crate::receive::Receiving;
use crate::registry::{Registry, Shared};
use crate::relaxed::Relaxed;
use crate::router::{AllHere, Owners, Router};
use crate::takeovers::TakeOvers;
use crate::tenure::Keeper;
use crate::users::Homes;
use crate::volume_watch::VolumeWatch;
use crate::{
    admin, balancer, emptying, handover, http, mail_volume, options, peer, privileges, protocols, router,
    site_log, time, tls, volume, volume_watch,
};

/// How often accounts are asked whether they have something lazy to do.
const TICK: Duration = Duration::from_secs(1);
/// Between looks at whether all sessions have ended, while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// A majority that is there answers within, also when it has to elect a leader first.
const MAJORITY_WAIT: Duration = Duration::from_secs(3);

/// A node that serves.
pub struct Running {
    pub name: String,
    pub config: Config,
    pub config_file: PathBuf,
    pub metrics: Arc<Metrics>,
    pub services: Arc<Services>,
    pub locking: Locking,
    /// Its certificate between nodes.
    pub node_tls: NodeTls,
    pub fs: Arc<dyn Fs>,
    pub volume: Arc<VolumeWatch>,
    /// Its site has several nodes, and the coordination service says what each owns.
    pub balances: bool,
    pub started_unix_s: i64,
    pub run: u32,
}

/// Runs a node until it is told to stop. The exit code is 0 after an orderly stop.
pub fn run(config: Config, config_file: PathBuf) -> Result<()> {
    #[cfg(feature = "seeded-bugs")]
    crate::seeded::plant()?;
    let run_as = privileges::run_as(config.node.run_as.as_deref())?;
    bind::prepare_directories(&config, run_as)?;
    let sockets = Sockets::bind(&config, run_as)?;
    if let Some(run_as) = run_as {
        run_as.become_it()?;
    }
    let _lock = DirectoryLock::acquire(&config.node.state_dir).context(
        "node.state_dir belongs to another process: stop that, or give this node a directory of its own",
    )?;
    mail_volume::examine_at_start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config, config_file, sockets));
    // Reads of a hung server must not keep the process: what counts is on disk.
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

async fn serve(config: Config, config_file: PathBuf, sockets: Sockets) -> Result<()> {
    let node = Node::start(config, config_file, sockets, Ownership::OfMembers).await?;
    announce(&node.running, &node.addresses);
    let ended = wait_for_the_end(&node.running).await;
    tracing::info!(
        why = ended.as_ref().map_or("the coordination service stopped", |why| why),
        "stopping: no new sessions"
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    node.stop().await?;
    tracing::info!("stopped");
    // Whoever supervises the process is to know that it did not end because it was told to.
    ended.map(drop).map_err(|why| anyhow::anyhow!("the coordination service stopped: {why}"))
}

/// Who decides which node owns an account.
pub enum Ownership {
    /// The configured members of the site; a node alone owns everything.
    OfMembers,
    /// Somebody else, whatever the coordination service of this one node says.
    Told(Arc<dyn Owners>),
}

impl Ownership {
    fn site(&self, tls: &NodeTls, config: &Config, doors: &Doors) -> Option<locking::Site> {
        match self {
            Self::OfMembers => peer::site(tls, config, doors),
            Self::Told(_) => None,
        }
    }

    fn owners(self, config: &Config, locking: &Locking) -> Arc<dyn Owners> {
        match self {
            Self::Told(owners) => owners,
            Self::OfMembers if config.cluster.member.0.len() > 1 => BucketOwners::follow(locking.clone()),
            Self::OfMembers => Arc::new(AllHere::default()),
        }
    }
}

/// How far a node has come with stopping.
struct Phases {
    stopping: watch::Receiver<bool>,
    closing: watch::Receiver<bool>,
    ended: watch::Receiver<bool>,
}

/// A node that serves, and what stops it.
pub struct Node {
    pub running: Arc<Running>,
    /// Where each protocol can be reached.
    pub addresses: Vec<(String, SocketAddr)>,
    stop: watch::Sender<bool>,
    /// Sessions that other nodes carry here are to end, too.
    close: watch::Sender<bool>,
    end: watch::Sender<bool>,
    /// Listens to other nodes.
    peers: Option<JoinHandle<()>>,
    pool: Arc<Pool>,
}

impl Node {
    /// Starts everything. When this returns, clients are served.
    pub async fn start(
        config: Config,
        config_file: PathBuf,
        sockets: Sockets,
        ownership: Ownership,
    ) -> Result<Self> {
        let metrics = Metrics::new();
        let disk: Arc<dyn Fs> = Arc::new(DiskFs::new());
        let measured = |volume| Measured::new(Arc::clone(&disk), volume, Arc::clone(&metrics));
        let own: Arc<dyn Fs> = Arc::new(measured("state"));
        let measured: Arc<dyn Fs> = Arc::new(measured("mail"));
        let fs: Arc<dyn Fs> = match config.mail.durability {
            config::Durability::Fsync => measured,
            config::Durability::Relaxed => Arc::new(Relaxed::new(measured)),
        };
        let (stop, stopping) = watch::channel(false);
        let (close, closing) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let node_tls = peer::tls(&config, &*disk)?;
        // Peers must reach the voter of this node before it can start: they elect it, or it them.
        let mut sockets = sockets;
        let doors = Doors::default();
        let peers =
            sockets.peer.take().map(|socket| doors.serve(socket, &config, &node_tls, &metrics, &ended));
        let (peer_address, peers) = peers.transpose()?.unzip();
        let locking = start_locking(&config, &own, ownership.site(&node_tls, &config, &doors)).await?;
        let balances = matches!(ownership, Ownership::OfMembers) && config.cluster.member.0.len() > 1;
        let channels = peer::channels(node_tls.clone(), &config);
        let router = Router::new(ownership.owners(&config, &locking), Some(channels), Arc::clone(&metrics));
        let pool = Arc::new(Pool::start(workers())?);
        let running = Arc::new(assemble(
            config,
            config_file,
            metrics,
            fs,
            (locking, node_tls),
            (router, balances),
            &pool,
        )?);
        let phases = Phases { stopping, closing, ended };
        let mut addresses = listen(&running, sockets, &doors, &phases).await?;
        addresses.extend(peer_address.map(|address| ("peer".to_owned(), address)));
        Ok(Self { running, addresses, stop, close, end, peers, pool })
    }

    /// Stops: running commands end, everything is durable and written back.
    pub async fn stop(self) -> Result<()> {
        self.stop.send_replace(true);
        self.give_away().await;
        self.close.send_replace(true);
        drain(&self.running).await;
        self.running.services.registry.stop().await;
        // While peers still reach it: of two nodes that are left of three, neither leads without the other's answers.
        self.running.locking.shutdown().await;
        self.end.send_replace(true);
        if let Some(peers) = self.peers {
            peers.await?;
        }
        tokio::task::spawn_blocking(move || self.pool.stop()).await?;
        Ok(())
    }
}

impl Node {
    /// Gives open accounts to other nodes, if there is a majority that can take note of it. Without one nothing can be
    /// acknowledged any more either, so nothing is waited for.
    async fn give_away(&self) {
        let voter = self.running.locking.voter();
        let confirmed = tokio::time::timeout(MAJORITY_WAIT, voter.confirm()).await;
        if !matches!(confirmed, Ok(Ok(()))) {
            tracing::warn!("no majority of the site answers: this node stops without handing anything over");
            voter.shutdown().await;
            return self.running.services.router.close();
        }
        let left = self.running.services.give_away().await;
        if left > 0 {
            tracing::info!(left, "buckets are free for other nodes once this one has stopped");
        }
    }
}

/// Threads for owners: they wait for disks more than they compute.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from) * 8
}

async fn start_locking(config: &Config, fs: &Arc<dyn Fs>, peers: Option<locking::Site>) -> Result<Locking> {
    let site = &config.cluster.site;
    let block = volume::read(&**fs, &config.mail.root, site)?;
    let floor = block.as_ref().map_or(0, |block| block.incarnation);
    let directory = config.node.state_dir.join("raft");
    fs.create_dir_all(&directory)?;
    let mut options =
        locking::Options::new(directory, Arc::clone(fs), config.node.id, config.replication.slot, floor);
    options.groups = config.cluster.groups;
    options.lease = locking::Length::new(config.cluster.lease).context("cluster.lease is out of bounds")?;
    if let Some(site) = &peers {
        tracing::info!(members = site.members.len(), "waiting for a majority of the site");
    }
    options.peers = peers;
    options.ballast = options.peers.is_some();
    options.frozen_read_max = config.cluster.frozen_read_max;
    // Where other machines can write, what lies there counts only as far as it was witnessed.
    options.found_anew = volume::kind(&config.mail.root, config.cluster.member.0.len())? == Volume::Private;
    let locking = Locking::start(options).await.context("the coordination service cannot start")?;
    let incarnation = locking.incarnation();
    if block.is_none_or(|block| block.incarnation < incarnation) {
        // Before an epoch of it names a file.
        let block = volume::Superblock { version: 1, site: site.clone(), incarnation };
        volume::write(&**fs, &config.mail.root, &block)?;
    }
    mail_volume::remember_served(&**fs, &config.node.state_dir, &config.mail.root)?;
    Ok(locking)
}

fn assemble(
    config: Config,
    config_file: PathBuf,
    metrics: Arc<Metrics>,
    fs: Arc<dyn Fs>,
    (locking, node_tls): (Locking, NodeTls),
    (router, balances): (Router, bool),
    pool: &Arc<Pool>,
) -> Result<Running> {
    let started_us = time::unix_us();
    let secret = options::decoy_secret(&*fs, &config.node.state_dir)?;
    let auth = Authenticator::new(config.auth.options(secret), Arc::clone(&fs))?;
    let keeper = Arc::new(Keeper::new(locking.clone(), tokio::runtime::Handle::current()));
    let mut spool = Spool::open(Arc::clone(&fs), &config.mail.root, config.node.id, started_us)?;
    let remover = spool.remover();
    std::thread::Builder::new().name("spool".to_owned()).spawn(move || remover.run())?;
    let caches = config.node.state_dir.join("cache");
    fs.create_dir_all(&caches)?;
    let shared = Shared {
        fs: Arc::clone(&fs),
        site: SiteId::new(config.replication.slot).context("replication.slot is above 15")?,
        node: config.node.id,
        volume: volume::kind(&config.mail.root, config.cluster.member.0.len())?,
        witness: keeper.clone(),
        tenures: keeper,
        limits: options::limits(&config),
        autocreate: Vec::new(),
        caches,
        observe_us: u64::try_from(config.mail.observe.as_micros()).unwrap_or(u64::MAX),
        metrics: Arc::clone(&metrics),
        takeovers: TakeOvers::default(),
    };
    let services = Services {
        auth: Arc::new(auth),
        registry: Registry::new(shared, Arc::clone(pool)),
        spool: Arc::new(spool),
        homes: Homes::new(config.mail.root.clone(), config.mail.account_dir.clone()),
        live: Arc::new(Live::default()),
        sessions_per_user_max: config.limits.connections_per_user as usize,
        recipient_delimiter: config.mail.recipient_delimiter.clone(),
        metrics: Arc::clone(&metrics),
        router,
        departures: Departures::default(),
    };
    Ok(Running {
        name: options::node_name(&config),
        config,
        config_file,
        metrics,
        services: Arc::new(services),
        locking,
        node_tls,
        fs,
        volume: Arc::default(),
        balances,
        started_unix_s: time::unix_s(),
        run: (started_us / 1_000_000) as u32,
    })
}

async fn listen(
    running: &Arc<Running>,
    sockets: Sockets,
    doors: &Doors,
    phases: &Phases,
) -> Result<Vec<(String, SocketAddr)>> {
    let config = &running.config;
    let Phases { stopping, closing, ended } = phases;
    let acceptor = tls::acceptor(&options::tls(config, &running.name), Arc::clone(&running.fs))?;
    let front = Arc::new(Front {
        services: Arc::clone(&running.services),
        admit: Arc::new(protocols::admit(config)),
        acceptor: Some(acceptor),
        host: running.name.as_str().into(),
        connections_max: config.limits.connections as usize,
        unauthenticated_max: config.limits.connections_unauthenticated as usize,
        open: AtomicUsize::new(0),
        output_stall: config.limits.output_stall,
        stopping: stopping.clone(),
        metrics: Arc::clone(&running.metrics),
        run: running.run,
    });
    let mut addresses = Vec::new();
    for (name, bound) in sockets.protocols {
        let bound = bound.into_async()?;
        addresses.extend(bound.address().map(|address| (name.to_owned(), address)));
        tokio::spawn(listener::serve(bound, protocols::protocol(name, config), Arc::clone(&front)));
    }
    doors.relay.open(receiving(config, &front, closing));
    doors.admin.open(Arc::clone(running));
    tokio::spawn(handover::follow(Arc::clone(&running.services), ended.clone()));
    tokio::spawn(emptying::follow(Arc::clone(&running.services), ended.clone()));
    tokio::spawn(router::end_moved(running.services.router.clone(), Arc::clone(&running.services.live)));
    for http in sockets.http {
        let listener = tokio::net::TcpListener::from_std(http)?;
        addresses.push(("admin_http".to_owned(), listener.local_addr()?));
        let token = config.metrics.token.clone();
        tokio::spawn(http::serve(listener, Arc::clone(running), token, ended.clone()));
    }
    tokio::spawn(admin::serve(sockets.admin, Arc::clone(running), ended.clone()));
    tokio::spawn(tick(Arc::clone(running), ended.clone()));
    if running.balances {
        let (locking, metrics) = (running.locking.clone(), Arc::clone(&running.metrics));
        tokio::spawn(balancer::run(locking, metrics, ended.clone()));
        tokio::spawn(site_log::run(running.locking.clone(), ended.clone()));
    }
    let (watch, spool) = (Arc::clone(&running.volume), Arc::clone(&running.services.spool));
    tokio::spawn(volume_watch::run(watch, spool, ended.clone()));
    tokio::spawn(follow_addresses(running.locking.clone(), running.services.router.clone()));
    Ok(addresses)
}

/// What this node does for its peers.
fn receiving(config: &Config, front: &Arc<Front>, closing: &watch::Receiver<bool>) -> Receiving {
    Receiving {
        front: Arc::clone(front),
        closing: closing.clone(),
        message_bytes_max: config.limits.message_size.0,
        site: config.cluster.site.clone(),
    }
}

async fn tick(running: Arc<Running>, mut ended: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => running.services.registry.tick(),
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

/// Keeps to the addresses of nodes that were let in by command, for as long as the node lives.
async fn follow_addresses(locking: Locking, router: Router) {
    let mut map = locking.map_changes();
    loop {
        map.borrow_and_update();
        for node in locking.nodes() {
            router.learn_address(node.id.0, &node.address);
        }
        if map.changed().await.is_err() {
            return;
        }
        // Owners change in bursts, and members seldom.
        tokio::time::sleep(TICK).await;
    }
}

fn announce(running: &Running, addresses: &[(String, SocketAddr)]) {
    for (protocol, address) in addresses {
        tracing::info!(%protocol, %address, "listening");
    }
    tracing::info!(
        node = %running.name,
        site = %running.config.cluster.site,
        root = %running.config.mail.root.display(),
        incarnation = running.locking.incarnation(),
        "ready"
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// SIGTERM, SIGINT, or a coordination service that stopped for good.
async fn wait_for_the_end(running: &Arc<Running>) -> Result<&'static str, String> {
    let signals =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        tracing::error!("cannot listen to signals");
        return Ok("no signals");
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok("SIGTERM"),
            _ = interrupt.recv() => return Ok("SIGINT"),
            _ = hangup.recv() => crate::reload::reload(running),
            why = running.locking.stopped() => {
                tracing::error!(why, "the coordination service stopped: nothing can be acknowledged any more");
                return Err(why);
            }
        }
    }
}

/// Waits for sessions to end by themselves, as long as is allowed.
async fn drain(running: &Running) {
    let live = &running.services.live;
    let empty = async {
        while !live.list().is_empty() {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    if tokio::time::timeout(running.config.limits.drain_timeout, empty).await.is_err() {
        tracing::warn!(sessions = live.list().len(), "sessions are cut off: limits.drain_timeout has passed");
    }
}

/// The configuration of `--config`, or what is wrong with it.
pub fn load_config(file: &Path) -> Result<Config, Vec<String>> {
    let text =
        DiskFs::new().read(file, 1 << 20).map_err(|error| vec![error.to_string()]).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| vec![format!("{} is not UTF-8", file.display())])
        })?;
    config::load(&text, file).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}
