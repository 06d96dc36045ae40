//! Garbage from a peer whose certificate is good: random bytes, lengths that lie, messages cut short. Whatever comes, the
//! connection or the call ends, nothing of it is handed on, and the node serves the next peer.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has sockets of its own, and stops at what it does not expect"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rpc::PeerIdentity;
use rpc::coordination::{self, Envelope, Refused};
use rpc::peer::{self, Channels};
use rpc::pki::{self, Pair};
use rpc::relay::{self, Declined, Login, Open, Outcome};
use rpc::tls::{NodeTls, Pems};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const WITHIN: Duration = Duration::from_secs(20);
const ROUNDS: u64 = 12;
const METHODS: [&str; 3] = [
    "/roost.coordination.v1.Coordination/Call",
    "/roost.relay.v1.Relay/Carry",
    "/roost.relay.v1.Relay/Deliver",
];

/// Counts what reaches it.
#[derive(Clone, Default)]
struct Node(Arc<AtomicUsize>);

impl coordination::Handler for Node {
    async fn call(&self, envelope: Envelope) -> Result<Bytes, Refused> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(envelope.payload)
    }
}

impl relay::Handler for Node {
    async fn admit(&self, _: PeerIdentity, _: Open) -> Result<relay::Serve, Declined> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(|mut pipe| {
            Box::pin(async move {
                pipe.write_all(b"hello").await.unwrap();
                pipe.shutdown().await.unwrap();
            })
        }))
    }

    async fn deliver(&self, _: PeerIdentity, _: relay::Envelope) -> Result<Vec<Outcome>, String> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err("not here".to_owned())
    }
}

fn identity(node: u8) -> PeerIdentity {
    PeerIdentity { site: "a".to_owned(), node }
}

fn tls(ca: &Pair, node: u8) -> NodeTls {
    let pair = pki::issue(ca, &identity(node), &["127.0.0.1".to_owned()]).unwrap();
    let pems = Pems { ca: &ca.certificate, certificate: &pair.certificate, key: &pair.key };
    NodeTls::new(identity(node), pems).unwrap()
}

async fn serve(tls: NodeTls, node: Node) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, connections) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = peer::accept(&tls.acceptor(), stream).await {
                drop(sender.send(stream).await);
            }
        }
    });
    let routes = tonic::service::Routes::new(relay::service("a", Arc::new(node.clone())))
        .add_service(coordination::service("a", 2, Arc::new(node)));
    tokio::spawn(async move { peer::serve(routes, connections, std::future::pending()).await });
    address
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The beginning of a call, as any gRPC client sends it.
fn begin(method: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    let fields =
        [(":method", "POST"), (":scheme", "https"), (":path", method), (":authority", "roost.internal")];
    let more = [("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in fields.iter().chain(&more) {
        headers.push(0x10);
        for text in [name, value] {
            headers.push(text.len() as u8);
            headers.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4, 1, &headers));
    bytes
}

fn random(rng: &mut StdRng, longest: usize) -> Vec<u8> {
    let length = rng.random_range(0..=longest);
    (0..length).map(|_| rng.random()).collect()
}

/// A message of gRPC's that says that it is so long.
fn message(claimed: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &claimed.to_be_bytes(), bytes].concat()
}

/// Everything that one peer says wrong, by seed.
fn nonsense(seed: u64) -> Vec<(&'static str, Vec<u8>)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut all = vec![("random bytes", random(&mut rng, 4096))];
    let mut half = begin(METHODS[0]);
    half.truncate(24);
    all.push(("random frames", [half, random(&mut rng, 4096)].concat()));
    let method = METHODS[seed as usize % METHODS.len()];
    let data = |flags, bytes: &[u8]| [begin(method), frame(0, flags, 1, bytes)].concat();
    let junk = random(&mut rng, 2000);
    all.push(("random messages", data(1, &message(junk.len() as u32, &junk))));
    all.push(("a message that is said to be 4 GiB", data(0, &message(u32::MAX, &junk))));
    all.push(("a message that is cut short", data(1, &message(junk.len() as u32 + 7, &junk))));
    // A field of bytes, number 5, of 2^63 bytes.
    let lying = [&[0x2a][..], &[0xff; 9], &[0x01]].concat();
    all.push(("a field that is said to be endless", data(1, &message(lying.len() as u32, &lying))));
    let mut torn = data(1, &message(junk.len() as u32, &junk));
    torn.truncate(rng.random_range(30..=torn.len()));
    all.push(("a frame that is cut short", torn));
    all.push(("a frame of 16 MiB", [begin(method), vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 9]].concat()));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_from_an_authenticated_peer_ends_its_connection_and_nothing_else() {
    let ca = pki::make_ca().unwrap();
    let node = Node::default();
    let address = serve(tls(&ca, 2), node.clone()).await;
    let (stranger, friend) = (tls(&ca, 1), tls(&ca, 3));
    for seed in 0..ROUNDS {
        for (what, bytes) in nonsense(seed) {
            let stream = TcpStream::connect(address).await.unwrap();
            let connector = stranger.connector(identity(2)).unwrap();
            let mut stream = connector.connect("roost.internal".try_into().unwrap(), stream).await.unwrap();
            // It may hang up before all is said.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(WITHIN, stream.read_to_end(&mut answer)).await;
            assert!(ended.is_ok(), "seed {seed}: {what}: the connection stays open");
        }
    }
    assert_eq!(node.0.load(Ordering::SeqCst), 0, "nothing of it was handed on");

    let channels = Channels::new(friend, "a", [(2, address.to_string())]);
    let client = coordination::Client::new(channels.to(2).unwrap());
    let payload = Bytes::from_static(b"sound");
    let call = Envelope { site: "a".to_owned(), from: 3, to: 2, group: 0, kind: 1, payload: payload.clone() };
    assert_eq!(client.call(call, WITHIN).await, Ok(payload));
    let open = Open {
        user: "ada".to_owned(),
        remote: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: true,
        session: "s-1".into(),
        login: Login::Imap { tag: "a".into() },
        unread: Bytes::new(),
        moves: false,
        known: 0,
    };
    let mut pipe = relay::carry(channels.to(2).unwrap(), &open, WITHIN).await.unwrap();
    let mut heard = String::new();
    pipe.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello");
}
