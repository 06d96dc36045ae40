//! What has to happen while we may still be root: directories that are missing, and sockets.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use config::{Config, Endpoint};
use nfs_compat::{DiskFs, Fs};

use crate::listener::{Bound, bind_tcp, bind_unix};
use crate::privileges::RunAs;

/// Everything this node listens on, bound.
pub struct Sockets {
    /// Protocol name as in the configuration, and its socket.
    pub protocols: Vec<(&'static str, Unserved)>,
    pub http: Vec<TcpListener>,
    pub peer: Option<TcpListener>,
    pub admin: UnixListener,
}

/// A bound socket that no runtime knows yet.
pub enum Unserved {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Unserved {
    /// To be called on the runtime.
    pub fn into_async(self) -> Result<Bound> {
        Ok(match self {
            Self::Tcp(listener) => Bound::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener) => Bound::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }
}

impl Sockets {
    pub fn bind(config: &Config, run_as: Option<RunAs>) -> Result<Self> {
        let listen = &config.listen;
        let wanted = [
            ("imap", &listen.imap),
            ("imaps", &listen.imaps),
            ("pop3", &listen.pop3),
            ("pop3s", &listen.pop3s),
            ("lmtp", &listen.lmtp),
        ];
        let mut protocols = Vec::new();
        for (name, endpoints) in wanted {
            for endpoint in endpoints {
                let socket = bind(endpoint, run_as).with_context(|| format!("listen.{name}"))?;
                protocols.push((name, socket));
            }
        }
        let mut http = Vec::new();
        for endpoint in &listen.admin_http {
            match endpoint {
                Endpoint::Tcp(address) => http.push(bind_tcp(*address).context("listen.admin_http")?),
                Endpoint::Unix(_) => anyhow::bail!("listen.admin_http takes addr:port only"),
            }
        }
        let peer = match &listen.peer {
            None => None,
            Some(Endpoint::Tcp(address)) => Some(bind_tcp(*address).context("listen.peer")?),
            Some(Endpoint::Unix(_)) => anyhow::bail!("listen.peer takes addr:port only"),
        };
        let admin = unix(&config.node.admin_socket, run_as).context("node.admin_socket")?;
        Ok(Self { protocols, http, peer, admin })
    }
}

fn bind(endpoint: &Endpoint, run_as: Option<RunAs>) -> Result<Unserved> {
    match endpoint {
        Endpoint::Tcp(address) => bind_tcp(*address).map(Unserved::Tcp),
        Endpoint::Unix(path) => unix(path, run_as).map(Unserved::Unix),
    }
}

fn unix(path: &Path, run_as: Option<RunAs>) -> Result<UnixListener> {
    let listener = bind_unix(path)?;
    if let Some(run_as) = run_as {
        run_as.own_socket(path)?;
    }
    Ok(listener)
}

/// Makes the directories that are missing, and hands over those that root just made.
pub fn prepare_directories(config: &Config, run_as: Option<RunAs>) -> Result<()> {
    let fs = DiskFs::new();
    let mut wanted: Vec<PathBuf> = vec![config.node.state_dir.clone(), config.mail.root.clone()];
    wanted.extend(config.node.admin_socket.parent().map(Path::to_owned));
    for directory in wanted {
        let missing = !fs.exists(&directory)?;
        fs.create_dir_all(&directory).with_context(|| {
            format!(
                "{} is missing and cannot be made: make it and give it to node.run_as",
                directory.display()
            )
        })?;
        if let Some(run_as) = run_as
            && missing
        {
            run_as.own(&directory)?;
        }
    }
    for directory in [&config.node.state_dir, &config.mail.root] {
        if let Some(run_as) = run_as {
            run_as.own(directory)?;
        }
    }
    Ok(())
}
