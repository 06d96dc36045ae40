//! Sessions at an edge, served by the owner as if the client had come there (L-CN1, L-CN2).

use std::time::Duration;

use roost::live::Via;
use roost::router::Owner;

use crate::world::{ADA, BOB, EVE, eventually, message, world};

#[test]
fn imap_is_served_by_the_owner_whatever_the_size() {
    let world = world();
    let mut client = world.edge.imap(ADA);
    let text = message("long", 5_000_000);
    client.say(&format!("a APPEND INBOX {{{}}}", text.len()));
    client.hear("+ ");
    client.send(text.as_bytes());
    client.say("");
    client.hear("a OK [APPENDUID ");
    client.ask("b SELECT INBOX", "b OK ");
    let fetched = client.ask("c FETCH 1 BODY.PEEK[]", "c OK ");
    assert!(fetched.contains(&text), "{} octets came", fetched.len());
    // At the owner, and nowhere else, there is such a message.
    assert!(world.two.imap(ADA).ask("b STATUS INBOX (MESSAGES)", "b OK ").contains("MESSAGES 1"));
    client.ask("d IDLE", "+ ");
    let mut other = world.edge.imap(ADA);
    let short = message("short", 100);
    other.send(format!("a APPEND INBOX {{{}+}}\r\n{short}\r\n", short.len()).as_bytes());
    other.hear("a OK ");
    client.hear("* 2 EXISTS");
    client.ask("DONE", "d OK ");
    client.ask("e LOGOUT", "e OK ");
    assert!(client.rest().is_empty());
}

#[test]
fn a_pipeline_behind_a_login_reaches_the_owner() {
    let world = world();
    let mut client = world.edge.client("imap");
    client.send(format!("a LOGIN {ADA} secret\r\nb SELECT INBOX\r\nc NOOP\r\nd LOGOUT\r\n").as_bytes());
    client.hear("a OK [CAPABILITY");
    client.hear("b OK [READ-WRITE]");
    client.hear("c OK");
    client.hear("* BYE");
    client.hear("d OK");
    let mut client = world.edge.client("imap");
    client.say("a AUTHENTICATE PLAIN AGFkYUBleGFtcGxlLm9yZwBzZWNyZXQ=");
    client.hear("a OK [CAPABILITY");
    let mut client = world.edge.client("pop3");
    client.send(format!("USER {ADA}\r\nPASS secret\r\nSTAT\r\nQUIT\r\n").as_bytes());
    assert!(String::from_utf8(client.rest()).unwrap().contains("+OK 0 0\r\n+OK Bye\r\n"));
}

#[test]
fn pop3_is_locked_at_the_owner_wherever_clients_come() {
    let world = world();
    let mut first = world.edge.pop3(ADA);
    first.hear("+OK Maildrop has 0 messages");
    world.two.pop3(ADA).hear("-ERR [IN-USE]");
    let mut second = world.edge.pop3(ADA);
    second.hear("-ERR [IN-USE]");
    assert!(second.rest().is_empty());
    first.ask("QUIT", "+OK");
    eventually("the lock's end", || {
        let mut again = world.edge.pop3(ADA);
        again.say("QUIT");
        String::from_utf8(again.rest()).unwrap().contains("+OK Maildrop")
    });
}

#[test]
fn who_shows_a_carried_session_once_at_each_end_and_either_can_kick() {
    let world = world();
    let mut client = world.edge.imap(ADA);
    client.ask("a SELECT INBOX", "a OK ");
    let at_edge = world.edge.live();
    let [edge] = &at_edge[..] else { panic!("{at_edge:?}") };
    assert_eq!((edge.user.as_deref(), &edge.via), (Some(ADA), &Some(Via::To { node: 2 })));
    let at_owner = world.two.live();
    let [owner] = &at_owner[..] else { panic!("{at_owner:?}") };
    assert_eq!(owner.mailbox.as_deref(), Some("INBOX"));
    assert_eq!(owner.via, Some(Via::From { node: 1, session: edge.session.clone() }));
    assert!(world.edge.metric("roost_forwarded_sessions{protocol=\"imap\",direction=\"to\"} 1"));
    assert!(world.two.metric("roost_forwarded_sessions{protocol=\"imap\",direction=\"from\"} 1"));
    world.edge.node.as_ref().unwrap().running.services.live.kick(ADA, "ended by a test");
    client.hear("* BYE [UNAVAILABLE]");
    assert!(client.rest().is_empty());
    eventually("an empty house", || world.edge.live().is_empty() && world.two.live().is_empty());
    let mut client = world.edge.imap(ADA);
    world.two.node.as_ref().unwrap().running.services.live.kick(ADA, "ended by a test");
    client.hear("* BYE [UNAVAILABLE] ended by a test");
    assert!(client.rest().is_empty());
    eventually("nothing carried", || {
        world.edge.metric("roost_forwarded_sessions{protocol=\"imap\",direction=\"to\"} 0")
    });
}

#[test]
fn an_account_of_this_node_takes_no_other_way() {
    let world = world();
    let mut client = world.edge.imap(EVE);
    client.ask("a SELECT INBOX", "a OK ");
    assert_eq!(world.edge.live()[0].via, None);
    assert!(!world.edge.metric("roost_forwarded_sessions{"));
}

#[test]
fn a_wrong_password_never_leaves_the_edge() {
    let world = world();
    let mut client = world.edge.client("imap");
    client.say(&format!("a LOGIN {ADA} wrong"));
    client.hear("a NO [AUTHENTICATIONFAILED]");
    client.say(&format!("b LOGIN {ADA} secret"));
    client.hear("b OK ");
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    let world = world();
    let mut slow = world.edge.imap(ADA);
    let text = message("long", 5_000_000);
    slow.send(format!("a APPEND INBOX {{{}+}}\r\n{text}\r\n", text.len()).as_bytes());
    slow.hear("a OK ");
    slow.ask("b SELECT INBOX", "b OK ");
    for number in 0..8 {
        slow.say(&format!("f{number} FETCH 1 BODY.PEEK[]"));
    }
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..20 {
        world.edge.imap(ADA).ask("a LOGOUT", "a OK ");
        world.edge.imap(BOB).ask("a LOGOUT", "a OK ");
    }
    let mut octets = 0;
    for number in 0..8 {
        octets += slow.hear(&format!("f{number} OK ")).len();
    }
    assert!(octets > 8 * text.len());
}

#[test]
fn an_owner_that_is_none_any_more_is_asked_and_left() {
    let world = world();
    // Node 2 knows better, and node 1 learns it a little later.
    world.two.told.set_at(ADA, Owner::Node(3), 100);
    let told = std::sync::Arc::clone(&world.edge.told);
    let learns = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        told.set_at(ADA, Owner::Node(3), 100);
    });
    let mut client = world.edge.imap(ADA);
    learns.join().unwrap();
    client.ask("a SELECT INBOX", "a OK ");
    assert_eq!(world.three.live().len(), 1);
    assert!(world.edge.metric("roost_router_retries_total{kind=\"not_owner\"} 1"));
}

#[test]
fn nodes_that_never_agree_are_given_up() {
    let world = world();
    world.two.told.set_at(ADA, Owner::Node(3), 1);
    let mut client = world.edge.client("imap");
    client.say(&format!("a LOGIN {ADA} secret"));
    client.hear("a NO [UNAVAILABLE] ");
    client.say(&format!("b LOGIN {EVE} secret"));
    client.hear("b OK ");
    let mut client = world.edge.pop3(ADA);
    client.hear("-ERR [SYS/TEMP]");
}
