//! What the demo writes before anything runs: users, certificates and each node's configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use auth::Scheme;
use nfs_compat::{DiskFs, Fs, publish};
use rpc::{PeerIdentity, pki};

use super::ports::Ports;
use super::{Account, cannot_create};
use crate::cli::exit::{Exit, Failure};
use crate::privileges::{self, RunAs};

/// Started by root, mail belongs to this user.
const RUN_AS: &str = "nobody";
const USERS: [&str; 2] = ["ada@example.org", "grace@example.org"];
const PASSWORD_CHARACTERS: usize = 16;
const SOCKET: &str = "admin.sock";
const PKI: &str = "pki";
/// A node that is killed is replaced after this; short, since people watch.
const LEASE_S: u8 = 5;
/// Of letters and digits that cannot be taken for others.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// A socket's path has no more (the system's limit, and the zero at its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Nodes of site a, over one mail tree.
pub(super) const NODES: u8 = 3;

/// What all nodes share, and each node's own.
pub(super) struct Layout {
    pub(super) accounts: Vec<Account>,
    pub(super) nodes: Vec<NodeLayout>,
    ports: Option<Ports>,
}

/// A node's files and addresses.
pub(super) struct NodeLayout {
    pub(super) id: u8,
    pub(super) config: PathBuf,
    pub(super) log: PathBuf,
    pub(super) imap: SocketAddr,
    pub(super) imaps: SocketAddr,
    pub(super) pop3: SocketAddr,
    pub(super) lmtp: SocketAddr,
    pub(super) admin_http: SocketAddr,
    pub(super) peer: SocketAddr,
}

impl Layout {
    pub(super) fn write(directory: &Path, mut ports: Ports) -> Result<Self, Failure> {
        let run_as = privileges::run_as(Some(RUN_AS));
        let run_as = run_as.map_err(|error| Failure::new(Exit::NotPermitted, format!("{error:#}")))?;
        let fs = DiskFs::new();
        fs.create_dir_all(&directory.join("a").join("mail")).map_err(cannot_create)?;
        let accounts = USERS.map(|user| Account { user: user.to_owned(), password: password() }).to_vec();
        let users = users(&accounts)?;
        publish::publish(&fs, directory, "users", users.as_bytes()).map_err(cannot_create)?;
        write_certificates(&fs, directory)?;
        let nodes: Result<Vec<_>, _> =
            (1..=NODES).map(|id| NodeLayout::prepare(&fs, directory, id, &mut ports)).collect();
        let nodes = nodes?;
        for node in &nodes {
            let text = node.config_text(directory, &nodes, run_as.is_some());
            publish::publish(&fs, &node.directory(directory), "roost.toml", text.as_bytes())
                .map_err(cannot_create)?;
        }
        if let Some(run_as) = run_as {
            hand_over(run_as, &fs, directory)?;
        }
        Ok(Self { accounts, nodes, ports: Some(ports) })
    }

    /// The nodes are about to bind them themselves.
    pub(super) fn release_ports(&mut self) {
        self.ports = None;
    }
}

