//! Messages that an MTA brings to a node which does not own the accounts (L-CN2).

use std::time::Duration;

use roost::router::Owner;

use crate::world::{ADA, BOB, Client, EVE, OneNode, message, world};

/// An MTA that has said LHLO.
fn mta(node: &OneNode) -> Client {
    let mut mta = node.client("lmtp");
    mta.hear("220 ");
    mta.ask("LHLO mta", "250 ");
    mta
}

/// Sends one message, and returns the reply for each recipient.
fn send(mta: &mut Client, recipients: &[&str], text: &str) -> Vec<String> {
    mta.ask("MAIL FROM:<x@example.org>", "250 2.1.0");
    for recipient in recipients {
        mta.ask(&format!("RCPT TO:<{recipient}>"), "250 2.1.5");
    }
    mta.ask("DATA", "354 ");
    mta.send(text.as_bytes());
    mta.say(".");
    recipients
        .iter()
        .map(|_| {
            loop {
                let line = mta.hear("");
                if !line.starts_with("354") {
                    break line;
                }
            }
        })
        .collect()
}

fn messages(node: &OneNode, user: &str) -> usize {
    let told = node.imap(user).ask("a STATUS INBOX (MESSAGES)", "a OK ");
    let count = told.split("MESSAGES ").nth(1).unwrap();
    count.split(')').next().unwrap().parse().unwrap()
}

#[test]
fn one_message_reaches_recipients_at_three_owners_and_each_is_answered() {
    let world = world();
    let mut mta = mta(&world.edge);
    let text = message("to all", 300_000);
    let replies = send(&mut mta, &[ADA, EVE, BOB, "ada+lists@example.org"], &text);
    for (reply, recipient) in replies.iter().zip([ADA, EVE, BOB, "ada+lists@example.org"]) {
        assert_eq!(reply.trim_end(), format!("250 2.0.0 <{recipient}> Saved"));
    }
    assert_eq!(messages(&world.two, ADA), 2);
    assert_eq!(messages(&world.three, BOB), 1);
    assert_eq!(messages(&world.edge, EVE), 1);
    let mut client = world.two.imap(ADA);
    client.ask("a SELECT INBOX", "a OK ");
    assert!(client.ask("b FETCH 1 BODY.PEEK[]", "b OK ").contains(&text));
}

#[test]
fn a_message_tried_again_at_another_node_is_stored_once() {
    let world = world();
    let text =
        format!("Received: from a by b id QUEUE1; Mon, 1 Jan 2024 00:00:00 +0000\r\n{}", message("x", 1));
    assert!(send(&mut mta(&world.edge), &[ADA], &text)[0].starts_with("250 "));
    assert!(send(&mut mta(&world.two), &[ADA], &text)[0].starts_with("250 "));
    assert!(send(&mut mta(&world.edge), &[ADA], &text)[0].starts_with("250 "));
    assert_eq!(messages(&world.two, ADA), 1);
}

#[test]
fn what_one_owner_refuses_is_told_to_its_recipient_alone() {
    let world = world();
    let node = world.two.node.as_ref().unwrap();
    // A file where the account's home should be: it cannot be opened.
    let home = node.running.config.mail.root.join("example.org/ada");
    std::fs::create_dir_all(home.parent().unwrap()).unwrap();
    std::fs::write(&home, "in the way").unwrap();
    let replies = send(&mut mta(&world.edge), &[ADA, BOB], &message("x", 100));
    assert!(replies[0].starts_with("451 4."), "{replies:?}");
    assert!(replies[1].starts_with("250 "), "{replies:?}");
}

#[test]
fn a_delivery_waits_for_the_next_owner() {
    let world = world();
    drop(world.three);
    let told = std::sync::Arc::clone(&world.edge.told);
    let granted = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(800));
        told.set(BOB, Owner::Node(2));
    });
    let replies = send(&mut mta(&world.edge), &[BOB, ADA], &message("late", 100));
    granted.join().unwrap();
    assert!(replies.iter().all(|reply| reply.starts_with("250 ")), "{replies:?}");
    assert_eq!(messages(&world.two, BOB), 1);
}
