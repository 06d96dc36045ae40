//! Commands of a site of several nodes: asked at any, done where it belongs.

use std::time::Instant;

use serde_json::Value;

use super::node::eventually;
use super::nodes::{LEASE, Nodes, user};

const USERS: usize = 6;
const MESSAGE: &str = "Subject: one\r\n\r\nbody\r\n";

#[test]
fn a_command_about_an_account_runs_at_its_owner_wherever_it_is_typed() {
    let nodes = Nodes::start(USERS);
    for number in 0..USERS {
        // Whoever is asked first may be the owner, or not.
        nodes.save(number % 3 + 1, &user(number), MESSAGE);
        nodes.save((number + 1) % 3 + 1, &user(number), MESSAGE);
    }
    for id in 1..=3 {
        for number in 0..USERS {
            let user = user(number);
            assert_eq!(nodes.roost(id, &["fetch", &user, "uid", "all"]).ok(), "uid: 1\n\u{c}\nuid: 2\n");
            let explained = nodes.roost(id, &["explain", &user, "--json"]).json();
            assert_eq!(explained["owner_id"], nodes.owner(id, &user), "{explained}");
            assert_eq!(explained["witness"]["lsn"], explained["records"], "{explained}");
            assert!(!explained["takeovers"].as_array().unwrap().is_empty(), "{explained}");
            let test = nodes.roost(id, &["auth", "test", &user, "secret", "--json"]).json();
            assert_eq!(test["owner"], explained["owner_id"]);
        }
        // Loops go from node to node and print one value.
        let found = nodes.roost(id, &["search", "-A", "all", "--json"]).json();
        assert_eq!(found.as_array().unwrap().len(), 2 * USERS, "{found}");
        let dumped = nodes.roost(id, &["dump", "-u", "user*"]).json();
        assert_eq!(
            dumped.as_object().unwrap().keys().cloned().collect::<Vec<_>>(),
            (0..USERS).map(user).collect::<Vec<_>>()
        );
        let flags = nodes.roost(id, &["flags", "add", "-A", "\\Seen", "all"]).ok();
        assert_eq!(
            flags,
            (0..USERS).map(|number| format!("{} 2 changed\n", user(number))).collect::<String>()
        );
        let table = nodes.roost(id, &["fetch", "-A", "-f", "tab", "user uid", "all"]).ok();
        assert_eq!(table.lines().count(), 1 + 2 * USERS, "one line of names: {table}");
    }
    let refused = nodes.roost(1, &["fetch", "-A", "nonsense", "all"]).fails(64);
    assert_eq!(refused.lines().count(), 1, "a mistake is told once: {refused}");
    nodes.roost(2, &["fetch", "ghost@example.org", "uid", "all"]).fails(67);
    let verified = nodes.roost(3, &["verify", "-A", "--json"]).json();
    assert!(
        verified.as_object().unwrap().values().all(|of| of["problems"] == serde_json::json!([])),
        "{verified}"
    );
}

#[test]
fn sessions_of_all_nodes_are_listed_and_ended_from_any() {
    let mut nodes = Nodes::start(2);
    let ada = user(0);
    nodes.save(1, &ada, MESSAGE);
    let owner = nodes.owner(1, &ada);
    let edge = owner % 3 + 1;
    let other = edge % 3 + 1;
    let mut imap = nodes.talk(edge, "imap").unwrap();
    imap.ask(&format!("a LOGIN {ada} secret"), "a OK");
    imap.ask("b SELECT INBOX", "b OK");
    for id in 1..=3 {
        let listed = eventually("listed once", || {
            let who = nodes.roost(id, &["who", "--json"]).json();
            (who.as_array().unwrap().len() == 1 && who[0]["mailbox"] == "INBOX").then_some(who)
        });
        assert_eq!((&listed[0]["node"], &listed[0]["via"]["from"]["node"]), (&owner.into(), &edge.into()));
    }
    assert_eq!(nodes.roost(other, &["kick", &ada]).ok(), "1 session ended\n");
    imap.hear("* BYE");
    // A node that is down is named, and the rest is shown.
    nodes.kill(owner);
    let who = nodes.roost(other, &["who", "--json"]);
    assert!(who.stderr.contains(&format!("node {owner}")), "{who:?}");
    who.ok();
    nodes.roost(other, &["kick", &ada]).fails(75);
}