impl NodeLayout {
    fn prepare(fs: &dyn Fs, directory: &Path, id: u8, ports: &mut Ports) -> Result<Self, Failure> {
        let node = directory.join(format!("a{id}"));
        fs.create_dir_all(&node.join("state")).map_err(cannot_create)?;
        let socket = node.join(SOCKET);
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let message = format!("{} is too long for a socket: name a shorter --dir", socket.display());
            return Err(Failure::new(Exit::CannotCreate, message));
        }
        let mut take = |liked: u16, step: u16| ports.take(liked + step * (u16::from(id) - 1));
        Ok(Self {
            id,
            config: node.join("roost.toml"),
            log: node.join("log"),
            imap: take(11143, 100)?,
            imaps: take(11993, 100)?,
            pop3: take(11110, 100)?,
            lmtp: take(11024, 100)?,
            admin_http: take(11080, 100)?,
            peer: take(17001, 1)?,
        })
    }

    fn directory(&self, demo: &Path) -> PathBuf {
        demo.join(format!("a{}", self.id))
    }

    fn config_text(&self, demo: &Path, members: &[Self], as_root: bool) -> String {
        let quoted = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
        let run_as = if as_root { format!("run_as = \"{RUN_AS}\"\n") } else { String::new() };
        let node = self.directory(demo);
        let pki = demo.join(PKI);
        let member =
            |member: &Self| format!("[[cluster.member]]\nid = {}\npeer = \"{}\"\n", member.id, member.peer);
        let members: String = members.iter().map(member).collect();
        format!(
            "# Written by roost demo.\n\n[node]\nid = {id}\nname = \"a{id}\"\nstate_dir = {state}\nadmin_socket = \
             {socket}\n{run_as}\n[mail]\nroot = {root}\nformat = \"maildir\"\n\n[listen]\nimap = [\"{imap}\"]\n\
             imaps = [\"{imaps}\"]\npop3 = [\"{pop3}\"]\nlmtp = [\"{lmtp}\"]\nadmin_http = [\"{http}\"]\npeer = \
             \"{peer}\"\n\n[auth]\nmechanisms = [\"PLAIN\", \"LOGIN\", \"SCRAM-SHA-256\"]\n\n[[auth.passdb]]\n\
             driver = \"passwd-file\"\npath = {users}\n\n[cluster]\nsite = \"a\"\nlease = \"{LEASE_S}s\"\n\n\
             [cluster.tls]\nca = {ca}\ncertificate = {certificate}\nkey = {key}\n\n{members}",
            id = self.id,
            state = quoted(node.join("state")),
            socket = quoted(node.join(SOCKET)),
            root = quoted(demo.join("a").join("mail")),
            imap = self.imap,
            imaps = self.imaps,
            pop3 = self.pop3,
            lmtp = self.lmtp,
            http = self.admin_http,
            peer = self.peer,
            users = quoted(demo.join("users")),
            ca = quoted(pki.join("ca.pem")),
            certificate = quoted(pki.join(format!("a-{}.pem", self.id))),
            key = quoted(pki.join(format!("a-{}.key", self.id))),
        )
    }
}

/// A CA of the demo's own, and what it says of each node. All are made anew by every demo.
fn write_certificates(fs: &dyn Fs, demo: &Path) -> Result<(), Failure> {
    let directory = demo.join(PKI);
    fs.create_dir_all(&directory).map_err(cannot_create)?;
    let failed = |error: pki::PkiError| Failure::new(Exit::Software, error.to_string());
    let write = |name: String, text: &str| {
        publish::publish(fs, &directory, &name, text.as_bytes()).map(drop).map_err(cannot_create)
    };
    let ca = pki::make_ca().map_err(failed)?;
    write("ca.pem".to_owned(), &ca.certificate)?;
    for id in 1..=NODES {
        let identity = PeerIdentity { site: "a".to_owned(), node: id };
        let pair = pki::issue(&ca, &identity, &["127.0.0.1".to_owned()]).map_err(failed)?;
        write(format!("a-{id}.key"), &pair.key)?;
        write(format!("a-{id}.pem"), &pair.certificate)?;
    }
    Ok(())
}

fn password() -> String {
    let mut random = [0_u8; PASSWORD_CHARACTERS];
    rand::fill(&mut random);
    random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

/// In Dovecot's syntax, in the one scheme that serves both PLAIN and SCRAM-SHA-256.
fn users(accounts: &[Account]) -> Result<String, Failure> {
    let mut text = String::new();
    for Account { user, password } in accounts {
        let hash = auth::scheme::hash(Scheme::ScramSha256, password);
        let hash = hash.map_err(|error| Failure::new(Exit::Software, error.to_string()))?;
        text.push_str(&format!("{user}:{hash}::::::\n"));
    }
    Ok(text)
}

/// Gives all that is root's to the user whom the node becomes.
fn hand_over(run_as: RunAs, fs: &dyn Fs, directory: &Path) -> Result<(), Failure> {
    let failed = |error: anyhow::Error| Failure::new(Exit::NotPermitted, format!("{error:#}"));
    run_as.give(directory).map_err(failed)?;
    for entry in fs.read_dir(directory)? {
        let path = directory.join(&entry.name);
        if entry.kind == nfs_compat::EntryKind::Directory {
            hand_over(run_as, fs, &path)?;
        } else {
            run_as.give(&path).map_err(failed)?;
        }
    }
    Ok(())
}
