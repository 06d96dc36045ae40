//! Mutual TLS 1.3 between nodes: both ends show a certificate of their site's CA, and check whom they talk to.
//!
//! Invariants
//! - A certificate counts for the site that it names only if the CA of that site signed it.
//! - Whoever dials says which node it wants, and refuses every other, whatever its addresses.
//! - The peer's identity is what its certificate says, never what it says on the wire.
//! - A certificate is replaced by one that was checked, for all connections that begin afterwards.
//!
//! The version of everything that nodes say to each other is negotiated as ALPN, so that a node that speaks another one
//! is refused before a byte of it is misread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme, version,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::PeerIdentity;
use crate::pki::is_site_name;

/// What nodes speak to each other.
pub const ALPN: &[u8] = b"roost/1";

#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the {0} is no PEM file of its kind")]
    NotPem(&'static str),
    #[error("the {0} has no certificate")]
    Empty(&'static str),
    #[error("certificate and key do not belong together: {0}")]
    Key(Error),
    #[error(
        "the certificate names no node: it has no URI roost://site/S/node/N; make one with `roost cluster pki issue`"
    )]
    NoIdentity,
    #[error("the certificate is for {found}, not for {expected}: make one with `roost cluster pki issue`")]
    WrongIdentity { found: PeerIdentity, expected: PeerIdentity },
    #[error("the certificate is for {0}, and no CA of that site is configured here")]
    UnknownSite(PeerIdentity),
    #[error("the certificate for {0} is not signed by the CA of its site ({1}): issue it with that CA")]
    NotSigned(PeerIdentity, Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// PEM text of a node's certificate files.
#[derive(Clone, Copy)]
pub struct Pems<'a> {
    pub ca: &'a str,
    pub certificate: &'a str,
    pub key: &'a str,
}

/// One node's end of all its connections to others. Clones share one certificate, which can be replaced.
#[derive(Clone)]
pub struct NodeTls {
    identity: PeerIdentity,
    current: Arc<Mutex<Arc<Current>>>,
}

/// A node's certificate, and whom it trusts.
pub struct Current {
    trust: Arc<Trust>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    server: Arc<ServerConfig>,
    provider: Arc<CryptoProvider>,
}

impl NodeTls {
    /// Checks that the files fit together and are this node's.
    pub fn new(identity: PeerIdentity, pems: Pems<'_>) -> Result<Self, TlsError> {
        let current = Current::new(&identity, pems, Trust::default())?;
        Ok(Self { identity, current: Arc::new(Mutex::new(Arc::new(current))) })
    }

    /// Trusts the nodes of another site, too.
    pub fn trusting(self, site: &str, ca: &str) -> Result<Self, TlsError> {
        let current = self.current();
        let trust = Trust::clone(&current.trust).with(site, ca)?;
        let current = Current::with(current.chain.clone(), current.key.clone_key(), trust)?;
        self.replace(current);
        Ok(self)
    }

    /// Checks files that are to take the place of those in use. What other sites' nodes are known by stays.
    pub fn check(&self, pems: Pems<'_>) -> Result<Current, TlsError> {
        Current::new(&self.identity, pems, Trust::clone(&self.current().trust))
    }

    /// From now on connections are made and accepted with this. Those that there are go on as they are.
    pub fn replace(&self, current: Current) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    }

    /// Whether this certificate is the one in use.
    pub fn uses(&self, checked: &Current) -> bool {
        let current = self.current();
        current.chain == checked.chain
            && current.key.secret_der() == checked.key.secret_der()
            && current.trust.own(&self.identity.site) == checked.trust.own(&self.identity.site)
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who we are.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// For a connection that another node makes to us now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current().server))
    }

    /// For a connection that is made now, to one node and to no other.
    pub fn connector(&self, peer: PeerIdentity) -> Result<TlsConnector, TlsError> {
        self.current().connector(peer)
    }
}

impl Current {
    fn new(identity: &PeerIdentity, pems: Pems<'_>, trust: Trust) -> Result<Self, TlsError> {
        let chain = certificates(pems.certificate, "node's certificate")?;
        let key =
            PrivateKeyDer::from_pem_slice(pems.key.as_bytes()).map_err(|_| TlsError::NotPem("node's key"))?;
        let trust = trust.with(&identity.site, pems.ca)?;
        let found = trust.check(&chain[0], &chain[1..])?;
        if found != *identity {
            return Err(TlsError::WrongIdentity { found, expected: identity.clone() });
        }
        Self::with(chain, key, trust)
    }

