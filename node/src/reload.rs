//! `SIGHUP` and `roost config reload`: what can change without dropping a session, and what cannot.
//!
//! Invariants
//! - A file with a mistake changes nothing.
//! - Every key that differs from what is in effect is named: applied, or waiting for a restart.
//!
//! Users and clients' certificates are read again by themselves, whenever their files change; those between nodes here,
//! because CA, certificate and key are three files that belong together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use config::{Config, LogLevel};

use crate::cli::logging;
use crate::peer;
use crate::serve::{Running, load_config};

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    pub applied: Vec<String>,
    pub needs_restart: Vec<String>,
}

/// The level in effect, if it is no longer the one that the node was started with.
static LEVEL: Mutex<Option<LogLevel>> = Mutex::new(None);

/// Reads the configuration again, for the log.
pub fn reload(running: &Arc<Running>) {
    match apply(running) {
        Ok(reloaded) => {
            tracing::info!(applied = ?reloaded.applied, "configuration read again");
            for key in reloaded.needs_restart {
                tracing::warn!(key, "changed in the configuration: takes effect when the node is restarted");
            }
        }
        Err(mistakes) => {
            for mistake in mistakes {
                tracing::error!("configuration stays as it was: {mistake}");
            }
        }
    }
}

/// Reads the configuration again; the error is what is wrong with the file.
pub fn apply(running: &Running) -> Result<Reloaded, Vec<String>> {
    let new = load_config(&running.config_file)?;
    let renewed = peer::renewed(&new, &*running.fs, &running.node_tls);
    let renewed = renewed.map_err(|error| vec![format!("{error:#}")])?;
    let mut reloaded = Reloaded::default();
    let mut level = LEVEL.lock().unwrap_or_else(PoisonError::into_inner);
    if new.log.level != level.unwrap_or(running.config.log.level) && logging::set_level(new.log.level) {
        *level = Some(new.log.level);
        reloaded.applied.push("log.level".to_owned());
    }
    if let Some(certificate) = renewed {
        running.node_tls.replace(certificate);
        reloaded.applied.push("cluster.tls".to_owned());
    }
    reloaded.needs_restart = changed(&running.config, &new);
    let has_files = new.cluster.tls.certificate.is_some();
    let is_applied = |key: &String| key == "log.level" || (has_files && key.starts_with("cluster.tls."));
    reloaded.needs_restart.retain(|key| !is_applied(key));
    Ok(reloaded)
}

/// Names of the keys that differ.
fn changed(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (keys(old), keys(new));
    let mut names: Vec<_> =
        old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// Every key that has a value, by its dotted name, as text.
fn keys(config: &Config) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let shown = config::show(config, false);
    match toml::from_str::<toml::Table>(&shown) {
        Ok(table) => flatten("", &toml::Value::Table(table), &mut keys),
        Err(error) => tracing::error!(%error, "bug: the configuration in effect does not read back"),
    }
    keys
}

fn flatten(name: &str, value: &toml::Value, keys: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&inner, value, keys);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{name}[{index}]"), item, keys);
            }
        }
        toml::Value::String(_)
        | toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_) => {
            keys.insert(name.to_owned(), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        config::load(text, Path::new("/etc/roost/roost.toml")).unwrap()
    }

    #[test]
    fn every_key_that_differs_is_named() {
        let old = config(
            "[[auth.passdb]]\ndriver = \"passwd-file\"\npath = \"users\"\n[listen]\nimap = [\"127.0.0.1:1\"]\n",
        );
        let new = config(
            "[[auth.passdb]]\ndriver = \"passwd-file\"\npath = \"others\"\n[log]\nlevel = \"debug\"\n",
        );
        assert_eq!(changed(&old, &new), ["auth.passdb[0].path", "listen.imap", "log.level"]);
        assert_eq!(changed(&old, &old.clone()), Vec::<String>::new());
    }
}
