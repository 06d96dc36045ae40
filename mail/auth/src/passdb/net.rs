//! `allow_nets`: networks that a user may come from.

use std::net::IpAddr;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Block {
        address: IpAddr,
        bits: u32,
    },
    /// Dovecot's `local`: a UNIX socket, or this machine.
    Local,
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.eq_ignore_ascii_case("local") {
            return Ok(Self::Local);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| ())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width { Err(()) } else { Ok(Self::Block { address, bits }) }
    }
}

impl Network {
    pub fn parse_list(text: &str) -> Option<Vec<Self>> {
        text.split([',', ' ']).filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
    }

    pub fn contains(&self, remote: IpAddr) -> bool {
        let remote = remote.to_canonical();
        match self {
            Self::Local => remote.is_loopback(),
            Self::Block { address, bits } => match (address, remote) {
                (IpAddr::V4(net), IpAddr::V4(remote)) => {
                    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                    net.to_bits() & mask == remote.to_bits() & mask
                }
                (IpAddr::V6(net), IpAddr::V6(remote)) => {
                    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                    net.to_bits() & mask == remote.to_bits() & mask
                }
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &str, remote: &str) -> bool {
        Network::parse_list(list).unwrap().iter().any(|net| net.contains(remote.parse().unwrap()))
    }

    #[test]
    fn networks_contain_their_addresses_and_no_others() {
        assert!(allows("10.0.0.0/8, 2001:db8::/32", "10.1.2.3"));
        assert!(allows("10.0.0.0/8,2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!allows("10.0.0.0/8,2001:db8::/32", "11.0.0.1"));
        assert!(!allows("10.0.0.0/8", "::1"));
        assert!(allows("192.0.2.1", "192.0.2.1") && !allows("192.0.2.1", "192.0.2.2"));
        assert!(allows("0.0.0.0/0", "255.255.255.255") && allows("::/0", "ffff::"));
        assert!(allows("local", "127.0.0.1") && !allows("local", "192.0.2.1"));
        assert!(allows("127.0.0.1", "::ffff:127.0.0.1"), "a mapped address is the IPv4 one");
        assert!(!allows("", "127.0.0.1"), "an empty list allows nobody");
    }

    #[test]
    fn a_network_that_is_none_is_refused() {
        for text in ["x", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8"] {
            assert_eq!(Network::parse_list(text), None, "{text}");
        }
    }
}
