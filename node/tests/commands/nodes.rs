//! A site of one test's own: real processes over one mail tree, started, killed and started again one by one.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::node::{ROOST, Ran, Talk, WITHIN, eventually, run};

pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// Nodes of a site. They stop when this goes.
pub(crate) struct Nodes {
    directory: TempDir,
    /// Peer address of each, by id from 1.
    peers: Vec<String>,
    running: Vec<Option<Child>>,
}

pub(crate) fn user(number: usize) -> String {
    format!("user{number}@example.org")
}

impl Nodes {
    /// A site whose configurations know `known` nodes; the first `members` of them found it.
    pub(crate) fn prepare(members: usize, known: usize, users: usize) -> Self {
        let directory = tempfile::Builder::new().prefix("roost-site").tempdir().unwrap();
        let at = directory.path();
        open_to_all(at);
        let line = |number| format!("{}:{{PLAIN}}secret::::::\n", user(number));
        std::fs::write(at.join("users"), (0..users).map(line).collect::<String>()).unwrap();
        // Held until all are known, so that no two are the same.
        let held: Vec<_> = (0..known).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let peers: Vec<String> = held.iter().map(|held| held.local_addr().unwrap().to_string()).collect();
        let pki = at.join("pki");
        let pki = pki.to_str().unwrap();
        run(&["cluster", "pki", "init", pki], b"").ok();
        open_to_all(Path::new(pki));
        let nodes = Self { running: (0..known).map(|_| None).collect(), peers, directory };
        for id in 1..=known {
            nodes.issue(id);
            let of = if id <= members { members } else { known };
            nodes.configure(id, of, "");
        }
        for path in std::fs::read_dir(pki).unwrap() {
            let path = path.unwrap().path();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        nodes
    }

    /// A site of three that serves.
    pub(crate) fn start(users: usize) -> Self {
        let mut nodes = Self::prepare(3, 3, users);
        (1..=3).for_each(|id| nodes.begin(id));
        (1..=3).for_each(|id| nodes.ready(id));
        nodes
    }

    /// A certificate for a node, in the place of any that it has.
    pub(crate) fn issue(&self, id: usize) {
        let pki = self.path("pki");
        for end in ["pem", "key"] {
            // There is none the first time.
            let _ = std::fs::remove_file(pki.join(format!("a-{id}.{end}")));
        }
        let words = [
            "cluster",
            "pki",
            "issue",
            pki.to_str().unwrap(),
            "--site",
            "a",
            "--address",
            "127.0.0.1",
            "--node",
        ];
        run(&[&words[..], &[&id.to_string()]].concat(), b"").ok();
        for end in ["pem", "key"] {
            let all = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(pki.join(format!("a-{id}.{end}")), all).unwrap();
        }
    }

    /// Writes a node's configuration with so many members.
    pub(crate) fn configure(&self, id: usize, members: usize, more: &str) {
        let at = self.node(id);
        for directory in [&at, &at.join("run")] {
            std::fs::create_dir_all(directory).unwrap();
            open_to_all(directory);
        }
        let run_as = if nix::unistd::geteuid().is_root() { "run_as = \"nobody\"\n" } else { "" };
        let member =
            |(id, peer): (usize, &String)| format!("[[cluster.member]]\nid = {id}\npeer = \"{peer}\"\n");
        let members: String = (1..).zip(&self.peers).take(members).map(member).collect();
        let text = format!(
            "[node]\nid = {id}\nname = \"a{id}\"\nstate_dir = \"state\"\nadmin_socket = \"run/admin\"\n{run_as}[mail]\n\
             root = \"../mail\"\n[listen]\nimap = [\"unix:run/imap\"]\nlmtp = [\"unix:run/lmtp\"]\n\
             admin_http = [\"127.0.0.1:0\"]\npeer = \"{peer}\"\n[auth]\n[[auth.passdb]]\ndriver = \"passwd-file\"\n\
             path = \"../users\"\n[limits]\ndrain_timeout = \"2s\"\n[cluster]\nsite = \"a\"\nlease = \"{lease}s\"\n\
             [cluster.tls]\nca = \"../pki/ca.pem\"\ncertificate = \"../pki/a-{id}.pem\"\nkey = \"../pki/a-{id}.key\"\n\
             {members}{more}",
            peer = self.peers[id - 1],
            lease = LEASE.as_secs(),
        );
        std::fs::write(at.join("roost.toml"), text).unwrap();
    }

    fn node(&self, id: usize) -> PathBuf {
        self.path(&format!("a{id}"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn peer(&self, id: usize) -> &str {
        &self.peers[id - 1]
    }

    pub(crate) fn pid(&self, id: usize) -> u32 {
        self.running[id - 1].as_ref().unwrap().id()
    }

    pub(crate) fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.node(id).join("log")).unwrap_or_default()
    }

    /// Starts a process. It need not serve yet.
    pub(crate) fn begin(&mut self, id: usize) {
        let log = std::fs::File::create(self.node(id).join("log")).unwrap();
        let child = Command::new(ROOST)
            .args(["serve", "--until-stdin-ends", "--config"])
            .arg(self.node(id).join("roost.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running[id - 1] = Some(child);
    }

    #[track_caller]
    pub(crate) fn ready(&mut self, id: usize) {
        eventually(&format!("node {id} is ready"), || {
            let ended = self.running[id - 1].as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "node {id} ended: {ended:?}\n{}", self.log(id));
            self.log(id).contains(" ready ").then_some(())
        });
    }

    pub(crate) fn kill(&mut self, id: usize) {
        let mut child = self.running[id - 1].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn stop(&mut self, id: usize) {
        let mut child = self.running[id - 1].take().unwrap();
        drop(child.stdin.take());
        eventually("stopped", || child.try_wait().unwrap());
    }

    /// Runs a command at a node.
    pub(crate) fn roost(&self, id: usize, words: &[&str]) -> Ran {
        self.roost_with(id, words, b"")
    }

    pub(crate) fn roost_with(&self, id: usize, words: &[&str], input: &[u8]) -> Ran {
        let socket = self.node(id).join("run/admin");
        run(&[&["--socket", socket.to_str().unwrap()], words].concat(), input)
    }

    pub(crate) fn status(&self, id: usize) -> Value {
        self.roost(id, &["cluster", "status", "--json"]).json()
    }

    /// The node that leads.
    pub(crate) fn leader(&self, id: usize) -> usize {
        eventually("a leader", || {
            let text = self.roost(id, &["cluster", "status", "--json"]);
            let status: Value = serde_json::from_str(&text.stdout).ok()?;
            usize::try_from(status["leader"].as_u64()?).ok()
        })
    }

    /// The node that owns a user's account, once there is one.
    pub(crate) fn owner(&self, id: usize, user: &str) -> usize {
        eventually(&format!("an owner of {user}"), || {
            let shown = self.roost(id, &["lock", "show", user, "--json"]).json();
            usize::try_from(shown[0]["owner_id"].as_u64()?).ok()
        })
    }

    pub(crate) fn save(&self, id: usize, user: &str, message: &str) {
        self.roost_with(id, &["save", user], message.as_bytes()).ok();
    }

    /// A conversation over a UNIX socket of a node; `None`: it does not accept.
    pub(crate) fn talk(&self, id: usize, protocol: &str) -> Option<Talk> {
        let stream = UnixStream::connect(self.node(id).join("run").join(protocol)).ok()?;
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        Some(Talk::new(stream))
    }

    /// A page of admin_http, with its status line.
    pub(crate) fn page(&self, id: usize, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let log = self.log(id);
        let line = log.lines().find(|line| line.contains("protocol=admin_http")).unwrap();
        let address = line.split("address=").nth(1).unwrap().trim();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            drop(child.stdin.take());
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        for child in self.running.iter_mut().flatten() {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for id in 1..=self.peers.len() {
                eprintln!("the log of node {id}:\n{}", self.log(id));
            }
        }
    }
}
