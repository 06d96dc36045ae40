//! One voter as a process of its own, that answers lines: what the black-box suite kills, pauses and cuts off.
//!
//! `lock_node NODE STATE_DIR LEASE_MS LISTEN accept:FROM=ADDRESS… reach:TO=ADDRESS… [bug:NAME]`
//!
//! Peers speak gRPC without certificates: there is a listener for each of them, which vouches for who calls. At LISTEN
//! anybody may connect and ask, one question and one answer a line:
//!
//! - `grant BUCKET`: `granted EPOCH SESSION`, `held EPOCH SESSION` if it needed nobody's consent, or `no WHY`
//! - `release BUCKET EPOCH`: `released`, by us or because the session was lost just then, or `no WHY`
//! - `witness BUCKET EPOCH SUBKEY COUNTER VALUE`: `ok`, `stale` or `backwards`
//! - `read BUCKET SUBKEY`: `found EPOCH COUNTER VALUE` or `none`
//! - `status`: `session NUMBER LIVE leader NODE term NUMBER`
//!
//! With a bug it answers what the service below did not say, so that the suite can show that it would notice: `early`,
//! before a witness is accepted; `stale`, that one was which is refused for its epoch; `memory`, reads from what this
//! voter knows, without asking whether it still leads or follows.
//!
//! Any of them may be answered `unknown WHY`: it may have happened, or may yet. `bad WHY` is a question that is none.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use locking::peer::grpc::{GrpcPeers, service};
use locking::{Door, GrantError, Length, Locking, Options, Record, Site, Subkey, Value, WitnessError};
use model::Epoch;
use nfs_compat::DiskFs;
use rpc::PeerIdentity;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SITE: &str = "a";
const CONNECT_MAX: Duration = Duration::from_secs(1);

struct Arguments {
    node: u8,
    state_dir: PathBuf,
    lease: Length,
    listen: String,
    accept: BTreeMap<u8, String>,
    reach: BTreeMap<u8, String>,
    bug: Option<Bug>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bug {
    Early,
    Stale,
    Memory,
}

impl Arguments {
    fn read() -> Result<Self, Failure> {
        let mut words = std::env::args().skip(1);
        let mut next = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
        let node = next("NODE")?.parse()?;
        let state_dir = PathBuf::from(next("STATE_DIR")?);
        let lease = Duration::from_millis(next("LEASE_MS")?.parse()?);
        let lease = Length::new(lease).ok_or("LEASE_MS is out of bounds")?;
        let listen = next("LISTEN")?;
        let (mut accept, mut reach, mut bug) = (BTreeMap::new(), BTreeMap::new(), None);
        for word in words {
            let way = |rest: &str| -> Result<(u8, String), Failure> {
                let (node, address) = rest.split_once('=').ok_or("accept:FROM=ADDRESS")?;
                Ok((node.parse()?, address.to_owned()))
            };
            match word.split_once(':') {
                Some(("accept", rest)) => accept.extend([way(rest)?]),
                Some(("reach", rest)) => reach.extend([way(rest)?]),
                Some(("bug", "early")) => bug = Some(Bug::Early),
                Some(("bug", "stale")) => bug = Some(Bug::Stale),
                Some(("bug", "memory")) => bug = Some(Bug::Memory),
                Some(_) | None => return Err(format!("what is {word}?").into()),
            }
        }
        Ok(Self { node, state_dir, lease, listen, accept, reach, bug })
    }
}

#[expect(clippy::disallowed_methods, reason = "the example plays the part of node")]
async fn bind(address: &str) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Takes calls of one peer.
async fn accept(from: u8, address: &str, to: u8, door: Arc<Door>) -> Result<(), Failure> {
    let listener = bind(address).await?;
    let vouch = move |mut request: tonic::Request<()>| {
        request.extensions_mut().insert(PeerIdentity { site: SITE.to_owned(), node: from });
        Ok(request)
    };
    let vouched = tonic::service::interceptor::InterceptedService::new(service(SITE, to, door), vouch);
    // The server's own setting is for sockets that it binds itself.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder().add_service(vouched);
    tokio::spawn(serving.serve_with_incoming(incoming));
    Ok(())
}

async fn start(arguments: &Arguments) -> Result<Locking, Failure> {
    let node = arguments.node;
    let door = Door::new();
    for (from, address) in &arguments.accept {
        accept(*from, address, node, Arc::clone(&door)).await?;
    }
    let dial = |_: u8, address: &str| {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        Ok(endpoint.tcp_nodelay(true).connect_timeout(CONNECT_MAX).connect_lazy())
    };
    let mut members = arguments.reach.clone();
    let peers = GrpcPeers::new(SITE, node, members.clone(), Box::new(dial));
    members.insert(node, String::new());
    let mut options = Options::new(arguments.state_dir.clone(), Arc::new(DiskFs::new()), node, 1, 0);
    options.lease = arguments.lease;
    options.peers = Some(Site { members, peers, door });
    Ok(Locking::start(options).await?)
}

#[derive(Clone)]
struct Node {
    locking: Locking,
    /// Grants and releases one at a time: the epoch that is released is the one that was named.
    turn: Arc<tokio::sync::Mutex<()>>,
    bug: Option<Bug>,
}

impl Node {
    async fn serve(self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        while let Some(line) = lines.next_line().await? {
            let answer = self.answer(&line).await.unwrap_or_else(|| format!("bad {line}"));
            writer.write_all(format!("{}\n", answer.replace('\n', " ")).as_bytes()).await?;
        }
        Ok(())
    }

