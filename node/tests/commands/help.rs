//! Every command of the interface that one node serves is there, says what it does, and refuses nonsense with 64.

use super::node::run;

const COMMANDS: &[&[&str]] = &[
    &["demo"],
    &["serve"],
    &["config", "check"],
    &["config", "show"],
    &["config", "reload"],
    &["doctor"],
    &["pw"],
    &["auth", "test"],
    &["who"],
    &["kick"],
    &["mailbox", "list"],
    &["mailbox", "status"],
    &["mailbox", "create"],
    &["mailbox", "delete"],
    &["mailbox", "rename"],
    &["mailbox", "subscribe"],
    &["mailbox", "unsubscribe"],
    &["fetch"],
    &["search"],
    &["expunge"],
    &["move"],
    &["flags", "add"],
    &["flags", "remove"],
    &["flags", "replace"],
    &["save"],
    &["dump"],
    &["verify"],
    &["journal", "show"],
    &["index", "rebuild"],
    &["stats"],
    &["explain"],
    &["lock", "show"],
    &["uid", "show"],
    &["cluster", "status"],
    &["cluster", "add"],
    &["cluster", "remove"],
    &["cluster", "drain"],
    &["cluster", "undrain"],
    &["cluster", "transfer-leader"],
    &["cluster", "move"],
    &["cluster", "declare-dead"],
    &["cluster", "rebuild"],
    &["completions"],
    &["man"],
];

#[test]
fn every_command_says_what_it_does() {
    for command in COMMANDS {
        let help = run(&[command, &["--help"][..]].concat(), b"").ok();
        let usage = help.lines().find(|line| line.starts_with("Usage: ")).unwrap_or_else(|| panic!("{help}"));
        assert!(usage.starts_with(&format!("Usage: roost {}", command.join(" "))), "{usage}");
        assert!(!help.starts_with("Usage"), "{command:?} has a sentence: {help}");
        assert!(help.contains("--json"), "{help}");
    }
}

#[test]
fn the_first_page_names_every_command_and_no_other() {
    let help = run(&["--help"], b"").ok();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let shown: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let mut expected: Vec<_> = COMMANDS.iter().map(|command| command[0]).collect();
    expected.dedup();
    expected.push("help");
    assert_eq!(shown, expected);
    assert!(help.contains("75 try again"), "exit codes are told: {help}");
}

#[test]
fn nonsense_is_a_usage_error() {
    for words in [
        &["nonsense"][..],
        &[],
        &["who", "--nonsense"],
        &["config"],
        &["config", "check"],
        &["fetch"],
        &["journal", "show", "ada", "--from", "x"],
        &["completions", "nonsense"],
        &["dump", "ada", "bob"],
        &["search", "-A", "-u", "x", "all"],
    ] {
        run(words, b"").fails(64);
    }
}

#[test]
fn version_and_completions_come_without_a_node() {
    assert!(run(&["--version"], b"").ok().starts_with("roost "));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell], b"").ok().contains("mailbox"), "{shell}");
    }
}

#[test]
fn a_man_page_is_written_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    run(&["man", directory.path().to_str().unwrap()], b"").ok();
    for command in COMMANDS {
        let page = directory.path().join(format!("roost-{}.1", command.join("-")));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert!(text.contains(".TH"), "{text}");
    }
    run(&["man", "/proc/nowhere"], b"").fails(73);
}
