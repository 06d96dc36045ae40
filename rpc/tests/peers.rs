//! Nodes that call each other over mutual TLS on loopback: who is let in, and what a carried session promises.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has sockets of its own, and stops at what it does not expect"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rpc::PeerIdentity;
use rpc::peer::{self, Channels};
use rpc::pki::{self, Pair};
use rpc::relay::{
    self, CarryError, Declined, DeliverError, EndWish, Envelope, Fate, Login, Message, Moved, Open, Outcome,
};
use rpc::tls::{NodeTls, Pems};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const WITHIN: Duration = Duration::from_secs(5);

fn identity(site: &str, node: u8) -> PeerIdentity {
    PeerIdentity { site: site.to_owned(), node }
}

fn tls(ca: &Pair, site: &str, node: u8) -> NodeTls {
    let pair = pki::issue(ca, &identity(site, node), &["127.0.0.1".to_owned()]).unwrap();
    let pems = Pems { ca: &ca.certificate, certificate: &pair.certificate, key: &pair.key };
    NodeTls::new(identity(site, node), pems).unwrap()
}

/// What the owner in these tests does with a session, by the user's name.
#[derive(Clone, Default)]
struct Owner(Arc<Seen>);

#[derive(Default)]
struct Seen {
    written: AtomicUsize,
    wishes: Mutex<Vec<EndWish>>,
    delivered: Mutex<Vec<Envelope>>,
}

impl relay::Handler for Owner {
    async fn admit(&self, edge: PeerIdentity, open: Open) -> Result<relay::Serve, Declined> {
        let owner = Arc::clone(&self.0);
        match open.user.as_str() {
            "moved" => return Err(Declined::NotOwner(42)),
            "many" => return Err(Declined::TooManySessions),
            "broken" => return Err(Declined::Unavailable("no disk".into())),
            _ => {}
        }
        Ok(Box::new(move |mut pipe| {
            Box::pin(async move {
                match open.user.as_str() {
                    "talker" => {
                        for _ in 0..1024 {
                            if pipe.write_all(&[b'x'; 8192]).await.is_err() {
                                return;
                            }
                            owner.written.fetch_add(8192, Ordering::SeqCst);
                        }
                        pipe.shutdown().await.unwrap();
                    }
                    "dier" => drop(pipe),
                    "wisher" => {
                        let mut wishes = pipe.wishes();
                        let wish = wishes.wait_for(Option::is_some).await.unwrap().unwrap();
                        owner.wishes.lock().unwrap().push(wish);
                        pipe.shutdown().await.unwrap();
                    }
                    "leaver" => {
                        pipe.read_exact(&mut [0; 10]).await.unwrap();
                        pipe.pause();
                        assert!(pipe.paused().await);
                        pipe.write_all(b"last words").await.unwrap();
                        let unread = pipe.take_unread();
                        pipe.move_on(Moved { blob: "packed".into(), unread });
                    }
                    _ => {
                        if open.user == "stayer" {
                            pipe.pause();
                            assert!(pipe.paused().await);
                            pipe.resume();
                        }
                        pipe.write_all(format!("{} via {}\n", open.session, edge.node).as_bytes())
                            .await
                            .unwrap();
                        let (mut from, mut to) = tokio::io::split(pipe);
                        tokio::io::copy(&mut from, &mut to).await.unwrap();
                        to.shutdown().await.unwrap();
                    }
                }
            })
        }))
    }

    async fn deliver(&self, _edge: PeerIdentity, envelope: Envelope) -> Result<Vec<Outcome>, String> {
        let outcomes = envelope.recipients.iter().map(|recipient| match recipient.user.as_str() {
            "moved" => Outcome::NotOwner(7),
            "full" => Outcome::Refused(relay::Reply {
                code: 552,
                enhanced: "5.2.2".into(),
                text: "Quota exceeded".into(),
            }),
            _ => Outcome::Stored,
        });
        let outcomes = outcomes.collect();
        self.0.delivered.lock().unwrap().push(envelope);
        Ok(outcomes)
    }
}

/// A node that serves; every refusal is kept.
struct Served {
    address: SocketAddr,
    owner: Arc<Seen>,
    refused: Arc<Mutex<Vec<String>>>,
    stop: tokio::sync::oneshot::Sender<()>,
}

