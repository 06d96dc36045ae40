//! What the demo writes before anything runs: users and a node's configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use auth::Scheme;
use nfs_compat::{DiskFs, Fs, publish};

use super::ports::Ports;
use super::{Account, cannot_create};
use crate::cli::exit::{Exit, Failure};
use crate::privileges::{self, RunAs};

/// Started by root, mail belongs to this user.
const RUN_AS: &str = "nobody";
const USERS: [&str; 2] = ["ada@example.org", "grace@example.org"];
const PASSWORD_CHARACTERS: usize = 16;
/// Of letters and digits that cannot be taken for others.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// A socket's path has no more (the system's limit, and the zero at its end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A node's files and addresses.
pub(super) struct Layout {
    pub(super) config: PathBuf,
    pub(super) log: PathBuf,
    pub(super) imap: SocketAddr,
    pub(super) imaps: SocketAddr,
    pub(super) pop3: SocketAddr,
    pub(super) lmtp: SocketAddr,
    pub(super) admin_http: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) accounts: Vec<Account>,
    ports: Option<Ports>,
}

impl Layout {
    pub(super) fn write(directory: &Path, mut ports: Ports) -> Result<Self, Failure> {
        let run_as = privileges::run_as(Some(RUN_AS));
        let run_as = run_as.map_err(|error| Failure::new(Exit::NotPermitted, format!("{error:#}")))?;
        let fs = DiskFs::new();
        let node = directory.join("a1");
        let tree = directory.join("a").join("mail");
        for made in [&node, &node.join("state"), &tree] {
            fs.create_dir_all(made).map_err(cannot_create)?;
        }
        let socket = node.join("admin.sock");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let message = format!("{} is too long for a socket: name a shorter --dir", socket.display());
            return Err(Failure::new(Exit::CannotCreate, message));
        }
        let accounts = USERS.map(|user| Account { user: user.to_owned(), password: password() }).to_vec();
        let users = users(&accounts)?;
        publish::publish(&fs, directory, "users", users.as_bytes()).map_err(cannot_create)?;
        let layout = Self {
            config: node.join("roost.toml"),
            log: node.join("log"),
            imap: ports.take(11143)?,
            imaps: ports.take(11993)?,
            pop3: ports.take(11110)?,
            lmtp: ports.take(11024)?,
            admin_http: ports.take(11080)?,
            peer: ports.take(17001)?,
            accounts,
            ports: Some(ports),
        };
        let text = layout.config_text(directory, &node, &tree, &socket, run_as.is_some());
        publish::publish(&fs, &node, "roost.toml", text.as_bytes()).map_err(cannot_create)?;
        if let Some(run_as) = run_as {
            hand_over(run_as, &fs, directory)?;
        }
        Ok(layout)
    }

    /// The node is about to bind them itself.
    pub(super) fn release_ports(&mut self) {
        self.ports = None;
    }

    fn config_text(
        &self,
        directory: &Path,
        node: &Path,
        tree: &Path,
        socket: &Path,
        as_root: bool,
    ) -> String {
        let quoted = |path: &Path| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
        let run_as = if as_root { format!("run_as = \"{RUN_AS}\"\n") } else { String::new() };
        format!(
            "# Written by roost demo.\n\n[node]\nid = 1\nname = \"a1\"\nstate_dir = {state}\nadmin_socket = {socket}\n\
             {run_as}\n[mail]\nroot = {root}\nformat = \"maildir\"\n\n[listen]\nimap = [\"{imap}\"]\nimaps = \
             [\"{imaps}\"]\npop3 = [\"{pop3}\"]\nlmtp = [\"{lmtp}\"]\nadmin_http = [\"{http}\"]\npeer = \"{peer}\"\n\n\
             [auth]\nmechanisms = [\"PLAIN\", \"LOGIN\", \"SCRAM-SHA-256\"]\n\n[[auth.passdb]]\ndriver = \
             \"passwd-file\"\npath = {users}\n\n[cluster]\nsite = \"a\"\n",
            state = quoted(&node.join("state")),
            socket = quoted(socket),
            root = quoted(tree),
            imap = self.imap,
            imaps = self.imaps,
            pop3 = self.pop3,
            lmtp = self.lmtp,
            http = self.admin_http,
            peer = self.peer,
            users = quoted(&directory.join("users")),
        )
    }
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
