//! Messages between nodes: who they are from, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rpc::PeerIdentity;
use rpc::coordination::{CallError, Client, Envelope, Handler, MESSAGE_BYTES_MAX, Refused, service};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

const SOON: Duration = Duration::from_secs(10);

/// Says back what it was told.
struct Echo;

impl Handler for Echo {
    async fn call(&self, envelope: Envelope) -> Result<Bytes, Refused> {
        match envelope.kind {
            0 => Err(Refused("not today".to_owned())),
            1 => std::future::pending().await,
            _ => Ok(envelope.payload),
        }
    }
}

/// Node 2 of site "a", behind a connection that proves this identity.
async fn node_two(identity: Option<PeerIdentity>) -> Client {
    #[expect(clippy::disallowed_methods, reason = "the test plays the part of node")]
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let vouch = move |mut request: tonic::Request<()>| {
        if let Some(identity) = &identity {
            request.extensions_mut().insert(identity.clone());
        }
        Ok(request)
    };
    let service = service("a", 2, Arc::new(Echo));
    let vouched = tonic::service::interceptor::InterceptedService::new(service, vouch);
    tokio::spawn(
        Server::builder().add_service(vouched).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Client::new(Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy())
}

fn one_of(site: &str, node: u8) -> Option<PeerIdentity> {
    Some(PeerIdentity { site: site.to_owned(), node })
}

fn message(site: &str, from: u8, to: u8, kind: u32) -> Envelope {
    Envelope { site: site.to_owned(), from, to, group: 0, kind, payload: Bytes::from_static(b"hello") }
}

async fn why_refused(client: &Client, envelope: Envelope) -> String {
    match client.call(envelope, SOON).await {
        Err(CallError::Refused(why)) => why,
        other @ (Ok(_) | Err(CallError::NoAnswer(_))) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_from_whom_it_says_is_answered() {
    let client = node_two(one_of("a", 1)).await;
    let answer = client.call(message("a", 1, 2, 7), SOON).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"hello")));
    let long = Envelope { payload: Bytes::from(vec![1; MESSAGE_BYTES_MAX]), ..message("a", 1, 2, 7) };
    assert_eq!(client.call(long.clone(), SOON).await, Ok(long.payload));
}

#[tokio::test]
async fn a_message_that_is_not_from_whom_it_says_is_refused() {
    let client = node_two(one_of("a", 1)).await;
    let why = why_refused(&client, message("a", 3, 2, 7)).await;
    assert!(why.contains("node 3 of site a") && why.contains("node 1 of site a"), "{why}");
    let why = why_refused(&client, message("b", 1, 2, 7)).await;
    assert!(why.contains("its own certificate"), "{why}");
    let nobody = node_two(None).await;
    let why = why_refused(&nobody, message("a", 1, 2, 7)).await;
    assert!(why.contains("no identity"), "{why}");
}

#[tokio::test]
async fn a_message_for_somebody_else_is_refused_with_what_to_correct() {
    let client = node_two(one_of("a", 1)).await;
    let why = why_refused(&client, message("a", 1, 3, 7)).await;
    assert!(why.contains("this is node 2") && why.contains("[[cluster.member]]"), "{why}");
    let stranger = node_two(one_of("b", 1)).await;
    let why = why_refused(&stranger, message("b", 1, 2, 7)).await;
    assert!(why.contains("site b"), "{why}");
}

#[tokio::test]
async fn an_older_or_newer_node_is_told_so() {
    let client = node_two(one_of("a", 1)).await;
    let of_a_group = Envelope { group: 3, ..message("a", 1, 2, 7) };
    let messages = [
        (0, message("a", 1, 2, 7)),
        (3, message("a", 1, 2, 7)),
        (u32::MAX, message("a", 1, 2, 7)),
        // An older node would take it for one of its only group, and does not speak so.
        (1, of_a_group.clone()),
    ];
    assert!(client.call(of_a_group, SOON).await.is_ok());
    for (version, message) in messages {
        let answer = client.call_as(version, message, SOON).await;
        let Err(CallError::Refused(why)) = answer else { panic!("{answer:?}") };
        assert!(why.contains(&format!("version {version} of")) && why.contains("run one version"), "{why}");
    }
}

#[tokio::test]
async fn refusals_and_silence_are_told_apart() {
    let client = node_two(one_of("a", 1)).await;
    assert_eq!(why_refused(&client, message("a", 1, 2, 0)).await, "not today");
    let silence = client.call(message("a", 1, 2, 1), Duration::from_millis(200)).await;
    assert!(matches!(silence, Err(CallError::NoAnswer(_))), "{silence:?}");
    let nobody = Client::new(Endpoint::from_static("http://127.0.0.1:1").connect_lazy());
    let silence = nobody.call(message("a", 1, 2, 7), SOON).await;
    assert!(matches!(silence, Err(CallError::NoAnswer(_))), "{silence:?}");
    let long = Envelope { payload: Bytes::from(vec![1; MESSAGE_BYTES_MAX + 2048]), ..message("a", 1, 2, 7) };
    assert!(client.call(long, SOON).await.is_err(), "longer than any message may be");
}
