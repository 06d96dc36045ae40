//! Free ports on loopback: the ones that people remember, or any.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::cli::exit::{Exit, Failure};
use crate::listener::bind_tcp;

/// Ports that are held until the node is about to bind them itself.
pub(super) struct Ports {
    held: Vec<TcpListener>,
    liked: bool,
}

impl Ports {
    /// Those that people remember, as far as they are free.
    pub(super) fn liked() -> Self {
        Self { held: Vec::new(), liked: true }
    }

    pub(super) fn any() -> Self {
        Self { held: Vec::new(), liked: false }
    }

    /// The port one likes, if it is free; else one that is.
    pub(super) fn take(&mut self, liked: u16) -> Result<SocketAddr, Failure> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = bind_tcp(at(if self.liked { liked } else { 0 })).or_else(|_| bind_tcp(at(0)));
        let listener = listener.map_err(|error| Failure::new(Exit::CannotCreate, format!("{error:#}")))?;
        let address = listener.local_addr()?;
        self.held.push(listener);
        Ok(address)
    }
}
