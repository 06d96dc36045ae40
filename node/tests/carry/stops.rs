//! Nodes of a site that stop, one after the other, while mail comes in.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::site::site;
use crate::world::{ADA, BOB, EVE, eventually, message};

#[test]
fn a_node_that_stops_gives_its_accounts_away_and_clients_at_other_nodes_go_on() {
    let mut site = site();
    site.settle(ADA, 2);
    let mut at_one = site.node(1).imap(ADA);
    at_one.ask("a SELECT INBOX", "a OK ");
    at_one.ask("b IDLE", "+ ");
    let mut at_two = site.node(2).imap(ADA);
    let took = site.stop(2);
    assert!(took < Duration::from_secs(14), "{took:?}");
    at_two.hear("* BYE [UNAVAILABLE] Server is going down");
    let reply = site.deliver(3, ADA, &message("after", 100));
    assert!(reply.starts_with("250 "), "{reply}");
    at_one.hear("* 1 EXISTS");
    at_one.ask("DONE", "b OK ");
}

#[test]
fn the_last_node_stops_soon_and_loses_nothing() {
    let mut site = site();
    site.settle(ADA, 1);
    let reply = site.deliver(1, ADA, &message("before", 100));
    assert!(reply.starts_with("250 "), "{reply}");
    site.kill(2);
    site.kill(3);
    let took = site.stop(1);
    assert!(took < Duration::from_secs(8), "{took:?}");
}

/// What came of a message.
enum Sent {
    Stored,
    /// The node said so, or hung up: an MTA tries again.
    NotNow,
    Refused(String),
}

fn line(stream: &mut TcpStream) -> Option<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        line.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}

fn send(address: SocketAddr, user: &str, text: &str) -> Sent {
    let Ok(mut stream) = TcpStream::connect(address) else { return Sent::NotNow };
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let said = [
        String::new(),
        "LHLO mta\r\n".into(),
        "MAIL FROM:<x@example.org>\r\n".into(),
        format!("RCPT TO:<{user}>\r\n"),
        "DATA\r\n".into(),
        format!("{text}.\r\n"),
    ];
    for (step, words) in said.iter().enumerate() {
        if stream.write_all(words.as_bytes()).is_err() {
            return Sent::NotNow;
        }
        loop {
            let Some(reply) = line(&mut stream) else { return Sent::NotNow };
            match &reply[..1] {
                _ if reply.starts_with("421") => return Sent::NotNow,
                "4" | "5" => return Sent::Refused(format!("step {step}: {reply}")),
                _ if reply[3..].starts_with('-') => {}
                _ => break,
            }
        }
    }
    Sent::Stored
}

#[test]
fn a_rolling_restart_under_load_fails_no_delivery_and_doubles_none() {
    let mut site = site();
    let users = [ADA, BOB, EVE];
    for (user, id) in users.into_iter().zip(1..) {
        site.settle(user, id);
    }
    let addresses = [1u8, 2, 3].map(|id| site.node(id).address("lmtp"));
    let up = Arc::new(Mutex::new(BTreeSet::from([0usize, 1, 2])));
    let stop = Arc::new(AtomicBool::new(false));
    let mtas = users.map(|user| {
        let (up, stop) = (Arc::clone(&up), Arc::clone(&stop));
        std::thread::spawn(move || {
            let (mut sent, mut turn) = (Vec::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                let token = format!("{user}-{}", sent.len());
                let text = format!(
                    "Received: from a by b id {token}; Mon, 1 Jan 2024 00:00:00 +0000\r\n{}",
                    message(&token, 200)
                );
                loop {
                    turn += 1;
                    let nodes: Vec<usize> = up.lock().unwrap().iter().copied().collect();
                    match send(addresses[nodes[turn % nodes.len()]], user, &text) {
                        Sent::Stored => break,
                        Sent::NotNow => std::thread::sleep(Duration::from_millis(20)),
                        Sent::Refused(why) => panic!("{token}: {why}"),
                    }
                }
                sent.push(token);
            }
            sent
        })
    });
    let mut idle = site.node(1).imap(BOB);
    idle.ask("a SELECT INBOX", "a OK ");
    idle.ask("b IDLE", "+ ");
    for id in [2u8, 3, 1] {
        if id == 1 {
            // The clients of a node that stops are its own; those of others stay.
            idle.ask("DONE", "b OK ");
            idle.ask("c LOGOUT", "c OK ");
        }
        up.lock().unwrap().remove(&usize::from(id - 1));
        let took = site.stop(id);
        assert!(took < Duration::from_secs(20), "{took:?}");
        site.start(id);
        up.lock().unwrap().insert(usize::from(id - 1));
        eventually("a node that takes part again", || site.node(id).running().ready().is_ok());
    }
    stop.store(true, Ordering::Relaxed);
    for (user, mta) in users.into_iter().zip(mtas) {
        let sent: Vec<String> = mta.join().unwrap();
        let mut client = site.node(2).imap(user);
        client.ask("a SELECT INBOX", "a OK ");
        let found = client.ask("b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "b OK ");
        for token in &sent {
            assert_eq!(found.matches(&format!("Subject: {token}\r\n")).count(), 1, "{token}");
        }
        assert!(sent.len() > 3, "{} deliveries to {user}", sent.len());
    }
}
