//! Who is connected, who may log in, and what a node counts.

use super::node::{ADA, Node, eventually};

#[test]
fn a_session_is_listed_and_can_be_ended() {
    let node = Node::start();
    assert_eq!(node.roost(&["who", "--json"]).ok(), "[]\n");
    let mut imap = node.talk("imap");
    imap.hear("* OK");
    imap.ask(&format!("a LOGIN {ADA} secret"), "a OK");
    imap.ask("b SELECT INBOX", "b OK");
    let who = eventually("selected", || {
        let who = node.roost(&["who", "--json", "ada*"]).json();
        (who[0]["mailbox"] == "INBOX").then(|| who[0].clone())
    });
    assert_eq!((&who["protocol"], &who["user"]), (&"imap".into(), &ADA.into()));
    assert!(node.roost(&["who"]).ok().lines().nth(1).unwrap().contains(ADA));
    assert_eq!(node.roost(&["who", "--json", "grace*"]).ok(), "[]\n");
    assert_eq!(node.roost(&["kick", ADA]).ok(), "1 session ended\n");
    imap.hear("* BYE");
    eventually("gone", || (node.roost(&["who", "--json"]).ok() == "[]\n").then_some(()));
    assert_eq!(node.roost(&["kick", ADA, "--json"]).json()["kicked"], 0);
}

#[test]
fn a_login_can_be_tried() {
    let node = Node::start();
    assert!(node.roost(&["auth", "test", ADA, "secret"]).ok().contains("may log in"));
    assert_eq!(node.roost(&["auth", "test", "ADA@Example.org", "secret", "--json"]).json()["user"], ADA);
    node.roost(&["auth", "test", ADA, "wrong"]).fails(77);
    node.roost(&["auth", "test", "ghost@example.org", "wrong"]).fails(77);
    // The password may come on standard input.
    node.roost_with(&["auth", "test", ADA], b"secret\n").ok();
    node.roost_with(&["auth", "test", ADA], b"").fails(64);
}

#[test]
fn stats_are_readable() {
    let node = Node::start();
    let stats = node.roost(&["stats"]).ok();
    assert!(stats.contains("ready") && stats.contains("yes"), "{stats}");
    let stats = node.roost(&["stats", "--json"]).json();
    assert_eq!(stats["facts"]["node"], "a1");
    assert!(
        stats["metrics"].as_object().unwrap().keys().any(|name| name.starts_with("roost_raft_term")),
        "{stats}"
    );
}

#[test]
fn a_node_whose_parent_is_gone_stops_in_order() {
    let mut node = Node::start();
    assert_eq!(node.stop().code(), Some(0), "{}", node.log());
    assert!(node.log().contains("stopped"));
    node.roost(&["who"]).fails(75);
}
