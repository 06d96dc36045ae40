//! Commands that one node carries to another over mutual TLS, and certificates that are replaced meanwhile.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test has sockets of its own, and stops at what it does not expect"
)]

use std::sync::Arc;
use std::time::Duration;

use rpc::PeerIdentity;
use rpc::admin::{self, Call, Carried, Carrier, CarryError, Declined, Event, Run};
use rpc::peer::{self, Channels};
use rpc::pki::{self, Pair};
use rpc::tls::{NodeTls, Pems};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const WITHIN: Duration = Duration::from_secs(5);

fn identity(site: &str, node: u8) -> PeerIdentity {
    PeerIdentity { site: site.to_owned(), node }
}

fn issued(ca: &Pair, site: &str, node: u8) -> Pair {
    pki::issue(ca, &identity(site, node), &["127.0.0.1".to_owned()]).unwrap()
}

fn pems<'a>(ca: &'a Pair, pair: &'a Pair) -> Pems<'a> {
    Pems { ca: &ca.certificate, certificate: &pair.certificate, key: &pair.key }
}

fn tls(ca: &Pair, site: &str, node: u8) -> NodeTls {
    NodeTls::new(identity(site, node), pems(ca, &issued(ca, site, node))).unwrap()
}

/// Says what it was told, and repeats its input.
struct Echo;

impl Carrier for Echo {
    async fn admit(&self, from: PeerIdentity, call: Call) -> Result<Run, Declined> {
        let carried = call.carried.unwrap();
        match call.arguments[0].as_str() {
            "moved" => Err(Declined::NotOwner(7)),
            "busy" => Err(Declined::Unavailable("not now".into())),
            _ => Ok(Box::new(move |mut input, events| {
                Box::pin(async move {
                    events.stderr(format!("{from}: {:?}", carried.user)).await.unwrap();
                    let bytes = input.read_all(1 << 24).await;
                    events.stdout(bytes.unwrap_or_else(|error| error.to_string().into())).await.unwrap();
                    9
                })
            })),
        }
    }
}

async fn serve(tls: NodeTls) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, connections) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = peer::accept(&tls.acceptor(), stream).await {
                let _ = sender.send(stream).await;
            }
        }
    });
    let routes = peer::Routes::new(admin::peer_service("a", Arc::new(Echo)));
    tokio::spawn(peer::serve(routes, connections, std::future::pending()));
    address
}

fn call(word: &str) -> Call {
    let carried = Carried { user: Some("ada".into()), continued: false };
    Call { arguments: vec![word.to_owned()], carried: Some(carried) }
}

async fn heard(mut replies: admin::Replies) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = replies.next().await.unwrap() {
        events.push(event);
    }
    events
}

#[tokio::test]
async fn a_command_is_carried_with_its_words_and_told_to_its_end() {
    let ca = pki::make_ca().unwrap();
    let address = serve(tls(&ca, "a", 2)).await;
    let channels = Channels::new(tls(&ca, "a", 1), "a", [(2, address)]);
    let begun = admin::begin(channels.to(2).unwrap(), &call("echo"), WITHIN).await.unwrap();
    let said = "node 1 of site a: Some(\"ada\")";
    assert_eq!(heard(begun.run(None)).await, [Event::Stderr(said.into()), Event::Finished(9)]);
    let declined =
        async |word| admin::begin(channels.to(2).unwrap(), &call(word), WITHIN).await.map(drop).unwrap_err();
    assert_eq!(declined("moved").await, CarryError::Declined(Declined::NotOwner(7)));
    assert_eq!(declined("busy").await, CarryError::Declined(Declined::Unavailable("not now".into())));
}

#[tokio::test]
async fn a_node_of_another_site_has_no_commands_run_here() {
    let ca = pki::make_ca().unwrap();
    let ours = tls(&ca, "a", 2).trusting("b", &ca.certificate).unwrap();
    let address = serve(ours).await;
    let theirs = tls(&ca, "b", 1).trusting("a", &ca.certificate).unwrap();
    let channels = Channels::new(theirs, "a", [(2, address)]);
    let refused = admin::begin(channels.to(2).unwrap(), &call("echo"), WITHIN).await.map(drop).unwrap_err();
    assert!(
        matches!(&refused, CarryError::Refused(why) if why.contains("may not run commands")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_certificate_is_replaced_for_connections_to_come_and_those_that_are_go_on() {
    let (old, new) = (pki::make_ca().unwrap(), pki::make_ca().unwrap());
    let (server, client) = (tls(&old, "a", 2), tls(&old, "a", 1));
    let address = serve(server.clone()).await;
    let before = Channels::new(client.clone(), "a", [(2, address.clone())]);
    let asked = async |channels: &Channels| {
        admin::begin(channels.to(2).unwrap(), &call("busy"), WITHIN).await.map(drop).unwrap_err()
    };
    let answered = CarryError::Declined(Declined::Unavailable("not now".into()));
    assert_eq!(asked(&before).await, answered);
    // One for another node is not taken.
    assert!(server.check(pems(&new, &issued(&new, "a", 3))).is_err());
    assert!(server.check(pems(&old, &issued(&new, "a", 2))).is_err());
    let pair = issued(&new, "a", 2);
    let checked = server.check(pems(&new, &pair)).unwrap();
    assert!(!server.uses(&checked));
    server.replace(checked);
    assert!(server.uses(&server.check(pems(&new, &pair)).unwrap()));
    assert_eq!(asked(&before).await, answered, "the connection goes on");
    let after = Channels::new(client.clone(), "a", [(2, address.clone())]);
    assert!(matches!(asked(&after).await, CarryError::Unreachable(_)), "two CAs that do not know each other");
    client.replace(client.check(pems(&new, &issued(&new, "a", 1))).unwrap());
    let again = Channels::new(client, "a", [(2, address)]);
    assert_eq!(asked(&again).await, answered);
}
