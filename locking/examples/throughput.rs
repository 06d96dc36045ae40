//! How many witnesses a second three voters accept, over gRPC on loopback, on real disks.
//!
//! `cargo run --release -p locking --example throughput -- [--rate N] [--groups N] [SECONDS] [DIRECTORY]`
//!
//! Each of the three nodes is an owner of many accounts, and keeps so many witnesses under way that its batches fill.
//! With `--rate` so many come a second instead, whether or not those before are answered, and it says how long each
//! waited from when it was due. `--groups` is `cluster.groups`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use locking::peer::grpc::{GrpcPeers, service};
use locking::{Door, Locking, Options, Record, Site, Value};
use nfs_compat::DiskFs;
use rpc::PeerIdentity;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

const NODES: [u8; 3] = [1, 2, 3];
/// Witnesses of one node that are under way at once.
const UNDER_WAY: usize = 8192;
/// As long as those of mail accounts.
const VALUE: [u8; 31] = [5; 31];

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One listener for each pair, which vouches for who calls.
async fn listen(to: u8, from: u8, door: Arc<Door>) -> Result<SocketAddr, Failure> {
    #[expect(clippy::disallowed_methods, reason = "the example plays the part of node")]
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let vouch = move |mut request: tonic::Request<()>| {
        request.extensions_mut().insert(PeerIdentity { site: "a".to_owned(), node: from });
        Ok(request)
    };
    let vouched = tonic::service::interceptor::InterceptedService::new(service("a", to, door), vouch);
    // The server's own setting is for sockets that it binds itself.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder().add_service(vouched);
    tokio::spawn(serving.serve_with_incoming(incoming));
    Ok(address)
}

async fn start(directory: &Path, groups: u16) -> Result<Vec<Locking>, Failure> {
    let doors: BTreeMap<u8, Arc<Door>> = NODES.map(|node| (node, Door::new())).into();
    let mut starting = Vec::new();
    for node in NODES {
        let mut addresses = BTreeMap::new();
        for (to, door) in doors.iter().filter(|(to, _)| **to != node) {
            addresses.insert(*to, listen(*to, node, Arc::clone(door)).await?.to_string());
        }
        let dial = |_: u8, address: &str| {
            let endpoint =
                Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
            Ok(endpoint.tcp_nodelay(true).connect_lazy())
        };
        let peers = GrpcPeers::new("a", node, addresses.clone(), Box::new(dial));
        addresses.insert(node, String::new());
        let door = doors.get(&node).map(Arc::clone).ok_or("no door")?;
        let state = directory.join(format!("node{node}"));
        let mut options = Options::new(state, Arc::new(DiskFs::new()), node, 1, 0);
        options.groups = groups;
        options.peers = Some(Site { members: addresses, peers, door });
        starting.push(tokio::spawn(Locking::start(options)));
    }
    let mut nodes = Vec::new();
    for starting in starting {
        nodes.push(starting.await??);
    }
    Ok(nodes)
}

/// Keeps witnesses of one node under way. Returns how many were accepted.
async fn own(locking: Locking, bucket: u16, until: Instant) -> Result<u64, Failure> {
    let epoch = locking.grant(bucket).await?;
    let mut accepted = 0;
    let mut counter = 0;
    while Instant::now() < until {
        counter += 1;
        let mut tickets = Vec::with_capacity(UNDER_WAY);
        for account in 0..UNDER_WAY {
            let mut subkey = [0; 16];
            subkey[..8].copy_from_slice(&(account as u64).to_le_bytes());
            let value = Value::new(&VALUE).ok_or("too long")?;
            tickets.push(locking.submit(Record { bucket, epoch, subkey, value, counter }));
        }
        for ticket in tickets {
            ticket.answer().await?;
            accepted += 1;
        }
    }
    Ok(accepted)
}