#[test]
fn the_status_of_a_site_is_told_by_every_node() {
    let mut nodes = Nodes::start(1);
    let leader = nodes.leader(1);
    for id in 1..=3 {
        let status = nodes.status(id);
        assert_eq!(
            (&status["id"], &status["leader"], &status["ready"]),
            (&id.into(), &leader.into(), &true.into())
        );
        let rows = status["nodes"].as_array().unwrap();
        for (number, row) in (1..).zip(rows) {
            assert_eq!((&row["id"], &row["address"]), (&number.into(), &nodes.peer(number).into()));
            assert_eq!(row["role"], if number == leader { "leader" } else { "voter" });
            assert_eq!(
                (&row["session_live"], &row["version"]),
                (&true.into(), &env!("CARGO_PKG_VERSION").into())
            );
            assert_eq!((&row["draining"], &row["unreachable"]), (&false.into(), &Value::Null));
        }
        assert!(nodes.roost(id, &["cluster", "status"]).ok().contains("leader node"));
    }
    let heir = leader % 3 + 1;
    nodes.roost(leader, &["cluster", "transfer-leader", &heir.to_string()]).ok();
    assert_eq!(nodes.leader(leader), heir);
    nodes.roost(1, &["cluster", "transfer-leader", "9"]).fails(68);
    nodes.roost(1, &["cluster", "transfer-leader", "0"]).fails(64);
    nodes.roost(1, &["cluster", "remove", "9"]).fails(68);
    nodes.roost(1, &["cluster", "declare-dead", "2"]).fails(64);
    let refused = nodes.roost(1, &["cluster", "declare-dead", "2", "--yes-it-is-dead"]).fails(65);
    assert!(refused.contains("it answers"), "{refused}");
    // Without a majority there is no leader, and the command that needs one says to try again.
    let left = (1..=3).find(|id| *id != heir).unwrap();
    (1..=3).filter(|id| *id != left).for_each(|id| nodes.kill(id));
    eventually("no leader", || {
        let status = nodes.roost(left, &["cluster", "status", "--json"]);
        (status.code == 75).then_some(status)
    });
}

/// Nodes of which one owns the account of a user, and another leads: a take-over does not wait for an election.
fn with_a_leader_that_is_not_the_owner() -> (Nodes, String, usize, usize) {
    let nodes = Nodes::start(1);
    let ada = user(0);
    nodes.save(1, &ada, MESSAGE);
    let owner = nodes.owner(1, &ada);
    let other = owner % 3 + 1;
    nodes.roost(other, &["cluster", "transfer-leader", &other.to_string()]).ok();
    (nodes, ada, owner, other)
}

#[test]
fn what_a_node_owned_that_is_declared_dead_is_served_at_once() {
    let (mut nodes, ada, owner, other) = with_a_leader_that_is_not_the_owner();
    nodes.kill(owner);
    let killed = Instant::now();
    nodes.roost(other, &["cluster", "declare-dead", &owner.to_string(), "--yes-it-is-dead"]).ok();
    assert_eq!(nodes.roost(other, &["fetch", &ada, "uid", "all"]).ok(), "uid: 1\n");
    let took = killed.elapsed();
    println!("declared dead: served again {took:?} after kill -9");
    assert!(took < LEASE, "no lease was waited for: {took:?}");
    assert_ne!(nodes.owner(other, &ada), owner);
}

