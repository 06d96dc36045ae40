//! Owners that die, stop or change under a session, and strangers at the peer listener.

use std::time::Duration;

use roost::router::Owner;

use crate::world::{ADA, BOB, Client, EVE, eventually, message, world};

#[test]
fn clients_of_an_owner_that_dies_are_told_or_cut_off() {
    let world = world();
    let mut idle = world.edge.imap(ADA);
    idle.ask("a SELECT INBOX", "a OK ");
    idle.ask("b IDLE", "+ ");
    let mut pop3 = world.edge.pop3(ADA);
    pop3.hear("+OK Maildrop");
    let mut unharmed = world.edge.imap(BOB);
    drop(world.two);
    idle.hear("* BYE [UNAVAILABLE]");
    assert!(idle.rest().is_empty());
    assert!(pop3.rest().is_empty());
    unharmed.ask("a NOOP", "a OK ");
}

#[test]
fn a_response_that_was_cut_off_is_not_gone_on_with() {
    let world = world();
    let mut client = world.edge.imap(ADA);
    let text = message("long", 5_000_000);
    client.send(format!("a APPEND INBOX {{{}+}}\r\n{text}\r\n", text.len()).as_bytes());
    client.hear("a OK ");
    client.ask("b SELECT INBOX", "b OK ");
    client.say("c FETCH 1 BODY.PEEK[]");
    std::thread::sleep(Duration::from_millis(300));
    drop(world.two);
    std::thread::sleep(Duration::from_millis(300));
    let rest = client.rest();
    let tail = String::from_utf8_lossy(&rest[rest.len().saturating_sub(200)..]).into_owned();
    assert!(rest.len() < text.len(), "the message was cut off");
    assert!(!tail.contains("BYE"), "{tail}");
}

#[test]
fn sessions_end_when_their_account_gets_another_owner() {
    let world = world();
    let mut carried = world.edge.imap(ADA);
    let mut local = world.edge.imap(EVE);
    let mut unharmed = world.edge.imap(BOB);
    world.edge.told.set(ADA, Owner::Nobody);
    carried.hear("* BYE [UNAVAILABLE] Account has moved");
    assert!(carried.rest().is_empty());
    world.edge.told.set(EVE, Owner::Node(2));
    local.hear("* BYE [UNAVAILABLE] Account has moved");
    unharmed.ask("a NOOP", "a OK ");
    // The owner may learn it before the edge does.
    world.three.told.set(BOB, Owner::Nobody);
    unharmed.hear("* BYE [UNAVAILABLE] Account has moved");
}

#[test]
fn logins_wait_for_the_next_owner_of_a_dead_one() {
    let world = world();
    drop(world.two);
    let told = std::sync::Arc::clone(&world.edge.told);
    let granted = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        told.set(ADA, Owner::Nobody);
        std::thread::sleep(Duration::from_millis(700));
        told.set(ADA, Owner::Here);
    });
    let mut client = world.edge.imap(ADA);
    granted.join().unwrap();
    client.ask("a SELECT INBOX", "a OK ");
    assert_eq!(world.edge.live()[0].via, None);
}

#[test]
fn a_node_that_stops_says_goodbye_to_carried_sessions_too() {
    let mut world = world();
    let mut of_two = world.edge.imap(ADA);
    let mut of_three = world.edge.imap(BOB);
    world.two.stop();
    of_two.hear("* BYE [UNAVAILABLE] Server is going down");
    of_three.ask("a NOOP", "a OK ");
    world.edge.stop();
    of_three.hear("* BYE [UNAVAILABLE] Server is going down");
    eventually("an empty house", || world.three.live().is_empty());
}

#[test]
fn strangers_at_the_peer_listener_are_refused_and_counted() {
    let world = world();
    let mut stranger = Client::connect(world.two.address("peer"));
    stranger.send(b"EHLO garbage\r\n\0\xff\xfe");
    let _ = stranger.rest();
    eventually("a refusal", || world.two.metric("roost_peers_refused_total 1"));
    let mut client = world.edge.imap(ADA);
    client.ask("a NOOP", "a OK ");
}
