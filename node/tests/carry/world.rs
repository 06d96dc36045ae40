//! Nodes, who owns what as a test says, and clients.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auth::UserName;
use config::{Config, Member};
use model::AccountId;
use roost::bind::{Sockets, prepare_directories};
use roost::router::{Owner, Owners};
use roost::serve::{Node, Ownership, Running};
use roost::users::account_id;
use rpc::PeerIdentity;
use rpc::pki::{self, Pair};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(crate) const WITHIN: Duration = Duration::from_secs(15);
/// At node 1, 2 and 3.
pub(crate) const EVE: &str = "eve@example.org";
pub(crate) const ADA: &str = "ada@example.org";
pub(crate) const BOB: &str = "bob@example.org";

/// Owners as a test says. An account that it does not name is here.
pub(crate) struct Told {
    owners: Mutex<BTreeMap<AccountId, Owner>>,
    version: watch::Sender<u64>,
}

impl Told {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { owners: Mutex::default(), version: watch::Sender::new(1) })
    }

    pub(crate) fn set(&self, user: &str, owner: Owner) {
        let next = *self.version.borrow() + 1;
        self.set_at(user, owner, next);
    }

    /// As of this version.
    pub(crate) fn set_at(&self, user: &str, owner: Owner, version: u64) {
        self.owners.lock().unwrap().insert(account(user), owner);
        self.version.send_replace(version);
    }
}

impl Owners for Told {
    fn owner(&self, account: AccountId) -> Owner {
        self.owners.lock().unwrap().get(&account).copied().unwrap_or(Owner::Here)
    }

    fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn wanted(&self, _account: AccountId) {}
}

pub(crate) fn account(user: &str) -> AccountId {
    account_id(&UserName::parse(user, None).unwrap())
}

/// One node. Dropping it kills it: nothing is said, connections just end.
pub(crate) struct OneNode {
    runtime: Option<Runtime>,
    pub(crate) node: Option<Node>,
    pub(crate) told: Arc<Told>,
    directory: Option<TempDir>,
}

impl Drop for OneNode {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // Its threads may wait for a runtime that is dead; nobody waits for them.
        std::mem::forget(self.node.take());
    }
}

impl OneNode {
    fn start(site: &Site, id: u8, peers: &[(u8, SocketAddr)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let mut config = configuration(&site.ca, id, at);
        std::fs::create_dir_all(at.join("mail/.roost")).unwrap();
        std::os::unix::fs::symlink(site.spool.path(), at.join("mail/.roost/spool")).unwrap();
        let own = Member { id, peer: "127.0.0.1:1".into() };
        config.cluster.member.0 = vec![own];
        for (id, peer) in peers {
            config.cluster.member.0.push(Member { id: *id, peer: peer.to_string() });
        }
        prepare_directories(&config, None).unwrap();
        let sockets = Sockets::bind(&config, None).unwrap();
        let told = Told::new();
        let owners: Arc<dyn Owners> = told.clone();
        Self::run(config, sockets, Ownership::Told(owners), told, directory)
    }

    pub(crate) fn run(
        config: Config,
        sockets: Sockets,
        ownership: Ownership,
        told: Arc<Told>,
        directory: TempDir,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let node = runtime.block_on(Node::start(config, PathBuf::from("test"), sockets, ownership)).unwrap();
        Self { runtime: Some(runtime), node: Some(node), told, directory: Some(directory) }
    }

    /// What it kept, for the next one.
    pub(crate) fn into_directory(mut self) -> TempDir {
        self.directory.take().unwrap()
    }

    pub(crate) fn running(&self) -> &Running {
        &self.node.as_ref().unwrap().running
    }

    /// Runs something on the threads of this node.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    pub(crate) fn address(&self, protocol: &str) -> SocketAddr {
        let addresses = &self.node.as_ref().unwrap().addresses;
        addresses.iter().find(|(name, _)| name == protocol).unwrap().1
    }

    pub(crate) fn client(&self, protocol: &str) -> Client {
        Client::connect(self.address(protocol))
    }

    /// A client with somebody logged in.
    pub(crate) fn imap(&self, user: &str) -> Client {
        let mut client = self.client("imap");
        client.hear("* OK ");
        client.say(&format!("in LOGIN {user} secret"));
        client.hear("in OK [CAPABILITY IMAP4rev1 ");
        client
    }

    pub(crate) fn pop3(&self, user: &str) -> Client {
        let mut client = self.client("pop3");
        client.hear("+OK ");
        client.say(&format!("USER {user}"));
        client.hear("+OK ");
        client.say("PASS secret");
        client
    }

