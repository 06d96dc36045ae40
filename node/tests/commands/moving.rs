//! Real processes: accounts that move while their clients idle, and nodes that are restarted one after the other (L-CN3).

use super::node::Talk;
use super::nodes::{Nodes, user};

const CLIENTS: usize = 2;

fn idle(nodes: &Nodes, id: usize, user: &str) -> Talk {
    let mut client = nodes.talk(id, "imap").unwrap();
    client.ask(&format!("a LOGIN {user} secret"), "a OK ");
    client.ask("b SELECT INBOX", "b OK ");
    client.ask("c IDLE", "+ ");
    client
}

/// Delivers at a node, and every client hears of it, once.
fn deliver(nodes: &Nodes, id: usize, user: &str, count: usize, clients: &mut [Talk]) {
    let mut mta = nodes.talk(id, "lmtp").unwrap();
    mta.ask("LHLO x", "250 ");
    mta.ask("MAIL FROM:<>", "250 2.1.0");
    mta.ask(&format!("RCPT TO:<{user}>"), "250 2.1.5");
    mta.ask("DATA", "354 ");
    mta.ask(&format!("Subject: {count}\r\n\r\nhello\r\n."), "Saved\r\n");
    for client in clients {
        let told = client.hear(&format!("* {count} EXISTS\r\n"));
        assert_eq!(told.matches("EXISTS").count(), 1, "{told}");
    }
}

#[test]
fn idle_clients_hear_of_the_next_delivery_after_their_account_has_moved() {
    let nodes = Nodes::start(1);
    let ada = user(0);
    nodes.save(1, &ada, "Subject: first\r\n\r\nbody\r\n");
    let owner = nodes.owner(1, &ada);
    let others: Vec<usize> = (1..=3).filter(|id| *id != owner).collect();
    // One at the owner itself, one at another node.
    let mut clients: [Talk; CLIENTS] = [owner, others[0]].map(|id| idle(&nodes, id, &ada));
    let mut count = 1;
    for to in [others[1], others[0], owner, others[1]] {
        let moved = nodes.roost(owner, &["cluster", "move", &ada, &to.to_string(), "--json"]).json();
        println!("moved to node {to} in {} ms", moved["ms"]);
        for id in [to, owner] {
            count += 1;
            deliver(&nodes, id, &ada, count, &mut clients);
        }
    }
    for client in &mut clients {
        client.ask("DONE", "c OK ");
        client.ask("d LOGOUT", "d OK ");
    }
}

#[test]
fn an_idle_client_lives_through_the_restart_of_all_nodes_but_its_own() {
    let mut nodes = Nodes::start(1);
    let ada = user(0);
    nodes.save(2, &ada, "Subject: first\r\n\r\nbody\r\n");
    let mut clients = [idle(&nodes, 1, &ada)];
    let mut count = 1;
    for id in [2, 3] {
        nodes.stop(id);
        for at in [1, 5 - id] {
            count += 1;
            deliver(&nodes, at, &ada, count, &mut clients);
        }
        nodes.begin(id);
        nodes.ready(id);
        count += 1;
        deliver(&nodes, id, &ada, count, &mut clients);
    }
}
