//! The examination of a mail tree, by command and at each start.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::node::{Node, ROOST, Ran, eventually, run};

#[test]
fn doctor_says_what_a_directory_is_and_leaves_it_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let said = run(&["doctor", path], b"").ok();
    assert!(said.starts_with(path) && said.contains("a sync takes") && said.contains("are free"), "{said}");
    let value = run(&["doctor", path, "--json"], b"").json();
    assert_eq!((&value["ok"], &value["path"]), (&Value::Bool(true), &Value::from(path)));
    assert!(value["mount"]["type"].is_string() && value["sync_ms"].is_number(), "{value}");
    assert!(std::fs::read_dir(path).unwrap().next().is_none());
}

#[test]
fn doctor_ends_with_1_when_mail_could_be_lost() {
    let ran = run(&["doctor", "/no/such/place"], b"");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("refuse  missing: ") && ran.stdout.contains("What to do: "), "{ran:?}");
    let ran = run(&["doctor", "/no/such/place", "--json"], b"");
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &value["ok"]), (1, &Value::Bool(false)));
    assert_eq!(value["findings"][0]["severity"], "refuse");
    run(&["doctor", "/tmp", "--with", "no/token"], b"").fails(64);
}

#[test]
fn two_nodes_compare_what_they_see() {
    let directory = tempfile::tempdir().unwrap();
    let begin = || -> Child {
        let mut command = Command::new(ROOST);
        command.args(["doctor", "--json", "--with", "token"]).arg(directory.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [begin(), begin()];
    for child in both {
        let value = Ran::from(child.wait_with_output().unwrap()).json();
        let seen = value["seen_after"].as_array().unwrap();
        assert!(seen.len() == 8 && seen.iter().all(|case| case["seconds"].is_number()), "{value}");
    }
    assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none());
    let alone = ["doctor", "--with", "alone", "--wait", "0", directory.path().to_str().unwrap()];
    assert!(run(&alone, b"").fails(75).contains("no other node came"));
    assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none());
}

#[test]
fn a_node_does_not_take_an_empty_directory_for_the_tree_that_it_served() {
    let mut node = Node::start();
    node.save("ada@example.org", "INBOX", "Subject: kept\r\n\r\n");
    assert!(node.stop().success());
    let (mail, aside) = (node.path("mail"), node.path("aside"));
    std::fs::rename(&mail, &aside).unwrap();
    std::fs::create_dir(&mail).unwrap();
    let config = node.path("roost.toml");
    let serve = ["serve", "--config", config.to_str().unwrap()];
    let said = run(&serve, b"").fails(78);
    assert!(said.contains("the volume is not mounted") && said.contains("served-volume first"), "{said}");
    assert!(std::fs::read_dir(&mail).unwrap().next().is_none(), "nothing is written there");
    std::fs::remove_dir(&mail).unwrap();
    std::fs::rename(&aside, &mail).unwrap();
    node.start_again();
    let found = eventually("the message", || Some(node.roost(&["search", "ada@example.org", "ALL"]).ok()));
    assert!(!found.trim().is_empty());
}
