//! A private CA for the nodes of a site, and the certificates that it issues.
//!
//! Invariants
//! - A node's certificate carries its identity as the URI `roost://site/S/node/N` beside its addresses, and serves both
//!   ends of a connection.
//! - Nothing expires: nodes must agree however their clocks are set, and a site must not stop on a date that
//!   nobody remembers. A key that leaked is answered with a new CA.
//!
//! Everything here is text in, text out; who stores it is the caller.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::PeerIdentity;
use crate::tls::{self, TlsError};

/// Name of every CA made here. A certificate is held against the CA of its site, so the name need not tell them apart.
const CA_NAME: &str = "Roost node CA";
/// Longest site name.
pub const SITE_BYTES_MAX: usize = 63;

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("a site's name is at most {SITE_BYTES_MAX} letters, digits, - and _; not {0:?}")]
    BadSite(String),
    #[error("a node's id is 1 to 255, not 0")]
    BadNode,
    #[error("{0:?} is neither a host name nor an IP address")]
    BadAddress(String),
    #[error("the CA's key cannot be read: {0}")]
    BadKey(rcgen::Error),
    #[error(
        "the CA's certificate and key do not belong together: {0}; restore both from one backup, or begin a new CA in another directory"
    )]
    Mismatch(TlsError),
    #[error("a certificate cannot be made: {0}")]
    Failed(#[from] rcgen::Error),
}

/// Makes a CA.
pub fn make_ca() -> Result<Pair, PkiError> {
    let key = KeyPair::generate()?;
    let certificate = ca_params()?.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Issues a certificate for a node, under a CA that [`make_ca`] made.
pub fn issue(ca: &Pair, identity: &PeerIdentity, addresses: &[String]) -> Result<Pair, PkiError> {
    check(identity)?;
    let ca_key = KeyPair::from_pem(&ca.key).map_err(PkiError::BadKey)?;
    let issuer = Issuer::new(ca_params()?, ca_key);
    let key = KeyPair::generate()?;
    let certificate = node_params(identity, addresses)?.signed_by(&key, &issuer)?;
    let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
    // Whoever mixed up two CAs hears of it now, not when the node is refused by its peers.
    tls::check_issued(&ca.certificate, &pair.certificate, identity).map_err(PkiError::Mismatch)?;
    Ok(pair)
}

fn check(identity: &PeerIdentity) -> Result<(), PkiError> {
    if !is_site_name(&identity.site) {
        return Err(PkiError::BadSite(identity.site.clone()));
    }
    if identity.node == 0 {
        return Err(PkiError::BadNode);
    }
    Ok(())
}

/// Letters, digits, `-` and `_`, as `cluster.site` may be.
pub(crate) fn is_site_name(site: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !site.is_empty() && site.len() <= SITE_BYTES_MAX && site.bytes().all(fits)
}

fn ca_params() -> Result<CertificateParams, PkiError> {
    let mut params = params(CA_NAME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn node_params(identity: &PeerIdentity, addresses: &[String]) -> Result<CertificateParams, PkiError> {
    let mut params = params(&format!("node {} of site {}", identity.node, identity.site))?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names.push(SanType::URI(identity.to_uri().try_into()?));
    for address in addresses {
        params.subject_alt_names.push(name_of(address)?);
    }
    Ok(params)
}

fn params(name: &str) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    // What RFC 5280 §4.1.2.5 calls no well-defined end.
    params.not_after = date_time_ymd(9999, 12, 31);
    Ok(params)
}

fn name_of(address: &str) -> Result<SanType, PkiError> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
    let label = |label: &str| !label.is_empty() && label.len() <= 63;
    let is_name = address.len() <= 253
        && address.bytes().all(fits)
        && address.trim_end_matches('.').split('.').all(label);
    let bad = || PkiError::BadAddress(address.to_owned());
    let name = is_name.then(|| address.trim_end_matches('.').to_owned()).ok_or_else(bad)?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| bad())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(site: &str, node: u8) -> PeerIdentity {
        PeerIdentity { site: site.to_owned(), node }
    }

    #[test]
    fn a_certificate_says_whose_it_is() {
        let ca = make_ca().unwrap();
        let pair = issue(&ca, &node("a", 2), &["10.0.0.2".into(), "n2.example.org".into()]).unwrap();
        assert_eq!(tls::identity_in(&pair.certificate).unwrap(), node("a", 2));
    }

    #[test]
    fn a_ca_of_two_halves_issues_nothing() {
        let (one, other) = (make_ca().unwrap(), make_ca().unwrap());
        let mixed = Pair { certificate: one.certificate, key: other.key };
        assert!(matches!(issue(&mixed, &node("a", 1), &[]), Err(PkiError::Mismatch(_))));
    }

    #[test]
    fn names_that_nobody_could_have_are_refused() {
        let ca = make_ca().unwrap();
        for site in ["", "a/b", "a b", "ä", &"x".repeat(64)] {
            assert!(matches!(issue(&ca, &node(site, 1), &[]), Err(PkiError::BadSite(_))), "{site}");
        }
        assert!(matches!(issue(&ca, &node("a", 0), &[]), Err(PkiError::BadNode)));
        for address in ["", "a..b", "10.0.0.1:7001", "host name", "ü.example"] {
            let issued = issue(&ca, &node("a", 1), &[address.to_owned()]);
            assert!(matches!(issued, Err(PkiError::BadAddress(_))), "{address}");
        }
    }
}