    fn with(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        trust: Trust,
    ) -> Result<Self, TlsError> {
        let (trust, provider) = (Arc::new(trust), Arc::new(rustls::crypto::ring::default_provider()));
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Arc::new(PeerIsKnown { trust: Arc::clone(&trust), algorithms });
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(setup)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(TlsError::Key)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { trust, chain, key, server: Arc::new(server), provider })
    }

    fn connector(&self, peer: PeerIdentity) -> Result<TlsConnector, TlsError> {
        let verifier = Arc::new(PeerIs {
            expected: peer,
            trust: Arc::clone(&self.trust),
            algorithms: self.provider.signature_verification_algorithms,
        });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(setup)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(TlsError::Key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn setup(error: Error) -> TlsError {
    TlsError::Setup(error.to_string())
}

/// The name that a client sends. It is not what the server is known by, and tells an onlooker nothing.
pub(crate) fn server_name() -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from("roost.internal").map_err(|error| TlsError::Setup(error.to_string()))
}

/// The CA of each site.
#[derive(Clone, Debug, Default)]
struct Trust {
    sites: BTreeMap<String, Arc<RootCertStore>>,
    /// As they were given.
    texts: BTreeMap<String, String>,
}

impl Trust {
    fn own(&self, site: &str) -> Option<&str> {
        self.texts.get(site).map(String::as_str)
    }

    fn with(mut self, site: &str, ca: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca, "CA's certificate")? {
            roots.add(certificate).map_err(|_| TlsError::NotPem("CA's certificate"))?;
        }
        self.sites.insert(site.to_owned(), Arc::new(roots));
        self.texts.insert(site.to_owned(), ca.to_owned());
        Ok(self)
    }

    /// Whose certificate it is, if the CA of its site says so.
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<PeerIdentity, TlsError> {
        self.check_at(certificate, intermediates, UnixTime::now())
    }

    fn check_at(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerIdentity, TlsError> {
        let identity = identity_of(certificate)?;
        let Some(roots) = self.sites.get(&identity.site) else { return Err(TlsError::UnknownSite(identity)) };
        let not_signed = |error| TlsError::NotSigned(identity.clone(), error);
        let parsed = ParsedCertificate::try_from(certificate).map_err(not_signed)?;
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms.all)
            .map_err(not_signed)?;
        Ok(identity)
    }
}

/// Verifies a server: it has to be this one node.
#[derive(Debug)]
struct PeerIs {
    expected: PeerIdentity,
    trust: Arc<Trust>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PeerIs {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self.trust.check_at(certificate, intermediates, now).map_err(refused)?;
        if found != self.expected {
            return Err(refused(TlsError::WrongIdentity { found, expected: self.expected.clone() }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("nodes speak TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Verifies a client: it has to be some node of a site that we know.
#[derive(Debug)]
struct PeerIsKnown {
    trust: Arc<Trust>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for PeerIsKnown {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.check_at(certificate, intermediates, now).map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("nodes speak TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refused(error: TlsError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// Who a certificate is for. One that names several nodes names none.
pub(crate) fn identity_of(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, TlsError> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|_| TlsError::NoIdentity)?;
    let mut identities = parsed.valid_uri_names().filter_map(PeerIdentity::from_uri);
    match (identities.next(), identities.next()) {
        (Some(identity), None) if is_site_name(&identity.site) => Ok(identity),
        (Some(_) | None, _) => Err(TlsError::NoIdentity),
    }
}

/// Who the first certificate in a PEM file is for.
pub fn identity_in(pem: &str) -> Result<PeerIdentity, TlsError> {
    identity_of(&certificates(pem, "node's certificate")?[0])
}

/// Whether a CA's certificate vouches for what was just issued in its name.
pub(crate) fn check_issued(ca: &str, certificate: &str, identity: &PeerIdentity) -> Result<(), TlsError> {
    let chain = certificates(certificate, "node's certificate")?;
    Trust::default().with(&identity.site, ca)?.check(&chain[0], &chain[1..]).map(drop)
}

/// At least one.
fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| TlsError::NotPem(what))?;
    if chain.is_empty() { Err(TlsError::Empty(what)) } else { Ok(chain) }
}
