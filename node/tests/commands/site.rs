//! Three nodes, one mail tree: real processes, any of which takes any connection.

use std::io::{Read as _, Write as _};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::demo::{Demo, converse, is_alive};
use super::node::{eventually, run};

const NODES: [usize; 3] = [0, 1, 2];

/// Who owns the first account, and the two others.
fn owner(demo: &Demo) -> (usize, [usize; 2]) {
    let words = ["lock", "show", demo.login(0).0, "--json", "--config", demo.config(0)];
    let owner = eventually("an owner", || run(&words, b"").json()[0]["owner_id"].as_u64());
    let owner = usize::try_from(owner).unwrap() - 1;
    (owner, [(owner + 1) % 3, (owner + 2) % 3])
}

/// Delivers at a node; panics unless it is acknowledged.
fn deliver(demo: &Demo, node: usize, token: &str) {
    let (user, _) = demo.login(0);
    let said = converse(
        demo.connect_to(node, "lmtp"),
        &[
            "LHLO x",
            "MAIL FROM:<>",
            &format!("RCPT TO:<{user}>"),
            "DATA",
            &format!(
                "Received: from x by y with ESMTP id {token}; now\r\nSubject: {token}\r\n\r\nhello\r\n."
            ),
            "QUIT",
        ],
    );
    assert!(said.contains("Saved"), "{token} at node {node}: {said}");
}

/// UID and subject of everything in INBOX, as a node shows it.
fn shown(demo: &Demo, node: usize) -> Vec<(u32, String)> {
    let (user, password) = demo.login(0);
    let said = converse(
        demo.connect_to(node, "imap"),
        &[
            &format!("a LOGIN {user} {password}"),
            "b SELECT INBOX",
            "c UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])",
            "d LOGOUT",
        ],
    );
    assert!(said.contains("c OK "), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let uid = pair[0].split_once("(UID ")?.1.split(' ').next()?.parse().ok()?;
        Some((uid, pair[1].strip_prefix("Subject: ")?.to_owned()))
    });
    pairs.collect()
}

#[test]
fn every_node_shows_the_same_mail_and_a_killed_owner_costs_none_of_it() {
    let demo = Demo::start(&[]);
    for node in NODES {
        deliver(&demo, node, &format!("before-{node}"));
    }
    let before = shown(&demo, 0);
    assert_eq!(before.iter().filter(|(_, subject)| subject.starts_with("before-")).count(), NODES.len());
    for node in NODES {
        assert_eq!(shown(&demo, node), before, "node {node}");
    }
    // Commands find the owner from any node.
    let (owner, others) = owner(&demo);
    let fetched =
        run(&["fetch", demo.login(0).0, "uid", "ALL", "--config", demo.config(others[0])], b"").ok();
    assert_eq!(fetched.matches("uid: ").count(), before.len());
    kill(Pid::from_raw(i32::try_from(demo.pid(owner)).unwrap()), Signal::SIGKILL).unwrap();
    eventually("the owner is dead", || (!is_alive(demo.pid(owner))).then_some(()));
    // Edges hold what comes until there is a new owner: nobody is told to come back.
    for (node, token) in others.into_iter().zip(["after-1", "after-2"]) {
        deliver(&demo, node, token);
    }
    let after = shown(&demo, others[0]);
    assert_eq!(shown(&demo, others[1]), after);
    assert_eq!(&after[..before.len()], &before[..], "what was there is there under its UIDs");
    let new: Vec<&str> = after[before.len()..].iter().map(|(_, subject)| subject.as_str()).collect();
    assert_eq!(new, ["after-1", "after-2"], "and what came is there once");
}

/// Reads until this has come, or the other side hung up.
fn hear(stream: &mut std::net::TcpStream, wanted: &str) -> String {
    let (mut heard, mut bytes) = (String::new(), [0; 4096]);
    while !heard.contains(wanted) {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => heard.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
    }
    heard
}

#[test]
fn an_owner_that_stood_still_shows_nothing_old_when_it_goes_on() {
    let demo = Demo::start(&[]);
    deliver(&demo, 0, "before");
    let (user, password) = demo.login(0);
    let (owner, others) = owner(&demo);
    let mut session = demo.connect_to(owner, "imap");
    session.write_all(format!("a LOGIN {user} {password}\r\nb SELECT INBOX\r\n").as_bytes()).unwrap();
    assert!(hear(&mut session, "b OK ").contains("b OK "));
    let process = Pid::from_raw(i32::try_from(demo.pid(owner)).unwrap());
    kill(process, Signal::SIGSTOP).unwrap();
    // Waits until another node has taken over.
    deliver(&demo, others[0], "meanwhile");
    // It lies in the owner's socket when the owner wakes: the first thing that it reads.
    let count = shown(&demo, others[1]).len();
    session.write_all(b"c FETCH 1:* UID\r\nd NOOP\r\n").unwrap();
    kill(process, Signal::SIGCONT).unwrap();
    let heard = hear(&mut session, "d OK ");
    if let Some((answer, _)) = heard.split_once("c OK ") {
        // The session goes on at the new owner: what is there now is told before the answer ends, and unmarked.
        let exists =
            answer.matches(" FETCH (UID ").count() == count || answer.contains(&format!("* {count} EXISTS"));
        assert!(exists && !answer.contains("[ALERT]"), "{count} messages:\n{heard}");
    }
    // And it serves again, through whoever owns the account now.
    deliver(&demo, owner, "after");
    let views: Vec<_> = NODES.iter().map(|node| shown(&demo, *node)).collect();
    assert!(views.iter().all(|view| *view == views[0]), "{views:?}");
    let subjects: Vec<&str> = views[0].iter().map(|(_, subject)| subject.as_str()).collect();
    assert!(subjects.ends_with(&["before", "meanwhile", "after"]), "{subjects:?}");
}