#[test]
fn a_node_that_is_restarted_at_once_serves_its_accounts_without_waiting_for_a_lease() {
    let (mut nodes, ada, owner, other) = with_a_leader_that_is_not_the_owner();
    nodes.kill(owner);
    let killed = Instant::now();
    nodes.begin(owner);
    // The socket is there before the node serves.
    eventually("served", || (nodes.roost(owner, &["fetch", &ada, "uid", "all"]).code == 0).then_some(()));
    let took = killed.elapsed();
    println!("restarted: served again {took:?} after kill -9");
    assert!(took < LEASE, "its own restart is the evidence: {took:?}");
    nodes.save(other, &ada, MESSAGE);
    assert_eq!(nodes.roost(owner, &["fetch", &ada, "uid", "all"]).ok(), "uid: 1\n\u{c}\nuid: 2\n");
}

#[test]
fn a_node_is_let_in_and_out_by_command() {
    let mut nodes = Nodes::prepare(3, 4, 1);
    (1..=3).for_each(|id| nodes.begin(id));
    (1..=3).for_each(|id| nodes.ready(id));
    nodes.save(1, &user(0), MESSAGE);
    nodes.roost(1, &["cluster", "add", "4"]).fails(64);
    nodes.roost(1, &["cluster", "add", "4", "--address", nodes.peer(4)]).fails(75);
    nodes.begin(4);
    eventually("it waits to be let in", || nodes.log(4).contains("cluster add 4").then_some(()));
    let added = nodes.roost(2, &["cluster", "add", "4", "--address", nodes.peer(4), "--json"]).json();
    assert_eq!((&added["node"], &added["voters"]), (&4.into(), &4.into()));
    nodes.ready(4);
    let status = nodes.status(1);
    assert_eq!((&status["nodes"][3]["role"], &status["nodes"][3]["name"]), (&"voter".into(), &"a4".into()));
    // Sessions and commands find the way to it and from it, though the others' configurations do not know it.
    assert_eq!(nodes.roost(4, &["fetch", &user(0), "uid", "all"]).ok(), "uid: 1\n");
    nodes.roost(3, &["cluster", "remove", "4", "--force"]).ok();
    eventually("it is out", || (nodes.status(1)["nodes"].as_array()?.len() == 3).then_some(()));
    assert_eq!(nodes.roost(1, &["fetch", &user(0), "uid", "all"]).ok(), "uid: 1\n");
}

#[test]
fn certificates_between_nodes_are_read_again_on_sighup() {
    let mut nodes = Nodes::start(1);
    let hang_up = |nodes: &Nodes| {
        let pid = i32::try_from(nodes.pid(2)).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGHUP).unwrap();
    };
    nodes.issue(2);
    hang_up(&nodes);
    eventually("read again", || nodes.log(2).contains("applied=[\"cluster.tls\"]").then_some(()));
    // Whoever connects now meets the new certificate.
    nodes.stop(3);
    nodes.begin(3);
    nodes.ready(3);
    assert_eq!(nodes.status(3)["nodes"][1]["unreachable"], Value::Null);
    std::fs::write(nodes.path("pki/a-2.pem"), "garbage").unwrap();
    hang_up(&nodes);
    eventually("refused", || nodes.log(2).contains("configuration stays as it was").then_some(()));
    assert!(nodes.roost(2, &["config", "reload"]).fails(78).contains("cluster.tls.certificate"));
    assert_eq!(nodes.status(3)["nodes"][1]["unreachable"], Value::Null);
}

#[test]
fn a_node_is_ready_when_it_can_acknowledge_a_change_and_says_why_when_not() {
    let mut nodes = Nodes::start(1);
    assert!(nodes.page(1, "/readyz").starts_with("HTTP/1.1 200"));
    nodes.kill(2);
    nodes.kill(3);
    let why = eventually("not ready", || Some(nodes.page(1, "/readyz")).filter(|page| page.contains("503 ")));
    assert!(why.contains("majority"), "{why}");
    assert!(nodes.page(1, "/healthz").starts_with("HTTP/1.1 200"));
}

/// Buckets of each node that has a live session, once they are all of them.
fn spread(nodes: &Nodes, id: usize, live: usize) -> Vec<u64> {
    eventually("all buckets are owned", || {
        let status = nodes.status(id);
        let rows = status["nodes"].as_array()?.clone();
        let owned: Vec<u64> = rows
            .iter()
            .filter(|row| row["session_live"] == true)
            .filter_map(|row| row["buckets"].as_u64())
            .collect();
        (owned.len() == live && owned.iter().sum::<u64>() == 65_536).then_some(owned)
    })
}