    async fn answer(&self, line: &str) -> Option<String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let numbers: Option<Vec<u64>> =
            rest.split(' ').filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect();
        match (word, numbers?.as_slice()) {
            ("grant", [bucket]) => Some(self.grant(u16::try_from(*bucket).ok()?).await),
            ("release", [bucket, epoch]) => Some(self.release(u16::try_from(*bucket).ok()?, *epoch).await),
            ("witness", [bucket, epoch, subkey, counter, value]) => {
                let record = Record {
                    bucket: u16::try_from(*bucket).ok()?,
                    epoch: Epoch::from_u64(*epoch),
                    subkey: key(*subkey),
                    value: Value::new(&value.to_le_bytes())?,
                    counter: *counter,
                };
                Some(self.witness(record).await)
            }
            ("read", [bucket, subkey]) => self.read(u16::try_from(*bucket).ok()?, *subkey).await,
            ("status", []) => {
                let status = self.locking.status();
                let (session, live, term) = (status.session, status.session_live, status.group.term);
                let leader = status.group.leader.unwrap_or(0);
                Some(format!("session {session} {live} leader {leader} term {term}"))
            }
            _ => None,
        }
    }

    async fn grant(&self, bucket: u16) -> String {
        let _turn = self.turn.lock().await;
        let session = self.locking.session();
        if let Some(epoch) = self.locking.held(bucket) {
            return format!("held {} {session}", epoch.get());
        }
        match self.locking.grant(bucket).await {
            Ok(epoch) if self.locking.session() == session => format!("granted {} {session}", epoch.get()),
            Ok(_) => "unknown the session was replaced".to_owned(),
            Err(GrantError::NoAnswer(why)) => format!("unknown {why}"),
            Err(
                error @ (GrantError::HeldElsewhere(_) | GrantError::Draining(_) | GrantError::Refused(_)),
            ) => format!("no {error}"),
        }
    }

    async fn release(&self, bucket: u16, epoch: u64) -> String {
        let _turn = self.turn.lock().await;
        if self.locking.held(bucket).map(Epoch::get) != Some(epoch) {
            return "no it is not held".to_owned();
        }
        match self.locking.release(bucket).await {
            Ok(()) => "released".to_owned(),
            Err(GrantError::NoAnswer(why)) => format!("unknown {why}"),
            Err(
                error @ (GrantError::HeldElsewhere(_) | GrantError::Draining(_) | GrantError::Refused(_)),
            ) => format!("no {error}"),
        }
    }

    async fn witness(&self, record: Record) -> String {
        let ticket = self.locking.submit(record);
        if self.bug == Some(Bug::Early) {
            return "ok".to_owned();
        }
        match ticket.answer().await {
            Ok(()) => "ok".to_owned(),
            Err(WitnessError::StaleEpoch) if self.bug == Some(Bug::Stale) => "ok".to_owned(),
            Err(WitnessError::StaleEpoch) => "stale".to_owned(),
            Err(WitnessError::Backwards) => "backwards".to_owned(),
            Err(error @ WitnessError::Unknown) => format!("unknown {error}"),
        }
    }

    async fn read(&self, bucket: u16, subkey: u64) -> Option<String> {
        let read = match self.bug {
            Some(Bug::Memory) => {
                let known = self.locking.voter().reader();
                Ok(known.read(|state| state.witness(bucket, &key(subkey))))
            }
            Some(Bug::Early | Bug::Stale) | None => self.locking.read_witness(bucket, &key(subkey)).await,
        };
        match read {
            Ok(None) => Some("none".to_owned()),
            Ok(Some(witness)) => {
                let value = u64::from_le_bytes(witness.value.as_bytes().try_into().ok()?);
                Some(format!("found {} {} {value}", witness.epoch.get(), witness.counter))
            }
            Err(why) => Some(format!("unknown {why}")),
        }
    }
}

fn key(subkey: u64) -> Subkey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&subkey.to_le_bytes());
    key
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::read()?;
    // Before there is a majority, so that whoever asks waits and is not refused.
    let listener = bind(&arguments.listen).await?;
    let node = Node { locking: start(&arguments).await?, turn: Arc::default(), bug: arguments.bug };
    println!("ready");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let node = node.clone();
                // Whoever asked has hung up.
                tokio::spawn(async move { drop(node.serve(stream).await) });
            }
            why = node.locking.stopped() => return Err(why.into()),
        }
    }
}
