//! Total loss: every node's state_dir is gone, the mail tree is there (`locking.md` §10).

use std::path::{Path, PathBuf};

use super::node::{eventually, run};
use super::nodes::{Nodes, user};

const USERS: usize = 4;

fn rebuild(nodes: &Nodes, id: usize) -> super::node::Ran {
    let config = nodes.path(&format!("a{id}/roost.toml"));
    run(&["cluster", "rebuild", "--config", config.to_str().unwrap()], b"")
}

fn mail_of(nodes: &Nodes, id: usize, number: usize) -> String {
    nodes.roost(id, &["fetch", &user(number), "uid text", "all"]).ok()
}

/// The newest segment of an account's journal.
fn newest_segment(home: &Path) -> PathBuf {
    let names = std::fs::read_dir(home.join(".roost/j")).unwrap().map(|entry| entry.unwrap().path());
    names.max().unwrap()
}

#[test]
fn a_site_that_lost_every_state_dir_is_rebuilt_and_all_mail_is_there_under_its_uids() {
    let mut nodes = Nodes::start(USERS);
    for number in 0..USERS {
        for token in ["one", "two", "three"] {
            nodes.save(number % 3 + 1, &user(number), &format!("Subject: {token}\r\n\r\n{token}\r\n"));
        }
    }
    nodes.roost(1, &["expunge", &user(0), "uid", "2"]).ok();
    let before: Vec<String> = (0..USERS).map(|number| mail_of(&nodes, 1, number)).collect();
    assert!(before[0].contains("one") && !before[0].contains("two"), "{}", before[0]);

    let refused = rebuild(&nodes, 1).fails(70);
    assert!(refused.contains("stop this node first"), "{refused}");
    (1..=3).for_each(|id| nodes.stop(id));
    let refused = rebuild(&nodes, 1).fails(70);
    assert!(
        refused.contains("still has its coordination state") && refused.contains("start it"),
        "{refused}"
    );

    for id in 1..=3 {
        std::fs::remove_dir_all(nodes.path(&format!("a{id}/state"))).unwrap();
    }
    // A node that finds itself like that says what to do, and is in the way of a rebuild.
    nodes.begin(2);
    eventually("node 2 says what to do", || nodes.log(2).contains("roost cluster rebuild").then_some(()));
    let refused = rebuild(&nodes, 1).fails(70);
    assert!(refused.contains("node 2 is running"), "{refused}");
    nodes.stop(2);

    // One account's journal is damaged in what was acknowledged.
    let home = nodes.path(&format!("mail/example.org/user{}", USERS - 1));
    let segment = newest_segment(&home);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8].copy_from_slice(&[0xaa; 8]);
    std::fs::write(&segment, bytes).unwrap();

    let told = rebuild(&nodes, 1);
    assert!(told.stdout.contains(&format!("rebuilt from {USERS} accounts")), "{told:?}");
    let skipped = told.fails(65);
    assert!(skipped.contains("skipped") && skipped.contains("mail/example.org/user3"), "{skipped}");
    assert!(skipped.contains("incarnation 2"), "{skipped}");

    (1..=3).for_each(|id| nodes.begin(id));
    (1..=3).for_each(|id| nodes.ready(id));
    for id in 1..=3 {
        for (number, before) in before.iter().enumerate().take(USERS - 1) {
            assert_eq!(mail_of(&nodes, id, number), *before, "user {number} at node {id}");
        }
        assert_eq!(nodes.status(id)["incarnation"], 2);
    }
    let lost = nodes.roost(1, &["fetch", &user(USERS - 1), "uid", "all"]);
    assert_ne!(lost.code, 0, "it is not served as if nothing had been: {lost:?}");
    nodes.save(2, &user(0), "Subject: four\r\n\r\nfour\r\n");
    let after = mail_of(&nodes, 3, 0);
    assert!(after.starts_with(before[0].trim_end_matches('\u{c}')) && after.contains("uid: 4"), "{after}");
}
