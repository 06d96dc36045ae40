//! The certificate: read from files and read again when they change, or made at start for a node that has none.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use nfs_compat::Fs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use tokio_rustls::TlsAcceptor;

/// Certificate chains and keys are small; more is not one.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Where certificates come from.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub default: Option<Files>,
    /// By server name (SNI).
    pub named: Vec<(String, Files)>,
    pub tls_1_2: bool,
    /// Names that a self-made certificate is for.
    pub own_names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes the acceptor for all listeners. Reads every file once, so that a mistake shows at start.
pub fn acceptor(options: &Options, fs: Arc<dyn Fs>) -> Result<TlsAcceptor> {
    let resolver = Resolver::new(options, fs)?;
    let versions: &[&rustls::SupportedProtocolVersion] =
        if options.tls_1_2 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Hands out certificates by name; looks at the files again when they have changed.
struct Resolver {
    fs: Arc<dyn Fs>,
    default: Loaded,
    named: Vec<(String, Loaded)>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

struct Loaded {
    files: Option<Files>,
    current: Mutex<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    modified: Option<(SystemTime, SystemTime)>,
}

impl Resolver {
    fn new(options: &Options, fs: Arc<dyn Fs>) -> Result<Self> {
        let default = match &options.default {
            Some(files) => Loaded::read(&*fs, files)?,
            None => {
                tracing::warn!(
                    names = ?options.own_names,
                    "no certificate is configured: made one that no client will trust; set tls.certificate and tls.key"
                );
                Loaded::own(&options.own_names)?
            }
        };
        let named =
            options.named.iter().map(|(name, files)| Ok((name.to_lowercase(), Loaded::read(&*fs, files)?)));
        let named = named.collect::<Result<_>>()?;
        Ok(Self { fs, default, named })
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_lowercase);
        let named = name.and_then(|name| self.named.iter().find(|(known, _)| *known == name));
        Some(named.map_or(&self.default, |(_, loaded)| loaded).current(&*self.fs))
    }
}

impl Loaded {
    fn read(fs: &dyn Fs, files: &Files) -> Result<Self> {
        let modified = modified(fs, files);
        let key = read_pair(fs, files)?;
        Ok(Self { files: Some(files.clone()), current: Mutex::new(Current { key, modified }) })
    }

    fn own(names: &[String]) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(names.to_vec()).context("cannot make a certificate")?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .map_err(|error| anyhow::anyhow!("cannot make a key: {error}"))?;
        let key = certified(vec![made.cert.der().clone()], key)?;
        Ok(Self { files: None, current: Mutex::new(Current { key, modified: None }) })
    }

    /// The pair as it is on disk now; the one from before, as long as the new files do not fit together.
    fn current(&self, fs: &dyn Fs) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = &self.files {
            let modified = modified(fs, files);
            if modified != current.modified {
                match read_pair(fs, files) {
                    Ok(key) => {
                        tracing::info!(certificate = %files.certificate.display(), "certificate read again");
                        current.key = key;
                    }
                    Err(error) => tracing::error!("the certificate stays as it was: {error:#}"),
                }
                current.modified = modified;
            }
        }
        Arc::clone(&current.key)
    }
}

fn modified(fs: &dyn Fs, files: &Files) -> Option<(SystemTime, SystemTime)> {
    let at = |path: &Path| fs.metadata(path).map(|metadata| metadata.modified).ok();
    Some((at(&files.certificate)?, at(&files.key)?))
}

fn read_pair(fs: &dyn Fs, files: &Files) -> Result<Arc<CertifiedKey>> {
    let pem = fs.read(&files.certificate, PEM_BYTES_MAX)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{} is no PEM certificate", files.certificate.display()))?;
    if chain.is_empty() {
        bail!("{} has no certificate", files.certificate.display());
    }
    let pem = fs.read(&files.key, PEM_BYTES_MAX)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .with_context(|| format!("{} has no private key", files.key.display()))?;
    certified(chain, key).with_context(|| {
        format!("{} and {} do not fit together", files.certificate.display(), files.key.display())
    })
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>> {
    let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match()?;
    Ok(Arc::new(certified))
}
