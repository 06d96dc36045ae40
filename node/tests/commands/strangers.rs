//! Bad input between nodes: each is refused, with a sentence that says what to do.
//!
//! | what comes | where it is tried |
//! |---|---|
//! | a peer whose certificate another CA signed | `rpc/tests/peers.rs`, and here: a node configured so does not start |
//! | a certificate of another site | `rpc/tests/peers.rs` |
//! | a certificate of another node's number | `rpc/tests/peers.rs`, `rpc/tests/coordination.rs`, and here |
//! | an older or newer version of the wire | `rpc/tests/peers.rs` (handshake), `rpc/tests/coordination.rs` (messages) |
//! | something that is no node | `rpc/tests/peers.rs` |
//! | garbage from a peer whose certificate is good | `rpc/tests/garbage.rs` (both services), `locking/tests/site/grpc.rs` |
//! | a recorded message, sent again by another node | `locking/tests/site/replay.rs` |
//! | a store that lost its disk, or was put back | `locking/tests/site/{forming,lives}.rs` |
//! | a second process on one state_dir | here; with a copy of it: `locking/tests/site/lives.rs` |
//! | two nodes with one number | here, `locking/tests/site/lives.rs` |
//! | a node that is pointed at another site's tree | here |

use super::node::{Ran, run};
use super::nodes::Nodes;

/// Runs a process of node 1's configuration, changed, with sockets of its own. It is expected to end.
fn serve_changed(nodes: &Nodes, name: &str, changes: &[(&str, &str)]) -> Ran {
    let text = std::fs::read_to_string(nodes.path("a1/roost.toml")).unwrap();
    let peer = format!("peer = \"{}\"\n[auth]", nodes.peer(1));
    let sockets = format!("{name}-run");
    let at = nodes.path(&format!("a1/{sockets}"));
    std::fs::create_dir(&at).unwrap();
    std::fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut text =
        text.replace("run/", &format!("{sockets}/")).replace(&peer, "peer = \"127.0.0.1:0\"\n[auth]");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} in {text}");
        text = text.replace(from, to);
    }
    let file = nodes.path(&format!("a1/{name}.toml"));
    std::fs::write(&file, text).unwrap();
    run(&["serve", "--config", file.to_str().unwrap()], b"")
}

#[test]
fn a_node_that_is_not_who_it_says_does_not_start_and_says_why() {
    let nodes = Nodes::start(1);

    let why = serve_changed(&nodes, "second", &[]).fails(70);
    assert!(why.contains("node.state_dir") && why.contains("in use"), "{why}");

    let twin = [("state_dir = \"state\"", "state_dir = \"twin\"")];
    let why = serve_changed(&nodes, "twin", &twin).fails(70);
    assert!(why.contains("a node.id of its own"), "{why}");

    let other =
        [("state_dir = \"state\"", "state_dir = \"other\""), ("a-1.pem", "a-2.pem"), ("a-1.key", "a-2.key")];
    let why = serve_changed(&nodes, "other", &other).fails(70);
    assert!(why.contains("for node 2 of site a, not for node 1") && why.contains("pki issue"), "{why}");

    let pki = nodes.path("strange");
    run(&["cluster", "pki", "init", pki.to_str().unwrap()], b"").ok();
    for path in [pki.clone(), pki.join("ca.pem")] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let strange =
        [("state_dir = \"state\"", "state_dir = \"strange\""), ("../pki/ca.pem", "../strange/ca.pem")];
    let why = serve_changed(&nodes, "strange", &strange).fails(70);
    assert!(why.contains("not signed by the CA of its site"), "{why}");

    // The node that it all was said about has not noticed.
    nodes.save(1, "user0@example.org", "Subject: x\r\n\r\nx\r\n");
}

#[test]
fn a_node_that_is_pointed_at_another_sites_tree_does_not_touch_it() {
    let mut nodes = Nodes::prepare(1, 1, 1);
    nodes.begin(1);
    nodes.ready(1);
    nodes.stop(1);
    let text = std::fs::read_to_string(nodes.path("a1/roost.toml")).unwrap();
    let alone = text.split("[cluster]").next().unwrap().replace("state_dir = \"state\"", "state_dir = \"b\"");
    let alone = alone.lines().filter(|line| !line.starts_with("peer = ")).collect::<Vec<_>>().join("\n");
    let file = nodes.path("a1/b.toml");
    std::fs::write(&file, format!("{alone}\n[cluster]\nsite = \"b\"\n")).unwrap();
    let before = std::fs::read(nodes.path("mail/.roost/volume")).unwrap();
    let why = run(&["serve", "--config", file.to_str().unwrap()], b"").fails(70);
    assert!(why.contains("belongs to site a") && why.contains("mail.root"), "{why}");
    assert_eq!(std::fs::read(nodes.path("mail/.roost/volume")).unwrap(), before);
}