async fn serve(tls: NodeTls) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let owner = Owner::default();
    let refused = Arc::new(Mutex::new(Vec::new()));
    let (sender, connections) = mpsc::channel(8);
    let acceptor = tls.acceptor();
    let log = Arc::clone(&refused);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match peer::accept(&acceptor, stream).await {
                Ok(stream) => drop(sender.send(stream).await),
                Err(why) => log.lock().unwrap().push(why.to_string()),
            }
        }
    });
    let service = relay::service("a", Arc::new(owner.clone()));
    let routes = tonic::service::Routes::new(service);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        peer::serve(routes, connections, stopped).await.unwrap();
    });
    Served { address, owner: owner.0, refused, stop }
}

fn open(user: &str) -> Open {
    Open {
        user: user.to_owned(),
        remote: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: true,
        session: "s-1".into(),
        login: Login::Imap { tag: "a".into() },
        unread: Bytes::new(),
        moves: true,
        known: 0,
    }
}

/// An edge, node 1, and an owner, node 2, of site a.
async fn pair() -> (Channels, Served) {
    let ca = pki::make_ca().unwrap();
    let served = serve(tls(&ca, "a", 2)).await;
    (Channels::new(tls(&ca, "a", 1), "a", [(2, served.address.to_string())]), served)
}

async fn carry(channels: &Channels, open: &Open) -> Result<relay::Pipe, CarryError> {
    relay::carry(channels.to(2).unwrap(), open, WITHIN).await
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come");
}

#[tokio::test]
async fn a_session_is_carried_both_ways_to_its_end() {
    let (channels, _served) = pair().await;
    let mut pipe = carry(&channels, &Open { unread: "early ".into(), ..open("echo") }).await.unwrap();
    let long = vec![b'y'; 3_000_000];
    let (mut from, mut to) = tokio::io::split(&mut pipe);
    let sent = long.clone();
    let (_, got) = tokio::join!(
        async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        },
        async {
            let mut got = Vec::new();
            from.read_to_end(&mut got).await.unwrap();
            got
        }
    );
    assert!(got.starts_with(b"s-1 via 1\nearly y"));
    assert_eq!(got.len(), b"s-1 via 1\nearly ".len() + long.len());
    assert_eq!(pipe.fate(), Fate::Ended);
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_writer_and_nobody_else() {
    let (channels, served) = pair().await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(carry(&channels, &open("talker")).await.unwrap());
    }
    let most = 100 * relay::WINDOW;
    eventually("a full window", || served.owner.written.load(Ordering::SeqCst) >= most - 100 * 8192).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(served.owner.written.load(Ordering::SeqCst) <= most);
    let mut other = carry(&channels, &open("echo")).await.unwrap();
    let mut line = vec![0; b"s-1 via 1\n".len()];
    tokio::time::timeout(WITHIN, other.read_exact(&mut line)).await.unwrap().unwrap();
    // And it goes on where it stopped.
    let mut got = Vec::new();
    slow[0].read_to_end(&mut got).await.unwrap();
    assert_eq!((got.len(), slow[0].fate()), (1024 * 8192, Fate::Ended));
}

