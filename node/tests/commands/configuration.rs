//! Configuration and passwords: what needs no node, and what a node reads again.

use super::node::{Node, file, run};

#[test]
fn a_mistake_is_told_with_file_line_and_advice() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(
        directory.path(),
        "roost.toml",
        "[node]\nid = 1\nstat_dir = \"/x\"\n\n[mail]\nformat = \"mbox\"\n",
    );
    let said = run(&["config", "check", &path], b"").fails(78);
    assert!(said.contains(&format!("{path}:3:1: ")) && said.contains("state_dir"), "{said}");
    assert!(said.contains(&format!("{path}:6:")), "all mistakes are told at once: {said}");
    let missing = run(&["config", "check", "/nowhere/roost.toml"], b"").fails(78);
    assert!(missing.contains("/nowhere/roost.toml"), "{missing}");
    let ran = run(&["config", "check", "--json", &path], b"");
    assert_eq!(ran.code, 78);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value["mistakes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_sound_configuration_is_shown_as_it_is_in_effect() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "roost.toml", "[mail]\nroot = \"/srv/elsewhere\"\n");
    assert_eq!(run(&["config", "check", &path], b"").ok(), "");
    let shown = run(&["config", "show", &path], b"").ok();
    assert!(
        shown.contains("root = \"/srv/elsewhere\"") && shown.contains("durability = \"fsync\""),
        "{shown}"
    );
    let reference = run(&["config", "show", "--defaults"], b"").ok();
    assert!(reference.contains("# LOCAL disk") && reference.contains("root = \"/srv/mail\""), "{reference}");
    assert_eq!(run(&["config", "show", &path, "--json"], b"").json()["mail"]["root"], "/srv/elsewhere");
    run(&["config", "show", "/nowhere"], b"").fails(78);
    run(&["serve", "--config", "/nowhere"], b"").fails(78);
}

#[test]
fn a_reload_applies_what_it_can_and_names_the_rest() {
    let node = Node::start();
    assert!(node.roost(&["config", "reload"]).ok().contains("nothing has changed"));
    node.reconfigure("debug", "[limits]\nmailboxes = 77\n");
    let reloaded = node.roost(&["config", "reload", "--json"]).json();
    assert_eq!(reloaded["applied"][0], "log.level");
    assert_eq!(reloaded["needs_restart"][0], "limits.mailboxes");
    node.reconfigure("debug", "[limits]\nmailboxxes = 77\n");
    let said = node.roost(&["config", "reload"]).fails(78);
    assert!(said.contains("mailboxxes") && said.contains("stays as it was"), "{said}");
}

#[test]
fn pw_hashes_with_the_scheme_that_was_asked_for() {
    assert!(run(&["pw", "-p", "secret"], b"").ok().starts_with("{ARGON2ID}$argon2id$"));
    assert!(run(&["pw", "-s", "ssha512"], b"secret\n").ok().starts_with("{SSHA512}"));
    assert_eq!(run(&["pw", "-s", "PLAIN", "-p", "secret"], b"").ok(), "{PLAIN}secret\n");
    assert!(run(&["pw", "-s", "list"], b"").ok().contains("SCRAM-SHA-256"));
    let said = run(&["pw", "-s", "ROT13", "-p", "x"], b"").fails(64);
    assert!(said.contains("ARGON2ID"), "it names the known ones: {said}");
    run(&["pw"], b"").fails(64);
}

#[test]
fn a_ca_is_made_once_and_issues_a_certificate_for_each_node() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca").to_str().unwrap().to_owned();
    let out = directory.path().join("n2").to_str().unwrap().to_owned();
    assert!(
        run(&["cluster", "pki", "issue", &ca, "--site", "a", "--node", "2"], b"")
            .fails(78)
            .contains("pki init")
    );
    run(&["cluster", "pki", "init", &ca], b"").ok();
    assert!(run(&["cluster", "pki", "init", &ca], b"").fails(73).contains("is there already"));
    let issue = ["cluster", "pki", "issue", &ca, "--site", "a", "--node", "2", "--out", &out];
    let more = [&issue[..], &["--address", "10.0.0.2", "--address", "n2.example.org", "--json"]].concat();
    let issued = run(&more, b"").json();
    assert_eq!(issued["certificate"], format!("{out}/a-2.pem"));
    assert!(run(&issue, b"").fails(73).contains("a-2.pem"));
    run(&["cluster", "pki", "issue", &ca, "--site", "a/b", "--node", "2"], b"").fails(64);
    run(&["cluster", "pki", "issue", &ca, "--site", "a", "--node", "0"], b"").fails(64);
    for key in [format!("{ca}/ca.key"), format!("{out}/a-2.key")] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
