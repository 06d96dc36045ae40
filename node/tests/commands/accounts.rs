//! Whole accounts: mailboxes, dump, verify, journal, and who there is.

use super::node::{ADA, GRACE, Node, run};

const MESSAGE: &str = "Subject: one\r\n\r\nbody\r\n";

#[test]
fn without_a_node_a_command_asks_to_try_again() {
    let said = run(&["who", "--socket", "/nowhere/admin.sock"], b"").fails(75);
    assert!(said.contains("no server is running"), "{said}");
    let said = run(&["who", "--config", "/nowhere/roost.toml"], b"").fails(78);
    assert!(said.contains("--socket"), "{said}");
}

#[test]
fn a_command_finds_the_socket_in_the_configuration() {
    let node = Node::start();
    let config = node.path("roost.toml");
    run(&["who", "--config", config.to_str().unwrap()], b"").ok();
}

#[test]
fn mailboxes_are_created_listed_renamed_subscribed_and_deleted() {
    let node = Node::start();
    node.roost(&["mailbox", "create", ADA, "Archive/2026", "Entwürfe", "-s"]).ok();
    assert_eq!(node.roost(&["mailbox", "list", ADA]).ok(), "Archive/2026\nEntwürfe\nINBOX\n");
    assert_eq!(node.roost(&["mailbox", "list", ADA, "Arch*"]).ok(), "Archive/2026\n");
    let said = node.roost(&["mailbox", "create", ADA, "Entwürfe"]).fails(73);
    assert!(said.contains("exists"), "{said}");
    node.roost(&["mailbox", "rename", ADA, "Entwürfe", "Drafts"]).ok();
    node.roost(&["mailbox", "rename", ADA, "Entwürfe", "X"]).fails(68);
    node.roost(&["mailbox", "subscribe", ADA, "Drafts"]).ok();
    node.roost(&["mailbox", "unsubscribe", ADA, "Entwürfe"]).ok();
    assert_eq!(node.roost(&["mailbox", "list", ADA, "-s"]).ok(), "Archive/2026\nDrafts\n");
    node.roost(&["mailbox", "delete", ADA, "Drafts"]).ok();
    node.roost(&["mailbox", "delete", ADA, "Drafts"]).fails(68);
    node.roost(&["mailbox", "delete", ADA, "INBOX"]).fails(65);
    node.roost(&["mailbox", "create", ADA, "../etc"]).fails(64);
    node.roost(&["mailbox", "create", ADA]).fails(64);
    // The user may stand last, too.
    node.roost(&["mailbox", "create", "Last", ADA]).ok();
    assert_eq!(node.roost(&["mailbox", "list", "--json", ADA]).json()[2], "Last");
}

#[test]
fn a_user_who_is_not_there_is_67() {
    let node = Node::start();
    for words in [
        &["mailbox", "list", "ghost@example.org"][..],
        &["fetch", "ghost@example.org", "uid", "all"],
        &["search", "ghost@example.org", "all"],
        &["expunge", "ghost@example.org", "all"],
        &["save", "ghost@example.org"],
        &["dump", "ghost@example.org"],
        &["verify", "ghost@example.org"],
        &["journal", "show", "ghost@example.org"],
        &["index", "rebuild", "ghost@example.org"],
        &["explain", "ghost@example.org"],
        &["uid", "show", "ghost@example.org", "INBOX"],
        &["lock", "show", "ghost@example.org"],
        &["kick", "ghost@example.org"],
        &["mailbox", "list", "-u", "*@example.com"],
    ] {
        node.roost(words).fails(67);
    }
}

#[test]
fn status_counts_what_is_there() {
    let node = Node::start();
    node.save(ADA, "INBOX", MESSAGE);
    node.save(ADA, "INBOX", MESSAGE);
    let status = node.roost(&["mailbox", "status", ADA, "messages unseen uidnext", "INBOX"]).ok();
    assert_eq!(status, "INBOX messages=2 unseen=2 uidnext=3\n");
    let all = node.roost(&["mailbox", "status", ADA, "--json"]).json();
    assert_eq!(all["INBOX"]["vsize"], 2 * MESSAGE.len());
    node.roost(&["mailbox", "status", ADA, "all", "Nowhere"]).fails(68);
    let shown = node.roost(&["uid", "show", ADA, "INBOX", "--json"]).json();
    assert_eq!(shown["uids"], "1:2");
    node.roost(&["uid", "show", ADA, "Nowhere"]).fails(68);
}