#[tokio::test]
async fn a_session_that_moves_on_takes_along_every_byte_that_was_sent_and_no_other() {
    // (L-CN3)
    let (channels, _served) = pair().await;
    let resumed = Login::Resumed { blob: "packed elsewhere".into() };
    let mut pipe = carry(&channels, &Open { login: resumed, ..open("leaver") }).await.unwrap();
    let (mut from, mut to) = tokio::io::split(&mut pipe);
    let sending = async {
        let mut sent = 0;
        loop {
            match to.write(&[b'z'; 1000]).await {
                Ok(count) => sent += count,
                Err(_) => return sent,
            }
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let mut got = Vec::new();
        from.read_to_end(&mut got).await.unwrap();
        got
    };
    let (sent, got) = tokio::join!(sending, reading);
    assert_eq!(got, b"last words");
    let Fate::Moved(Moved { blob, unread }) = pipe.fate() else { panic!("{:?}", pipe.fate()) };
    assert_eq!((&blob[..], unread.len() + 10), (&b"packed"[..], sent));
    assert!(unread.iter().all(|byte| *byte == b'z'));
}

#[tokio::test]
async fn an_edge_that_was_paused_goes_on_where_it_stopped() {
    let (channels, _served) = pair().await;
    let mut pipe = carry(&channels, &open("stayer")).await.unwrap();
    let (mut from, mut to) = tokio::io::split(&mut pipe);
    let sent = vec![b'w'; 1_000_000];
    let (_, got) = tokio::join!(
        async {
            to.write_all(&sent).await.unwrap();
            to.shutdown().await.unwrap();
        },
        async {
            let mut got = Vec::new();
            from.read_to_end(&mut got).await.unwrap();
            got
        }
    );
    assert_eq!(got.len(), b"s-1 via 1\n".len() + sent.len());
}

#[tokio::test]
async fn an_end_that_was_not_said_is_a_break() {
    let (channels, _served) = pair().await;
    let mut pipe = carry(&channels, &open("dier")).await.unwrap();
    assert_eq!(pipe.read(&mut [0; 10]).await.unwrap(), 0);
    assert!(matches!(pipe.fate(), Fate::Broken(_)), "{:?}", pipe.fate());
    eventually("an error to the writer", || pipe.fate() != Fate::Open).await;
    assert!(pipe.write_all(&vec![0; relay::WINDOW * 2]).await.is_err());
}

#[tokio::test]
async fn an_edge_can_wish_for_the_end() {
    let (channels, served) = pair().await;
    let mut pipe = carry(&channels, &open("wisher")).await.unwrap();
    pipe.wish_end(EndWish::Kicked);
    assert_eq!(pipe.read(&mut [0; 10]).await.unwrap(), 0);
    assert_eq!(pipe.fate(), Fate::Ended);
    assert_eq!(*served.owner.wishes.lock().unwrap(), [EndWish::Kicked]);
}

#[tokio::test]
async fn an_owner_that_declines_says_why() {
    let (channels, _served) = pair().await;
    for (user, why) in [
        ("moved", Declined::NotOwner(42)),
        ("many", Declined::TooManySessions),
        ("broken", Declined::Unavailable("no disk".into())),
    ] {
        assert_eq!(carry(&channels, &open(user)).await.err(), Some(CarryError::Declined(why)));
    }
    let garbled = Open { login: Login::Imap { tag: "a b\r\n".into() }, ..open("echo") };
    assert!(matches!(carry(&channels, &garbled).await.err(), Some(CarryError::Refused(_))));
}

fn envelope(users: &[&str]) -> Envelope {
    let recipient = |user: &&str| relay::Recipient {
        user: (*user).to_owned(),
        mailbox: "INBOX".into(),
        delivery: Some(9),
    };
    let message = Message { name: "5f-1".into(), size: 16, wire_size: 17, content: [7; 32] };
    Envelope { session: "s-2".into(), recipients: users.iter().map(recipient).collect(), message, known: 0 }
}

#[tokio::test]
async fn a_delivery_has_one_outcome_a_recipient() {
    let (channels, served) = pair().await;
    let sent = envelope(&["ada", "full", "moved"]);
    let outcomes = relay::deliver(channels.to(2).unwrap(), &sent, WITHIN).await.unwrap();
    assert_eq!(outcomes[0], Outcome::Stored);
    assert!(matches!(&outcomes[1], Outcome::Refused(reply) if reply.code == 552));
    assert_eq!(outcomes[2], Outcome::NotOwner(7));
    assert_eq!(*served.owner.delivered.lock().unwrap(), [sent]);
}

#[tokio::test]
async fn a_delivery_that_found_no_node_was_not_stored() {
    let (channels, _served) = pair().await;
    channels.set_address(2, "127.0.0.1:1".into());
    let gone = relay::deliver(channels.to(2).unwrap(), &envelope(&["ada"]), WITHIN).await;
    assert!(matches!(gone, Err(DeliverError::NotStored(_))), "{gone:?}");
}

#[tokio::test]
async fn a_message_has_the_name_of_a_spool_file_and_no_path() {
    let (channels, served) = pair().await;
    for name in ["", "../1/5f-1", "/etc/passwd", "a.b", &"f".repeat(65)] {
        let mut sent = envelope(&["ada"]);
        sent.message.name = name.to_owned();
        let refused = relay::deliver(channels.to(2).unwrap(), &sent, WITHIN).await;
        assert!(matches!(refused, Err(DeliverError::NotStored(_))), "{name}: {refused:?}");
    }
    assert!(served.owner.delivered.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_is_gone_is_unreachable_and_one_that_dies_breaks_its_sessions() {
    let (channels, served) = pair().await;
    let mut pipe = carry(&channels, &open("echo")).await.unwrap();
    let mut line = vec![0; b"s-1 via 1\n".len()];
    pipe.read_exact(&mut line).await.unwrap();
    channels.set_address(2, "127.0.0.1:1".into());
    let gone = carry(&channels, &open("echo")).await.err();
    assert!(matches!(gone, Some(CarryError::Unreachable(_))), "{gone:?}");
    drop(served.stop);
}

/// Dials an owner of site a, node 2, and returns what each side said against it.
async fn dial(dialler: NodeTls, wanted: u8) -> (Option<String>, Vec<String>) {
    let ca = pki::make_ca().unwrap();
    dial_with(&ca, dialler, wanted).await
}

async fn dial_with(ca: &Pair, dialler: NodeTls, wanted: u8) -> (Option<String>, Vec<String>) {
    let served = serve(tls(ca, "a", 2)).await;
    let channels = Channels::new(dialler, "a", [(wanted, served.address.to_string())]);
    let carried = relay::carry(channels.to(wanted).unwrap(), &open("echo"), WITHIN).await;
    let said = carried.err().map(|error| error.to_string());
    if said.is_some() {
        eventually("a refusal", || !served.refused.lock().unwrap().is_empty()).await;
    }
    let refused = served.refused.lock().unwrap().clone();
    (said, refused)
}

#[tokio::test]
async fn a_node_of_another_ca_is_refused_by_both_sides() {
    let other = pki::make_ca().unwrap();
    let (said, logged) = dial(tls(&other, "a", 1), 2).await;
    assert!(said.unwrap().contains("not signed by the CA of its site"));
    assert!(logged[0].contains("cluster.tls.ca"), "{logged:?}");
}

#[tokio::test]
async fn whoever_dials_one_node_refuses_another() {
    let ca = pki::make_ca().unwrap();
    let (said, _) = dial_with(&ca, tls(&ca, "a", 1), 3).await;
    let said = said.unwrap();
    assert!(said.contains("for node 2 of site a, not for node 3 of site a"), "{said}");
}

#[tokio::test]
async fn a_node_of_another_site_is_refused_though_the_ca_is_the_same() {
    let ca = pki::make_ca().unwrap();
    let pair = pki::issue(&ca, &identity("b", 1), &[]).unwrap();
    let pems = Pems { ca: &ca.certificate, certificate: &pair.certificate, key: &pair.key };
    let stranger = NodeTls::new(identity("b", 1), pems).unwrap().trusting("a", &ca.certificate).unwrap();
    let (said, logged) = dial_with(&ca, stranger, 2).await;
    assert!(said.is_some());
    assert!(logged[0].contains("node 1 of site b") && logged[0].contains("no CA"), "{logged:?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_ours_does_not_start() {
    let ca = pki::make_ca().unwrap();
    let pair = pki::issue(&ca, &identity("a", 3), &[]).unwrap();
    let pems = Pems { ca: &ca.certificate, certificate: &pair.certificate, key: &pair.key };
    let said = NodeTls::new(identity("a", 1), pems).err().unwrap().to_string();
    assert!(said.contains("for node 3 of site a, not for node 1 of site a"), "{said}");
    let other = pki::issue(&ca, &identity("a", 1), &[]).unwrap();
    let mixed = Pems { ca: &ca.certificate, certificate: &other.certificate, key: &pair.key };
    assert!(NodeTls::new(identity("a", 1), mixed).is_err());
    let garbage = Pems { ca: "x", certificate: &other.certificate, key: &other.key };
    assert!(NodeTls::new(identity("a", 1), garbage).is_err());
}

#[tokio::test]
async fn garbage_and_plain_text_are_refused_with_advice() {
    let (_, served) = pair().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    eventually("a refusal", || !served.refused.lock().unwrap().is_empty()).await;
    let said = served.refused.lock().unwrap()[0].clone();
    assert!(said.contains("spoke no TLS"), "{said}");
}

#[tokio::test]
async fn another_version_of_the_wire_is_refused_in_the_handshake() {
    let (_, served) = pair().await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"roost/9".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(served.address).await.unwrap();
    assert!(connector.connect("x.internal".try_into().unwrap(), stream).await.is_err());
    eventually("a refusal", || !served.refused.lock().unwrap().is_empty()).await;
    let said = served.refused.lock().unwrap()[0].clone();
    assert!(said.contains("same version of roost"), "{said}");
}
