//! Free loopback ports, below those that outgoing connections take: a server that is down keeps its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use super::Ports;
use crate::dice::Dice;

const LOWEST: u64 = 11_000;
const HIGHEST: u64 = 31_999;
const TRIES_MAX: u32 = 10_000;

static ASKED: AtomicU32 = AtomicU32::new(0);

pub(super) fn free() -> anyhow::Result<Ports> {
    // Not from the run's seed: processes with the same seed run side by side.
    let asked = u64::from(ASKED.fetch_add(1, Ordering::Relaxed));
    let mut dice = Dice::part(u64::from(std::process::id()), asked);
    let mut next = || one(&mut dice);
    Ok(Ports {
        imap: next()?,
        pop3: next()?,
        lmtp: next()?,
        imaps: next()?,
        admin_http: next()?,
        peer: next()?,
    })
}

/// One free port by itself, for a program that a test starts.
pub fn one(dice: &mut Dice) -> anyhow::Result<SocketAddr> {
    let mut tries = (0..TRIES_MAX).filter_map(|_| {
        let port = u16::try_from(dice.between(LOWEST, HIGHEST)).ok()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpListener::bind(address).ok().map(|_| address)
    });
    tries.next().context("no free port")
}