    pub(crate) fn live(&self) -> Vec<roost::live::Who> {
        self.node.as_ref().unwrap().running.services.live.list()
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        self.node.as_ref().unwrap().running.metrics_text().contains(line)
    }

    /// Stops it as SIGTERM would.
    pub(crate) fn stop(&mut self) {
        let node = self.node.take().unwrap();
        self.runtime.as_ref().unwrap().block_on(node.stop()).unwrap();
    }
}

pub(crate) fn configuration(ca: &Pair, id: u8, at: &Path) -> Config {
    let issued = pki::issue(ca, &PeerIdentity { site: "a".into(), node: id }, &[]).unwrap();
    for (name, text) in
        [("ca.pem", &ca.certificate), ("node.pem", &issued.certificate), ("node.key", &issued.key)]
    {
        std::fs::write(at.join(name), text).unwrap();
    }
    let users: String =
        [EVE, ADA, BOB].iter().map(|user| format!("{user}:{{PLAIN}}secret::::::\n")).collect();
    std::fs::write(at.join("users"), users).unwrap();
    let text = format!(
        "[node]\nid = {id}\nname = \"a{id}\"\nstate_dir = \"state\"\nadmin_socket = \"admin\"\n[mail]\nroot = \"mail\"\n\
         format = \"maildir\"\n[listen]\nimap = [\"127.0.0.1:0\"]\npop3 = [\"127.0.0.1:0\"]\nlmtp = [\"127.0.0.1:0\"]\n\
         peer = \"127.0.0.1:0\"\n[auth]\n[[auth.passdb]]\ndriver = \"passwd-file\"\npath = \"users\"\n[cluster]\n\
         site = \"a\"\n[cluster.tls]\nca = \"ca.pem\"\ncertificate = \"node.pem\"\nkey = \"node.key\"\n"
    );
    config::load(&text, &at.join("roost.toml")).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

/// Node 1 is the edge; it and the others know who is where.
pub(crate) struct World {
    _site: Site,
    pub(crate) edge: OneNode,
    pub(crate) two: OneNode,
    pub(crate) three: OneNode,
}

/// What the nodes share. Each has a tree of its own but for the spool, so that a test sees where a message came to.
struct Site {
    ca: Pair,
    spool: TempDir,
}

pub(crate) fn world() -> World {
    let site = Site { ca: pki::make_ca().unwrap(), spool: tempfile::tempdir().unwrap() };
    let (two, three) = (OneNode::start(&site, 2, &[]), OneNode::start(&site, 3, &[]));
    let edge = OneNode::start(&site, 1, &[(2, two.address("peer")), (3, three.address("peer"))]);
    edge.told.set(ADA, Owner::Node(2));
    edge.told.set(BOB, Owner::Node(3));
    World { _site: site, edge, two, three }
}

/// A client over TCP.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    heard: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        Self { stream, heard: Vec::new() }
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads until a line begins like this, and returns all up to its end.
    #[track_caller]
    pub(crate) fn hear(&mut self, wanted: &str) -> String {
        loop {
            let mut from = 0;
            while let Some(end) = self.heard[from..].iter().position(|byte| *byte == b'\n') {
                let line = from..from + end + 1;
                if self.heard[line.clone()].starts_with(wanted.as_bytes()) {
                    let taken: Vec<u8> = self.heard.drain(..line.end).collect();
                    return String::from_utf8_lossy(&taken).into_owned();
                }
                from = line.end;
            }
            let mut buffer = [0; 65536];
            let count = self.stream.read(&mut buffer).unwrap_or_else(|error| {
                panic!("{wanted:?} did not come: {error}; {:?}", String::from_utf8_lossy(&self.heard))
            });
            assert!(count > 0, "hung up before {wanted:?}: {:?}", String::from_utf8_lossy(&self.heard));
            self.heard.extend_from_slice(&buffer[..count]);
        }
    }

    /// Asks, and returns what came up to the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str, wanted: &str) -> String {
        self.say(line);
        self.hear(wanted)
    }

    /// All that comes until the connection ends.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.heard);
        let mut buffer = [0; 65536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return rest,
                Ok(count) => rest.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return rest,
                Err(error) => panic!("no end: {error}; {} octets", rest.len()),
            }
        }
    }
}

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < WITHIN, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn message(subject: &str, octets: usize) -> String {
    let mut text = format!("From: x@example.org\r\nSubject: {subject}\r\n\r\n");
    while text.len() < octets {
        text.push_str("All work and no play makes Jack a dull boy. {12}\r\n");
    }
    text
}