/// Hands witnesses in at a rate, whether or not those before are answered. Returns how long each waited for its answer
/// from when it was due.
async fn own_at(locking: Locking, bucket: u16, rate: f64, until: Instant) -> Result<Vec<Duration>, Failure> {
    let epoch = locking.grant(bucket).await?;
    let (handed_in, mut waiting) =
        tokio::sync::mpsc::unbounded_channel::<(Instant, locking::client::Ticket)>();
    let answers = tokio::spawn(async move {
        let mut waits = Vec::new();
        while let Some((due, ticket)) = waiting.recv().await {
            ticket.answer().await.map_err(|error| error.to_string())?;
            waits.push(due.elapsed());
        }
        Ok::<_, String>(waits)
    });
    let begun = Instant::now();
    let mut next = 0u64;
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    while Instant::now() < until {
        tick.tick().await;
        loop {
            let due = begun + Duration::from_secs_f64(next as f64 / rate);
            if due > Instant::now() {
                break;
            }
            let mut subkey = [0; 16];
            subkey[..8].copy_from_slice(&(next % UNDER_WAY as u64).to_le_bytes());
            let value = Value::new(&VALUE).ok_or("too long")?;
            let record = Record { bucket, epoch, subkey, value, counter: next };
            handed_in.send((due, locking.submit(record)))?;
            next += 1;
        }
    }
    drop(handed_in);
    Ok(answers.await??)
}

/// The load of `--rate`: as many owners as without it, each with its part.
async fn open_loop(nodes: &[Locking], rate: f64, until: Instant) -> Result<(), Failure> {
    let owners: Vec<_> = nodes
        .iter()
        .cycle()
        .zip(1..=6)
        .map(|(locking, bucket)| tokio::spawn(own_at(locking.clone(), bucket, rate / 6.0, until)))
        .collect();
    let mut waits = Vec::new();
    for owner in owners {
        waits.extend(owner.await??);
    }
    waits.sort_unstable();
    let at = |thousandths: usize| waits.get(waits.len().saturating_sub(1) * thousandths / 1000).copied();
    let [half, most, nearly_all] = [500, 990, 999].map(|part| at(part).unwrap_or_default());
    println!(
        "{} witnesses at {rate:.0} a second: p50 {half:?}, p99 {most:?}, p99.9 {nearly_all:?}",
        waits.len()
    );
    Ok(())
}

struct Arguments {
    rate: Option<f64>,
    groups: u16,
    seconds: u64,
    directory: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, Failure> {
    let mut read = Arguments { rate: None, groups: 1, seconds: 10, directory: None };
    let mut given = std::env::args().skip(1);
    let mut others = Vec::new();
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--rate" => {
                let rate: f64 = given.next().ok_or("--rate needs a number")?.parse()?;
                read.rate = Some(rate).filter(|rate| *rate >= 1.0);
            }
            "--groups" => read.groups = given.next().ok_or("--groups needs a number")?.parse()?,
            _ => others.push(argument),
        }
    }
    let mut others = others.into_iter();
    if let Some(seconds) = others.next() {
        read.seconds = seconds.parse()?;
    }
    read.directory = others.next().map(PathBuf::from);
    Ok(read)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let Arguments { rate, groups, seconds, directory } = arguments()?;
    let temporary = tempfile::tempdir()?;
    let nodes = start(directory.as_deref().unwrap_or(temporary.path()), groups).await?;
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    if let Some(rate) = rate {
        open_loop(&nodes, rate, until).await?;
    } else {
        closed_loop(&nodes, begun, until).await?;
    }
    for locking in nodes {
        locking.shutdown().await;
    }
    Ok(())
}

/// As many as are accepted.
async fn closed_loop(nodes: &[Locking], begun: Instant, until: Instant) -> Result<(), Failure> {
    // Two owners on each node, so that one gathers while the other waits.
    let owners: Vec<_> = nodes
        .iter()
        .cycle()
        .zip(1..=6)
        .map(|(locking, bucket)| tokio::spawn(own(locking.clone(), bucket, until)))
        .collect();
    let mut accepted = 0;
    for owner in owners {
        accepted += owner.await??;
    }
    let rate = accepted as f64 / begun.elapsed().as_secs_f64();
    println!("{accepted} witnesses accepted by three voters, {rate:.0} a second");
    for locking in nodes {
        let status = locking.status();
        let counters = status.counters;
        println!(
            "node {}{}: {} batches of {} records on average, {} us from proposal to answer on average",
            status.node_id,
            if status.group.leader == Some(u64::from(status.node_id)) { " (leader)" } else { "" },
            counters.batches,
            counters.records / counters.batches.max(1),
            counters.latency_us_sum / counters.batches.max(1),
        );
    }
    Ok(())
}
