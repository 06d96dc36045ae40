//! Accounts that move to another node while they are used: clients notice nothing (L-CN3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::site::{Site, send, site};
use crate::world::{ADA, Client, message};

fn idle(mut client: Client) -> Client {
    client.ask("a SELECT INBOX", "a OK ");
    client.ask("b IDLE", "+ ");
    client
}

fn hears_of_a_delivery(site: &Site, client: &mut Client, at: u8, count: usize) {
    let reply = site.deliver(at, ADA, &message(&format!("number {count}"), 100));
    assert!(reply.starts_with("250 "), "{reply}");
    let told = client.hear(&format!("* {count} EXISTS"));
    assert_eq!(told.matches("EXISTS").count(), 1, "told once, and of nothing else: {told}");
}

#[test]
fn idle_clients_at_an_edge_at_the_old_owner_and_at_the_new_one_go_on() {
    let site = site();
    site.settle(ADA, 2);
    let mut at_edge = idle(site.node(1).imap(ADA));
    let mut at_old = idle(site.node(2).imap(ADA));
    let mut at_new = idle(site.node(3).imap(ADA));
    site.relocate(ADA, 3);
    site.served_at(ADA, 3, 3);
    for client in [&mut at_edge, &mut at_old, &mut at_new] {
        client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    let reply = site.deliver(1, ADA, &message("after", 100));
    assert!(reply.starts_with("250 "), "{reply}");
    for client in [&mut at_edge, &mut at_old, &mut at_new] {
        client.hear("* 1 EXISTS");
        client.ask("DONE", "b OK ");
        assert!(client.ask("c FETCH 1 (BODY.PEEK[])", "c OK ").contains("Subject: after"));
        client.ask("d STORE 1 +FLAGS (\\Flagged)", "d OK ");
        client.ask("e LOGOUT", "e OK ");
    }
}

#[test]
fn a_session_goes_on_wherever_its_account_goes_and_when_it_comes_back() {
    let site = site();
    site.settle(ADA, 1);
    let mut client = idle(site.node(2).imap(ADA));
    let mut count = 0;
    for to in [2, 3, 1, 2, 1, 3] {
        site.relocate(ADA, to);
        site.served_at(ADA, to, 1);
        for at in [1, 3] {
            count += 1;
            hears_of_a_delivery(&site, &mut client, at, count);
        }
    }
    client.ask("DONE", "b OK ");
    client.ask("c LOGOUT", "c OK ");
    assert!(client.rest().is_empty());
}

#[test]
fn commands_that_are_sent_during_moves_are_answered_once_and_in_order() {
    let site = Arc::new(site());
    site.settle(ADA, 1);
    for _ in 0..3 {
        site.deliver(1, ADA, &message("x", 100));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [1, 2].map(|at| {
        let (stop, mut client) = (Arc::clone(&stop), site.node(at).imap(ADA));
        std::thread::spawn(move || {
            client.ask("a SELECT INBOX", "a OK ");
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let first = number;
                let mut text = String::new();
                for _ in 0..5 {
                    let sign = if number % 2 == 0 { '+' } else { '-' };
                    text +=
                        &format!("t{number} UID STORE {} {sign}FLAGS.SILENT ($K{at})\r\n", number % 3 + 1);
                    number += 1;
                }
                client.send(text.as_bytes());
                for tag in first..number {
                    let told = client.hear(&format!("t{tag} OK "));
                    assert_eq!(told.lines().filter(|line| line.starts_with('t')).count(), 1, "{told}");
                }
            }
            client.ask("z LOGOUT", "z OK ");
            number
        })
    });
    for to in [2, 3, 1, 3, 2, 1, 2, 3] {
        site.relocate(ADA, to);
        std::thread::sleep(Duration::from_millis(100));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
}

#[test]
fn deliveries_during_moves_are_all_stored_and_none_twice() {
    let site = Arc::new(site());
    site.settle(ADA, 1);
    let stop = Arc::new(AtomicBool::new(false));
    let mtas = [1u8, 2, 3].map(|at| {
        let (stop, mut mta) = (Arc::clone(&stop), site.node(at).client("lmtp"));
        std::thread::spawn(move || {
            mta.hear("220 ");
            mta.ask("LHLO mta", "250 ");
            let mut sent = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let token = format!("token-{at}-{}", sent.len());
                let reply = send(&mut mta, ADA, &message(&token, 200));
                assert!(reply.starts_with("250 "), "{token}: {reply}");
                sent.push(token);
            }
            sent
        })
    });
    for to in [2, 3, 1, 3, 2, 1] {
        site.relocate(ADA, to);
        std::thread::sleep(Duration::from_millis(150));
    }
    stop.store(true, Ordering::Relaxed);
    let sent: Vec<String> = mtas.into_iter().flat_map(|mta| mta.join().unwrap()).collect();
    let mut client = site.node(2).imap(ADA);
    client.ask("a SELECT INBOX", "a OK ");
    let found = client.ask("b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "b OK ");
    for token in &sent {
        assert_eq!(found.matches(&format!("Subject: {token}\r\n")).count(), 1, "{token}");
    }
    assert_eq!(found.matches("Subject: ").count(), sent.len());
    assert!(sent.len() > 6, "{} deliveries", sent.len());
}

#[test]
fn what_a_pop3_client_marked_stays_marked_and_nobody_else_gets_its_maildrop() {
    let site = site();
    site.settle(ADA, 1);
    for subject in ["one", "two"] {
        site.deliver(1, ADA, &message(subject, 100));
    }
    let mut client = site.node(2).pop3(ADA);
    client.hear("+OK Maildrop has 2 messages");
    client.ask("DELE 1", "+OK");
    site.relocate(ADA, 3);
    site.served_at(ADA, 3, 1);
    site.node(1).pop3(ADA).hear("-ERR [IN-USE]");
    client.ask("STAT", "+OK 1 ");
    client.ask("RETR 1", "-ERR");
    client.ask("QUIT", "+OK");
    let mut after = site.node(1).imap(ADA);
    after.ask("a SELECT INBOX", "a OK ");
    let found = after.ask("b FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "b OK ");
    assert!(found.contains("two") && !found.contains("one"), "{found}");
}

#[test]
fn who_is_in_the_middle_of_a_message_is_left_behind_and_nothing_of_it_is_stored() {
    let site = site();
    site.settle(ADA, 1);
    let mut half = site.node(2).imap(ADA);
    half.say("a APPEND INBOX {100}");
    half.hear("+ ");
    half.send(b"From: x\r\n");
    let mut whole = idle(site.node(2).imap(ADA));
    site.relocate(ADA, 3);
    let rest = String::from_utf8(half.rest()).unwrap();
    assert!(rest.starts_with("* BYE [UNAVAILABLE]") && !rest.contains("a OK"), "{rest}");
    hears_of_a_delivery(&site, &mut whole, 1, 1);
}

#[test]
fn an_account_whose_client_takes_its_time_stays_and_everybody_goes_on() {
    // (locking.md §7.1: not released within 2 s, the owner keeps it)
    let site = site();
    site.settle(ADA, 1);
    let mut quick = idle(site.node(2).imap(ADA));
    let mut slow = site.node(1).imap(ADA);
    let text = message("long", 5_000_000);
    slow.send(format!("a APPEND INBOX {{{}+}}\r\n{text}\r\n", text.len()).as_bytes());
    slow.hear("a OK ");
    slow.ask("b SELECT INBOX", "b OK ");
    quick.hear("* 1 EXISTS");
    for number in 0..8 {
        slow.say(&format!("f{number} FETCH 1 BODY.PEEK[]"));
    }
    site.drain(ADA, 3);
    site.stays(ADA, 1);
    for number in 0..8 {
        assert!(slow.hear(&format!("f{number} OK ")).len() > text.len());
    }
    hears_of_a_delivery(&site, &mut quick, 3, 2);
    // And the next time it goes.
    site.relocate(ADA, 3);
    hears_of_a_delivery(&site, &mut quick, 2, 3);
    assert!(slow.ask("g NOOP", "g OK ").contains("* 3 EXISTS"));
}

#[test]
fn a_planned_move_takes_less_than_the_two_and_a_half_seconds_that_it_may() {
    // (J7)
    let site = site();
    site.settle(ADA, 1);
    let mut client = idle(site.node(2).imap(ADA));
    let mut took: Vec<Duration> = Vec::new();
    for round in 0..20u8 {
        took.push(site.relocate(ADA, round % 3 + 1));
    }
    took.sort();
    println!("moves: median {:?}, slowest {:?}", took[took.len() / 2], took[took.len() - 1]);
    assert!(took[took.len() / 2] < Duration::from_millis(2500), "{took:?}");
    hears_of_a_delivery(&site, &mut client, 3, 1);
}
