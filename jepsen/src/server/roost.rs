//! Roost: its configuration, its command line, its readiness.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::{Server, unprivileged};

/// What a node wants to be told by who is not on its host.
pub(crate) const TOKEN: &str = "stranger";

const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// `ROOST_BIN`, or the binary that cargo built beside us.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("ROOST_BIN") {
        let path = PathBuf::from(named);
        return path.canonicalize().with_context(|| format!("ROOST_BIN names {}", path.display()));
    }
    let ours = std::env::current_exe()?;
    // target/debug/jepsen, or target/debug/deps/some_test-0123.
    let beside = ours.ancestors().skip(1).take(2).map(|dir| dir.join("roost"));
    let profiles = ours
        .ancestors()
        .skip(2)
        .take(2)
        .flat_map(|target| ["release", "debug"].map(|profile| target.join(profile).join("roost")));
    let mut found = beside.chain(profiles).filter(|path| path.is_file());
    found.next().context("no roost binary: build it (cargo build -p roost), or name it in ROOST_BIN")
}

pub(super) fn configure(server: &Server) -> anyhow::Result<()> {
    let users = server.write_users()?;
    let ports = server.ports();
    let run_as = if unprivileged()?.is_some() { "run_as = \"nobody\"\n" } else { "" };
    let dir = server.dir().display();
    let config = format!(
        "[node]\nid = 1\nname = \"a1\"\nstate_dir = \"{dir}/state\"\nadmin_socket = \"{dir}/admin.sock\"\n{run_as}\n\
         [mail]\nroot = \"{mail}\"\nformat = \"maildir\"\naccount_dir = \"{{domain}}/{{local}}\"\nobserve = \"1s\"\n\n\
         [listen]\nimap = [\"{imap}\"]\nimaps = [\"{imaps}\"]\npop3 = [\"{pop3}\"]\nlmtp = [\"{lmtp}\"]\n\
         admin_http = [\"{http}\"]\npeer = \"{peer}\"\n\n\
         [auth]\n[[auth.passdb]]\ndriver = \"passwd-file\"\npath = \"{users}\"\n\n\
         [cluster]\nsite = \"a\"\n[[cluster.member]]\nid = 1\npeer = \"{peer}\"\n\n[limits]\n{limits}",
        mail = server.mail_root().display(),
        imap = ports.imap,
        imaps = ports.imaps,
        pop3 = ports.pop3,
        lmtp = ports.lmtp,
        http = ports.admin_http,
        peer = ports.peer,
        users = users.display(),
        limits = server.setup().limits,
    );
    server.write("roost.toml", &config)?;
    Ok(())
}

pub(super) fn command(server: &Server) -> anyhow::Result<(String, Vec<String>)> {
    let program = binary()?.display().to_string();
    let config = server.config_path().display().to_string();
    Ok((program, vec!["serve".to_owned(), "--config".to_owned(), config]))
}

/// Whether `/readyz` says 200.
pub(crate) fn is_ready(address: SocketAddr) -> bool {
    http_get(address, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Head and body of an answer.
pub(super) fn http_get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_PATIENCE)?;
    stream.set_read_timeout(Some(PROBE_PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