#[test]
fn buckets_are_spread_at_the_start_and_after_a_crash() {
    let mut nodes = Nodes::start(1);
    let owned = spread(&nodes, 1, 3);
    assert!(owned.iter().all(|buckets| *buckets > 20_000), "{owned:?}");
    let metrics = nodes.page(1, "/metrics");
    let owned_here = format!("roost_buckets_owned {}", owned[0]);
    assert!(metrics.contains(&owned_here), "{owned_here}\n{metrics}");
    for name in
        ["roost_lease_held 1", "roost_node_ready 1", "roost_raft_snapshot_age_entries", "volume=\"state\""]
    {
        assert!(metrics.contains(name), "{name}\n{metrics}");
    }
    assert!(nodes.page(1, "/").contains("owns"), "the status page shows the site");
    let dead = nodes.leader(1) % 3 + 1;
    let other = dead % 3 + 1;
    nodes.kill(dead);
    let killed = Instant::now();
    nodes.roost(other, &["cluster", "declare-dead", &dead.to_string(), "--yes-it-is-dead"]).ok();
    let owned = spread(&nodes, other, 2);
    println!("spread: all owned again {:?} after kill -9", killed.elapsed());
    assert!(owned.iter().all(|buckets| *buckets > 30_000), "{owned:?}");
    let log = nodes.log(other) + &nodes.log(6 - dead - other);
    assert!(log.contains("buckets that nobody owned are given to a node"), "{log}");
    assert!(!log.contains("openraft"), "what consensus says is put in a sentence: {log}");
}

#[test]
fn an_account_is_moved_and_a_node_is_emptied_by_command() {
    let nodes = Nodes::start(1);
    let ada = user(0);
    nodes.save(1, &ada, MESSAGE);
    let before = spread(&nodes, 1, 3);
    let from = nodes.owner(1, &ada);
    let to = from % 3 + 1;
    let moved = nodes.roost(from, &["cluster", "move", &ada, &to.to_string(), "--json"]).json();
    println!("moved in {} ms", moved["ms"]);
    assert_eq!((&moved["from"], &moved["to"]), (&from.into(), &to.into()));
    assert_eq!(nodes.owner(from, &ada), to);
    assert_eq!(nodes.roost(from, &["fetch", &ada, "uid", "all"]).ok(), "uid: 1\n");
    assert!(nodes.roost(1, &["cluster", "move", &ada, &to.to_string()]).ok().contains("already"));
    nodes.roost(1, &["cluster", "move", &ada, "9"]).fails(68);
    nodes.roost(1, &["cluster", "drain", &to.to_string(), "--no-wait"]).ok();
    nodes.roost(1, &["cluster", "move", &ada, &to.to_string()]).fails(65);
    eventually("it is being emptied", || {
        let row = nodes.status(1)["nodes"][to - 1].clone();
        (row["draining"] == true && row["buckets"].as_u64()? + 20 < before[to - 1]).then_some(())
    });
    nodes.roost(1, &["cluster", "undrain", &to.to_string()]).ok();
    eventually("it may own again", || (nodes.status(1)["nodes"][to - 1]["draining"] == false).then_some(()));

    // A third of all buckets, of which one is in use: one by one they would take minutes.
    assert_eq!(nodes.roost(to, &["fetch", &ada, "uid", "all"]).ok(), "uid: 1\n");
    let drained = nodes.roost(1, &["cluster", "drain", &to.to_string(), "--json"]).json();
    println!("{} buckets went in {} ms", drained["moved"], drained["ms"]);
    assert_eq!(nodes.status(1)["nodes"][to - 1]["buckets"], 0);
    assert_ne!(nodes.owner(1, &ada), to);
    assert!(drained["ms"].as_u64().is_some_and(|ms| ms < 60_000), "{drained}");
    assert_eq!(nodes.roost(to, &["fetch", &ada, "uid", "all"]).ok(), "uid: 1\n");
}
