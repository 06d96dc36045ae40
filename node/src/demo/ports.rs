//! Free ports on loopback: the ones that people remember, or any.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::cli::exit::{Exit, Failure};
use crate::listener::bind_tcp;

/// Ports that are held until the node is about to bind them itself.
pub(super) struct Ports {
    held: Vec<TcpListener>,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// The port one likes, if it is free; else one that is.
    pub(super) fn take(&mut self, liked: u16) -> Result<SocketAddr, Failure> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = bind_tcp(at(liked)).or_else(|_| bind_tcp(at(0)));
        let listener = listener.map_err(|error| Failure::new(Exit::CannotCreate, format!("{error:#}")))?;
        let address = listener.local_addr()?;
        self.held.push(listener);
        Ok(address)
    }
}
