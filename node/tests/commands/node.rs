//! A node of one test's own, and the commands that talk to it.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const ROOST: &str = env!("CARGO_BIN_EXE_roost");
pub(crate) const ADA: &str = "ada@example.org";
pub(crate) const GRACE: &str = "grace@example.org";
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// Waits for something to become true.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {WITHIN:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs `roost` with these words and this input.
pub(crate) fn run(words: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(ROOST)
        .args(words)
        .env_remove("ROOST_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that wants no input may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(input);
    Ran::from(child.wait_with_output().unwrap())
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Standard output of a command that did what it was asked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// What was said by a command that ended with this code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.stderr.is_empty(), "it says why: {self:?}");
        self.stderr
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// A running node with two users. It stops when this goes.
pub(crate) struct Node {
    directory: TempDir,
    child: Child,
}

impl Node {
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("roost-test").tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let at = directory.path();
        std::fs::write(
            at.join("users"),
            format!("{ADA}:{{PLAIN}}secret::::::\n{GRACE}:{{PLAIN}}hopper::::::\n"),
        )
        .unwrap();
        // Started as root, a node becomes somebody else, to whom the sockets' directory must belong.
        let sockets = at.join("run");
        std::fs::create_dir(&sockets).unwrap();
        std::fs::set_permissions(&sockets, std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::write(at.join("roost.toml"), Self::config("info")).unwrap();
        let child = Self::serve(at);
        let mut node = Self { directory, child };
        node.wait_until_ready();
        node
    }

    /// Serves again after a stop, with a log of its own.
    pub(crate) fn start_again(&mut self) {
        self.child = Self::serve(self.directory.path());
        self.wait_until_ready();
    }

    fn serve(at: &Path) -> Child {
        Command::new(ROOST)
            .args(["serve", "--until-stdin-ends", "--config"])
            .arg(at.join("roost.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(at.join("log")).unwrap())
            .spawn()
            .unwrap()
    }

    fn wait_until_ready(&mut self) {
        eventually("ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the node ended: {status}\n{}", self.log());
            }
            self.log().contains("ready").then_some(())
        });
    }

    fn config(level: &str) -> String {
        let run_as = if nix::unistd::geteuid().is_root() { "run_as = \"nobody\"\n" } else { "" };
        format!(
            "[node]\nid = 1\nname = \"a1\"\nstate_dir = \"state\"\nadmin_socket = \"run/admin\"\n{run_as}[mail]\n\
             root = \"mail\"\n[listen]\nimap = [\"unix:run/imap\"]\nlmtp = [\"unix:run/lmtp\"]\npop3 = [\"unix:run/pop3\"]\n\
             [quirks]\npop3_uidl_format = \"%v.%u\"\n[auth]\n\
             [[auth.passdb]]\ndriver = \"passwd-file\"\npath = \"users\"\n[log]\nlevel = \"{level}\"\n"
        )
    }

    pub(crate) fn reconfigure(&self, level: &str, more: &str) {
        std::fs::write(self.path("roost.toml"), Self::config(level) + more).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Runs a command that talks to this node.
    pub(crate) fn roost(&self, words: &[&str]) -> Ran {
        self.roost_with(words, b"")
    }

    pub(crate) fn roost_with(&self, words: &[&str], input: &[u8]) -> Ran {
        let socket = self.path("run/admin");
        let mut all = vec!["--socket", socket.to_str().unwrap()];
        all.extend(words);
        run(&all, input)
    }

    /// Stores a message and returns its UID.
    #[track_caller]
    pub(crate) fn save(&self, user: &str, mailbox: &str, message: &str) -> u64 {
        let saved = self.roost_with(&["save", user, "-m", mailbox, "--json"], message.as_bytes()).json();
        saved["uid"].as_u64().unwrap()
    }

    /// A conversation over a UNIX socket of the node.
    pub(crate) fn talk(&self, protocol: &str) -> Talk {
        let stream = UnixStream::connect(self.path("run").join(protocol)).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        Talk::new(stream)
    }

    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        drop(self.child.stdin.take());
        eventually("stopped", || self.child.try_wait().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the node's log:\n{}", self.log());
        }
    }
}

pub(crate) struct Talk {
    stream: UnixStream,
    heard: String,
}

impl Talk {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, heard: String::new() }
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// Reads until this has come.
    #[track_caller]
    pub(crate) fn hear(&mut self, wanted: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            if let Some(at) = self.heard.find(wanted) {
                let rest = self.heard.split_off(at + wanted.len());
                return std::mem::replace(&mut self.heard, rest);
            }
            let count =
                self.stream.read(&mut bytes).unwrap_or_else(|error| panic!("{error}; heard {}", self.heard));
            assert!(count > 0, "hung up before {wanted:?}; heard {}", self.heard);
            self.heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str, wanted: &str) -> String {
        self.say(line);
        self.hear(wanted)
    }
}

pub(crate) fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
