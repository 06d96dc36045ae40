//! The product demonstrates itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::node::{ROOST, WITHIN, eventually, run};

pub(super) struct Demo {
    child: Child,
    value: Value,
}

impl Demo {
    pub(super) fn start(words: &[&str]) -> Self {
        let mut child =
            Command::new(ROOST).args(["demo", "--json"]).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.as_mut().unwrap());
        let mut text = String::new();
        let mut value = None;
        for line in stdout.lines() {
            text.push_str(&line.unwrap());
            value = serde_json::from_str(&text).ok();
            if value.is_some() {
                break;
            }
        }
        Self { child, value: value.unwrap_or_else(|| panic!("no JSON: {text}")) }
    }

    fn node(&self) -> &Value {
        &self.value["sites"][0]["nodes"][0]
    }

    /// Of site a, from 0.
    pub(super) fn pid(&self, node: usize) -> u64 {
        self.value["sites"][0]["nodes"][node]["pid"].as_u64().unwrap()
    }

    pub(super) fn config(&self, node: usize) -> &str {
        self.value["sites"][0]["nodes"][node]["config"].as_str().unwrap()
    }

    pub(super) fn login(&self, account: usize) -> (&str, &str) {
        let account = &self.value["accounts"][account];
        (account["user"].as_str().unwrap(), account["password"].as_str().unwrap())
    }

    fn connect(&self, protocol: &str) -> TcpStream {
        self.connect_to(0, protocol)
    }

    pub(super) fn connect_to(&self, node: usize, protocol: &str) -> TcpStream {
        let address = self.value["sites"][0]["nodes"][node][protocol].as_str();
        let stream =
            TcpStream::connect(address.unwrap_or_else(|| panic!("{protocol} in {}", self.value))).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        stream
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says all lines, and returns everything that came until the other side hung up.
pub(super) fn converse(mut stream: TcpStream, lines: &[&str]) -> String {
    let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(super) fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn mail_flows_and_everything_is_gone_afterwards() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let directory = parent.path().join("demo");
    let mut demo = Demo::start(&["--dir", directory.to_str().unwrap()]);
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("demo.json")).unwrap()).unwrap();
    assert_eq!(file, demo.value);
    assert_eq!(demo.value["sites"].as_array().unwrap().len(), 1);
    assert_eq!(demo.value["sites"][0]["nodes"].as_array().unwrap().len(), 3);
    for key in ["id", "pid", "config", "imap", "imaps", "pop3", "lmtp", "admin_http", "peer"] {
        assert!(!demo.node()[key].is_null(), "{key}");
    }
    let user = demo.value["accounts"][1]["user"].as_str().unwrap().to_owned();
    let password = demo.value["accounts"][1]["password"].as_str().unwrap().to_owned();
    assert_eq!(user, "grace@example.org");
    let delivered = converse(
        demo.connect("lmtp"),
        &[
            "LHLO x",
            "MAIL FROM:<>",
            &format!("RCPT TO:<{user}>"),
            "DATA",
            "Subject: mine\r\n\r\nhello\r\n.",
            "QUIT",
        ],
    );
    assert!(delivered.contains("354 "), "{delivered}");
    let fetched = converse(
        demo.connect("imap"),
        &[&format!("a LOGIN {user} {password}"), "b SELECT INBOX", "c FETCH * BODY[TEXT]", "d LOGOUT"],
    );
    assert!(fetched.contains("* 4 EXISTS") && fetched.contains("hello"), "{fetched}");
    let listed = converse(
        demo.connect("pop3"),
        &[&format!("USER {user}"), &format!("PASS {password}"), "STAT", "QUIT"],
    );
    assert!(listed.contains("+OK 4 "), "{listed}");
    let who = run(&["who", "--config", demo.node()["config"].as_str().unwrap()], b"");
    assert!(who.ok().starts_with("SESSION"));
    let pid = demo.node()["pid"].as_u64().unwrap();
    demo.signal(Signal::SIGTERM);
    let status = eventually("the demo ends", || demo.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(!is_alive(pid), "the node outlived the demo");
    assert!(directory.join("demo.json").exists(), "a directory that was named stays");
}

#[test]
fn a_node_does_not_outlive_a_demo_that_was_killed() {
    let demo = Demo::start(&[]);
    let pid = demo.node()["pid"].as_u64().unwrap();
    let config = std::path::PathBuf::from(demo.node()["config"].as_str().unwrap());
    assert!(is_alive(pid));
    demo.signal(Signal::SIGKILL);
    eventually("the node ends by itself", || (!is_alive(pid)).then_some(()));
    // Nobody was left to clear away.
    std::fs::remove_dir_all(config.parent().unwrap().parent().unwrap()).unwrap();
}

#[test]
fn a_demo_takes_the_directory_of_one_that_was_killed_before_it_was_ready() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let directory = parent.path().join("demo");
    let first = Demo::start(&["--dir", directory.to_str().unwrap()]);
    let pid = first.node()["pid"].as_u64().unwrap();
    first.signal(Signal::SIGKILL);
    eventually("its node ends", || (!is_alive(pid)).then_some(()));
    std::fs::remove_file(directory.join("demo.json")).unwrap();
    let second = Demo::start(&["--dir", directory.to_str().unwrap()]);
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(directory.join("demo.json")).unwrap()).unwrap();
    assert_eq!(file, second.value);
}

#[test]
fn a_temporary_directory_goes_with_the_demo() {
    let mut demo = Demo::start(&[]);
    let config = std::path::PathBuf::from(demo.node()["config"].as_str().unwrap());
    assert!(config.exists());
    demo.signal(Signal::SIGINT);
    eventually("the demo ends", || demo.child.try_wait().unwrap());
    assert!(!config.parent().unwrap().parent().unwrap().exists());
}

#[test]
fn a_directory_with_something_else_in_it_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("precious"), "x").unwrap();
    let said = run(&["demo", "--dir", directory.path().to_str().unwrap()], b"").fails(73);
    assert!(said.contains("--dir"), "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn people_are_told_where_everything_is() {
    let mut child = Command::new(ROOST).arg("demo").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().contains("Ctrl-C") {
            break;
        }
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    // Nobody reads any more, and it stops in order all the same.
    assert_eq!(eventually("the demo ends", || child.try_wait().unwrap()).code(), Some(0));
    let text = lines.join("\n");
    for told in
        ["later version", "IMAP   127.0.0.1:", "self-made", "Hello from the demo", "password", "demo.json"]
    {
        assert!(text.contains(told), "{told} in\n{text}");
    }
}
