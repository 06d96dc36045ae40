//! From the configuration to each room's options: no room below reads configuration itself.

use std::path::Path;

use account::setup::Limits;
use anyhow::Result;
use config::Config;
use nfs_compat::Fs;

use crate::tls;

const DECOY_FILE: &str = "decoy-secret";

/// The secret from which follow the salts of users who do not exist: made once, kept over restarts.
pub fn decoy_secret(fs: &dyn Fs, state_dir: &Path) -> Result<[u8; 32]> {
    let path = state_dir.join(DECOY_FILE);
    match fs.read(&path, 32) {
        Ok(bytes) => {
            if let Ok(secret) = bytes.try_into() {
                return Ok(secret);
            }
            tracing::warn!("{} is garbled: made anew", path.display());
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let secret = auth::authenticator::fresh_secret();
    nfs_compat::publish::publish(fs, state_dir, DECOY_FILE, &secret)?;
    Ok(secret)
}

pub fn limits(config: &Config) -> Limits {
    let quota = config.quota.storage.0;
    Limits {
        mailboxes: config.limits.mailboxes,
        quota_bytes: (quota > 0).then_some(quota),
        ..Limits::default()
    }
}

pub fn tls(config: &Config, host: &str) -> tls::Options {
    let default = config.tls.certificate.clone().zip(config.tls.key.clone());
    let named = config.tls.sni.0.iter().map(|sni| {
        (sni.name.clone(), tls::Files { certificate: sni.certificate.clone(), key: sni.key.clone() })
    });
    tls::Options {
        default: default.map(|(certificate, key)| tls::Files { certificate, key }),
        named: named.collect(),
        tls_1_2: config.tls.min_version == config::TlsVersion::V12,
        own_names: vec![host.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()],
    }
}

/// The node's name: in greetings, in the log, for others.
pub fn node_name(config: &Config) -> String {
    config.node.name.clone().unwrap_or_else(|| format!("{}{}", config.cluster.site, config.node.id))
}
