//! The same site over sockets on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use locking::peer::grpc::{GrpcPeers, service};
use locking::peer::message::Kind;
use locking::{Door, Locking, Options, Peers, Site};
use nfs_compat::SimFs;
use rpc::PeerIdentity;
use rpc::coordination::CallError;
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

use crate::harness::{LONG, SUBKEY, granted, value};

/// One listener for each pair of nodes, so that each can vouch for who calls: these channels have no certificates.
async fn listen(to: u8, from: u8, door: Arc<Door>) -> SocketAddr {
    #[expect(clippy::disallowed_methods, reason = "the test plays the part of node")]
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let vouch = move |mut request: tonic::Request<()>| {
        request.extensions_mut().insert(PeerIdentity { site: "a".to_owned(), node: from });
        Ok(request)
    };
    let vouched = tonic::service::interceptor::InterceptedService::new(service("a", to, door), vouch);
    // The server's own setting is for sockets that it binds itself.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder().add_service(vouched);
    tokio::spawn(serving.serve_with_incoming(incoming));
    address
}

fn dial(_: u8, address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    Ok(endpoint.tcp_nodelay(true).connect_timeout(Duration::from_millis(200)).connect_lazy())
}

struct Sockets {
    /// From, to.
    addresses: BTreeMap<(u8, u8), SocketAddr>,
    doors: BTreeMap<u8, Arc<Door>>,
}

impl Sockets {
    async fn of(nodes: &[u8]) -> Self {
        let doors: BTreeMap<u8, Arc<Door>> = nodes.iter().map(|node| (*node, Door::new())).collect();
        let mut addresses = BTreeMap::new();
        for (to, door) in &doors {
            for from in nodes.iter().filter(|from| *from != to) {
                addresses.insert((*from, *to), listen(*to, *from, Arc::clone(door)).await);
            }
        }
        Self { addresses, doors }
    }

    fn peers(&self, node: u8) -> (BTreeMap<u8, String>, Arc<GrpcPeers>) {
        let ways = self.addresses.iter().filter(|((from, _), _)| *from == node);
        let mut members: BTreeMap<u8, String> =
            ways.map(|((_, to), address)| (*to, address.to_string())).collect();
        let peers = GrpcPeers::new("a", node, members.clone(), Box::new(dial));
        members.insert(node, String::new());
        (members, peers)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_a_site_over_sockets_and_survive_their_leader() {
    let sockets = Sockets::of(&[1, 2, 3]).await;
    let starting: Vec<_> = [1, 2, 3]
        .map(|node| {
            let disk = Arc::new(SimFs::new(u64::from(node)));
            let mut options = Options::new("/state".into(), disk, node, 1, 0);
            options.local_copy = false;
            let (members, peers) = sockets.peers(node);
            options.peers = Some(Site { members, peers, door: Arc::clone(&sockets.doors[&node]) });
            tokio::spawn(Locking::start(options))
        })
        .into();
    let mut nodes = Vec::new();
    for starting in starting {
        let started = tokio::time::timeout(LONG, starting).await.expect("in time").expect("no panic");
        nodes.push(started.unwrap_or_else(|error| panic!("{error}")));
    }
    for (bucket, locking) in (1..).zip(&nodes) {
        let epoch = granted(locking, bucket).await;
        for counter in 1..=20 {
            locking.witness(bucket, epoch, SUBKEY, value("v"), counter).await.expect("witnessed");
        }
    }
    let leader = nodes.iter().position(|node| {
        let status = node.status();
        status.group.leader == Some(u64::from(status.node_id))
    });
    let dead = nodes.remove(leader.expect("one leads"));
    dead.voter().shutdown().await;
    for bucket in 1..=3 {
        let found = nodes[0].read_witness(bucket, &SUBKEY).await.expect("answers").expect("is there");
        assert_eq!(found.counter, 20);
    }
    let epoch = granted(&nodes[1], 9).await;
    nodes[1].witness(9, epoch, SUBKEY, value("v"), 1).await.expect("witnessed");
    for node in nodes {
        node.voter().shutdown().await;
    }
}

#[tokio::test]
async fn a_door_refuses_what_it_does_not_understand_and_what_is_too_early() {
    let sockets = Sockets::of(&[1, 2]).await;
    let (_, peers) = sockets.peers(1);
    let refused = peers.call(2, 0, Kind::Append, Bytes::from_static(b"garbage"), LONG).await;
    let Err(CallError::Refused(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("not running"), "{why}");
    let door = &sockets.doors[&2];
    let refused = door.handle(1, 0, 99, Bytes::new()).await.expect_err("no such kind");
    assert!(refused.0.contains("one version of roost"), "{refused}");

    let disk = Arc::new(SimFs::new(9));
    let mut options = Options::new("/state".into(), disk, 2, 1, 0);
    options.local_copy = false;
    let (members, unused) = sockets.peers(2);
    options.peers = Some(Site {
        members: members.into_iter().filter(|(node, _)| *node == 2).collect(),
        peers: unused,
        door: Arc::clone(door),
    });
    let alone = Locking::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    for kind in Kind::ALL {
        for garbage in [&b""[..], b"\x02", b"\x01\xff\xff\xff\xff\xff", &[7; 300]] {
            let refused = peers.call(2, 0, kind, Bytes::copy_from_slice(garbage), LONG).await;
            let Err(CallError::Refused(why)) = refused else { panic!("{kind:?}: {refused:?}") };
            assert!(why.contains("one version of roost"), "{kind:?}: {why}");
        }
    }
    assert!(granted(&alone, 1).await > model::Epoch::new(0, 0), "it lives on");
    alone.voter().shutdown().await;
}
