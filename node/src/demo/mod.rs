//! `roost demo`: the product running on loopback, as real processes, with two users and mail flowing.
//!
//! Invariants
//! - No node outlives the demo, however it ends: each holds the other end of a pipe, and stops when that closes.
//! - A directory that the demo made without being asked is gone afterwards, unless it is to be kept.
//! - With `--json`, standard output is the content of demo.json, once mail has been delivered and read back.

mod layout;
mod mail;
mod node;
mod ports;

use std::path::{Path, PathBuf};

use clap::Args;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use nfs_compat::{DiskFs, Fs};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit::{Exit, Failure, complain, say};
use layout::Layout;
use node::Node;
use ports::Ports;

/// Run the product on loopback: real processes, two users, a few messages in by LMTP and out by IMAP and POP3
///
/// Stays up until Ctrl-C, which stops everything. DIR/demo.json has the addresses, the users and their passwords.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where everything goes: empty, missing, or of an earlier demo; stays afterwards
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep the directory afterwards
    #[arg(long)]
    keep: bool,
}

/// Each finds a port taken that was free a moment before.
const STARTS_MAX: usize = 5;
/// Written last: who waits for the demo waits for this file.
const DEMO_JSON: &str = "demo.json";
/// Written first, so that a demo that was killed at any moment leaves a directory that the next one takes.
const MARK: &str = ".roost-demo";

/// The content of demo.json.
#[derive(Clone, Debug, Serialize)]
struct Demo {
    sites: Vec<Site>,
    accounts: Vec<Account>,
}

#[derive(Clone, Debug, Serialize)]
struct Site {
    name: &'static str,
    nodes: Vec<node::Addresses>,
}

#[derive(Clone, Debug, Serialize)]
struct Account {
    user: String,
    password: String,
}

pub(crate) fn run(args: &DemoArgs, json: bool) -> Result<Exit, Failure> {
    let directory = Directory::prepare(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(demo(&directory, json));
    drop(runtime);
    outcome
}

async fn demo(directory: &Directory, json: bool) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    if !json {
        say("Starting three nodes of site a over one mail tree. Site b comes with a later version.");
    }
    let (layout, mut nodes) = tokio::select! {
        started = start(directory) => started?,
        () = stop.wait() => return Ok(Exit::Ok),
    };
    let ended = tokio::select! {
        failure = stay_up(&layout, &mut nodes, directory, json) => Err(failure),
        () = stop.wait() => Ok(Exit::Ok),
    };
    if !json {
        say("\nStopping.");
    }
    stop_all(nodes).await;
    ended
}

/// Waits until the nodes serve.
///
/// A port that was free may be somebody else's by the time that a node binds it: then others are tried.
async fn start(directory: &Directory) -> Result<(Layout, Vec<Node>), Failure> {
    let mut ports = Ports::liked();
    let mut starts = 0;
    loop {
        starts += 1;
        let mut layout = Layout::write(&directory.path, ports)?;
        layout.release_ports();
        let nodes: Result<Vec<Node>, Failure> = layout.nodes.iter().map(Node::start).collect();
        let mut nodes = nodes?;
        let ready = futures::future::try_join_all(nodes.iter_mut().map(Node::wait_until_ready)).await;
        match ready {
            Err(_) if starts < STARTS_MAX && nodes.iter().any(Node::found_a_port_taken) => {
                stop_all(nodes).await;
                ports = Ports::any();
            }
            other => return other.map(|_| (layout, nodes)),
        }
    }
}

/// One after the other: each hands over what it owns. The last one has nobody to, and no majority to write it back with.
async fn stop_all(nodes: Vec<Node>) {
    for node in nodes {
        node.stop().await;
    }
}

/// Returns only when something failed.
async fn stay_up(layout: &Layout, nodes: &mut [Node], directory: &Directory, json: bool) -> Failure {
    match show(layout, nodes, directory, json).await {
        Err(failure) => failure,
        Ok(()) => all_but_killed(nodes).await,
    }
}

/// Whoever tries the demo may kill nodes: it goes on until no majority is left.
async fn all_but_killed(nodes: &mut [Node]) -> Failure {
    let mut ended: FuturesUnordered<_> = nodes.iter_mut().map(Node::ended).collect();
    let first = ended.next().await;
    if let Some(first) = first {
        complain(format_args!("{first}\nThe others take over within seconds. Go on; Ctrl-C stops them."));
    }
    match ended.next().await {
        Some(failure) => failure,
        None => Failure::new(Exit::Software, "all nodes have ended"),
    }
}

