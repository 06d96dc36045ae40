//! What crosses a socket between our own processes, as gRPC. One file in `proto/` for each room that serves.
//!
//! Generated types stay inside: each module offers plain ones.

use std::fmt;

pub mod admin;
pub mod coordination;
pub mod peer;
pub mod pki;
pub mod relay;
mod status;
pub mod tls;

/// Who is at the other end of a connection between nodes, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerIdentity {
    pub site: String,
    pub node: u8,
}

const URI_START: &str = "roost://site/";
const URI_NODE: &str = "/node/";

impl PeerIdentity {
    /// As it stands in a certificate.
    pub(crate) fn to_uri(&self) -> String {
        format!("{URI_START}{}{URI_NODE}{}", self.site, self.node)
    }

    pub(crate) fn from_uri(uri: &str) -> Option<Self> {
        let (site, node) = uri.strip_prefix(URI_START)?.split_once(URI_NODE)?;
        let identity = Self { site: site.to_owned(), node: node.parse().ok().filter(|node| *node > 0)? };
        // One way to write it, so that two certificates never look different and mean the same.
        (identity.to_uri() == uri).then_some(identity)
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of site {}", self.node, self.site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_uri_and_nothing_else_is_one() {
        let identity = PeerIdentity { site: "a".into(), node: 200 };
        assert_eq!(PeerIdentity::from_uri(&identity.to_uri()), Some(identity));
        for uri in [
            "",
            "roost://site/a",
            "roost://site/a/node/",
            "roost://site/a/node/0",
            "roost://site/a/node/256",
            "roost://site/a/node/007",
            "roost://site/a/node/+7",
            "https://site/a/node/1",
        ] {
            assert_eq!(PeerIdentity::from_uri(uri), None, "{uri}");
        }
    }
}