#[test]
fn a_dump_has_the_shape_of_the_samples() {
    let node = Node::start();
    node.roost(&["mailbox", "create", ADA, "Ä/b"]).ok();
    node.save(ADA, "INBOX", MESSAGE);
    let dump = node.roost(&["dump", ADA]).json();
    for key in ["subscriptions", "pop3_uidl_inbox", "mailboxes"] {
        assert!(dump[key].is_array(), "{key}");
    }
    let inbox =
        dump["mailboxes"].as_array().unwrap().iter().find(|mailbox| mailbox["name"] == "INBOX").unwrap();
    for key in ["uidvalidity", "uidnext", "highestmodseq", "messages", "unseen", "recent"] {
        assert!(inbox[key].is_u64(), "{key} in {inbox}");
    }
    let message = &inbox["msgs"][0];
    assert_eq!((&message["uid"], &message["size"]), (&1.into(), &MESSAGE.len().into()));
    assert_eq!(message["body_sha256"].as_str().unwrap().len(), 64);
    let below =
        dump["mailboxes"].as_array().unwrap().iter().find(|mailbox| mailbox["name"] == "Ä/b").unwrap();
    assert_eq!(below["raw_name"], "&AMQ-/b");
    let all = node.roost(&["dump", "-A"]).json();
    assert!(all[ADA]["mailboxes"].is_array() && all[GRACE]["mailboxes"].is_array(), "{all}");
}

#[test]
fn verify_finds_a_message_that_was_changed_behind_our_back() {
    let node = Node::start();
    node.save(ADA, "INBOX", MESSAGE);
    let sound = node.roost(&["verify", ADA]).ok();
    assert!(sound.contains("sound: 1 messages"), "{sound}");
    node.roost(&["index", "rebuild", ADA]).ok();
    let base = node.roost(&["fetch", ADA, "storageid", "all", "--json"]).json();
    let base = base[0]["storageid"].as_str().unwrap().to_owned();
    let file = find(&node.path("mail"), &base).expect("the message is a file");
    std::fs::write(&file, MESSAGE.replace("body", "BODY")).unwrap();
    let ran = node.roost(&["verify", "--all"]);
    assert_eq!(ran.code, 65, "{ran:?}");
    assert!(ran.stdout.contains("not what was delivered"), "{ran:?}");
    let value: serde_json::Value =
        serde_json::from_str(&node.roost(&["verify", "--all", "--json", "--repair"]).stdout).unwrap();
    assert_eq!(value[ADA]["messages"], 1);
    assert_eq!(value[GRACE]["problems"].as_array().unwrap().len(), 0);
}

fn find(directory: &std::path::Path, base: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(directory).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let hidden = path.file_name().unwrap().to_str().unwrap() == ".roost";
        if path.is_dir() {
            return if hidden { None } else { find(&path, base) };
        }
        path.file_name().unwrap().to_str().unwrap().starts_with(base).then_some(path)
    })
}

#[test]
fn the_journal_is_shown_from_where_one_wants() {
    let node = Node::start();
    node.save(ADA, "INBOX", MESSAGE);
    node.roost(&["flags", "add", ADA, "\\Seen", "all"]).ok();
    let records = node.roost(&["journal", "show", ADA, "--json"]).json();
    let records = records.as_array().unwrap();
    let ops: Vec<_> = records.iter().filter_map(|record| record["op"].as_str()).collect();
    assert!(ops.contains(&"append") && ops.last() == Some(&"flags"), "{ops:?}");
    let last = records.last().unwrap()["position"].as_str().unwrap();
    let rest = node.roost(&["journal", "show", ADA, "--from", last]).ok();
    assert_eq!(rest.lines().count(), 1, "{rest}");
    assert!(rest.starts_with(last) && rest.contains("set=\\Seen"), "{rest}");
    let explained = node.roost(&["explain", ADA, "--json"]).json();
    assert_eq!(explained["owner"], "a1");
    assert_eq!(explained["messages"], 1);
    assert!(!explained["files"].as_array().unwrap().is_empty());
    assert!(node.roost(&["lock", "show"]).ok().contains("owner a1"));
    assert_eq!(node.roost(&["cluster", "status", "--json"]).json()["ready"], true);
    assert_eq!(
        node.roost(&["journal", "show", GRACE]).ok().lines().filter(|line| line.contains("append ")).count(),
        0
    );
}

#[test]
fn all_users_or_those_of_a_pattern_can_be_meant() {
    let node = Node::start();
    node.save(ADA, "INBOX", MESSAGE);
    node.save(GRACE, "INBOX", MESSAGE);
    let found = node.roost(&["search", "-A", "subject", "one"]).ok();
    let users: Vec<_> = found.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(users, [ADA, GRACE]);
    let fetched = node.roost(&["fetch", "-u", "gr*", "uid", "all"]).ok();
    assert_eq!(fetched, format!("user: {GRACE}\nuid: 1\n"));
    let lists = node.roost(&["mailbox", "list", "-A"]).ok();
    assert_eq!(lists, format!("{ADA} INBOX\n{GRACE} INBOX\n"));
    assert_eq!(node.roost(&["mailbox", "list", "-u", ADA]).ok(), "INBOX\n");
}