/// Delivers, reads back, and says where everything is.
async fn show(layout: &Layout, nodes: &[Node], directory: &Directory, json: bool) -> Result<(), Failure> {
    let addresses: Vec<_> = nodes.iter().map(|node| node.addresses.clone()).collect();
    let lines = mail::show(&addresses, &layout.accounts).await?;
    let demo = Demo { sites: vec![Site { name: "a", nodes: addresses }], accounts: layout.accounts.clone() };
    let text = serde_json::to_string_pretty(&demo);
    let text = text.map_err(|error| Failure::new(Exit::Software, error.to_string()))?;
    let published = nfs_compat::publish::publish(&DiskFs::new(), &directory.path, DEMO_JSON, text.as_bytes());
    published.map_err(cannot_create)?;
    if json {
        say(text);
    } else {
        lines.iter().for_each(say);
        say(told(&demo, directory));
    }
    Ok(())
}

fn told(demo: &Demo, directory: &Directory) -> String {
    let mut text = String::new();
    for (site, node) in demo.sites.iter().flat_map(|site| site.nodes.iter().map(move |node| (site, node))) {
        let node::Addresses { id, pid, imap, imaps, pop3, lmtp, admin_http, config, .. } = node;
        text.push_str(&format!(
            "\nSite {}, node {id}, process {pid}\n  IMAP   {imap} (STARTTLS), {imaps} (TLS)\n  POP3   {pop3} (STLS)\n  \
             LMTP   {lmtp}\n  HTTP   http://{admin_http}/ (status, /metrics)\n  commands such as: roost --config \
             {config} who\n",
            site.name
        ));
    }
    text.push_str("\nUsers\n");
    for Account { user, password } in &demo.accounts {
        text.push_str(&format!("  {user}  password {password}\n"));
    }
    let path = directory.path.display();
    text.push_str(&format!(
        "\nThe TLS certificate is self-made: clients must be told to accept it.\n\
         Everything is in {path}; {path}/demo.json has these addresses.\nRunning until Ctrl-C."
    ));
    text
}

/// Ctrl-C, or a service manager's SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Where everything goes.
struct Directory {
    path: PathBuf,
    /// It goes when the demo does.
    temporary: bool,
}

impl Directory {
    fn prepare(args: &DemoArgs) -> Result<Self, Failure> {
        let fs = DiskFs::new();
        let Some(directory) = &args.dir else {
            let name = format!("roost-demo-{}-{:04x}", std::process::id(), rand::random::<u16>());
            let path = std::env::temp_dir().join(name);
            fs.create_dir(&path).map_err(cannot_create)?;
            return Ok(Self { path, temporary: !args.keep });
        };
        fs.create_dir_all(directory).map_err(cannot_create)?;
        let path = std::path::absolute(directory)?;
        let empty = fs.read_dir(&path).map_err(cannot_create)?.is_empty();
        let mark = path.join(MARK);
        if empty {
            fs.create(&mark).map_err(cannot_create)?;
        } else if !fs.exists(&mark).map_err(cannot_create)? {
            let message =
                format!("{} is neither empty nor of an earlier demo: name another --dir", path.display());
            return Err(Failure::new(Exit::CannotCreate, message));
        }
        // Whoever waits for it waits for this demo, not for an earlier one.
        match fs.unlink(&path.join(DEMO_JSON)) {
            Err(error) if !error.is_not_found() => Err(cannot_create(error)),
            Ok(()) | Err(_) => Ok(Self { path, temporary: false }),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = remove_tree(&DiskFs::new(), &self.path)
        {
            complain(format_args!("roost: {} stays: {error}", self.path.display()));
        }
    }
}

/// Removes a tree. It was made by us, so it is as deep as we made it.
fn remove_tree(fs: &dyn Fs, directory: &Path) -> nfs_compat::Result<()> {
    for entry in fs.read_dir(directory)? {
        let path = directory.join(&entry.name);
        match entry.kind {
            nfs_compat::EntryKind::Directory => remove_tree(fs, &path)?,
            nfs_compat::EntryKind::File | nfs_compat::EntryKind::Other => fs.unlink(&path)?,
        }
    }
    fs.remove_dir(directory)
}

fn cannot_create(error: nfs_compat::Error) -> Failure {
    Failure::new(Exit::CannotCreate, error.to_string())
}
