//! Dovecot's passwd-file: `user:{SCHEME}hash:uid:gid:gecos:home:shell:extra fields`.
//!
//! Invariants
//! - A change of the file is seen by the next lookup: its identity, length and time are looked at each time.
//! - A broken line is skipped with a warning that names file and line, and costs no other user anything.
//! - While the file cannot be read nobody is said not to exist: the answer is "try again".
//!
//! The extra fields are the rest of the line, colons included (`userdb_quota_rule=*:storage=1G`); in the fields before
//! them a colon is written `\:`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use nfs_compat::{Fs, Metadata};

use super::{Entry, Network, Passdb, Secret, Unavailable};
use crate::scheme::{Scheme, ScramDigest, Stored};
use crate::user::UserName;

/// A file longer than this is not read: at some hundred bytes a user it would be a million of them.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Warnings for one reading of the file; a binary file would otherwise fill the log.
const WARNINGS_MAX: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswdFileOptions {
    pub path: PathBuf,
    /// The scheme of a hash without `{SCHEME}`.
    pub default_scheme: Scheme,
}

pub struct PasswdFile {
    options: PasswdFileOptions,
    default_realm: Option<String>,
    fs: Arc<dyn Fs>,
    loaded: RwLock<Option<Arc<Loaded>>>,
}

struct Loaded {
    seen: Metadata,
    users: HashMap<UserName, Entry>,
    serves_sha256: bool,
    serves_sha1: bool,
}

/// A line that says nothing usable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) line: usize,
    pub(super) reason: String,
}

impl PasswdFile {
    /// Reads the file at once, so that the first login need not wait; a failure is told again at each lookup.
    pub fn new(options: PasswdFileOptions, default_realm: Option<&str>, fs: Arc<dyn Fs>) -> Self {
        let file =
            Self { options, default_realm: default_realm.map(str::to_owned), fs, loaded: RwLock::default() };
        if let Err(error) = file.fresh() {
            tracing::warn!(%error, "no user of this passwd-file can log in");
        }
        file
    }

    /// The users as the file has them now.
    fn fresh(&self) -> Result<Arc<Loaded>, Unavailable> {
        let path = &self.options.path;
        let failed = |error: nfs_compat::Error| Unavailable(error.to_string());
        let seen = self.fs.metadata(path).map_err(failed)?;
        let known = self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| same(&known.seen, &seen)) {
            return Ok(known);
        }
        if seen.length > FILE_BYTES_MAX {
            return Err(Unavailable(format!("{} is longer than {FILE_BYTES_MAX} bytes", path.display())));
        }
        let bytes = self.fs.read(path, FILE_BYTES_MAX).map_err(failed)?;
        let (users, broken) = parse(&bytes, self.options.default_scheme, self.default_realm.as_deref());
        warn_of(path, &broken);
        let serves = |digest| users.values().all(|entry| entry.password.serves_scram(digest));
        let (serves_sha256, serves_sha1) = (serves(ScramDigest::Sha256), serves(ScramDigest::Sha1));
        let loaded = Arc::new(Loaded { seen, users, serves_sha256, serves_sha1 });
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded.clone());
        Ok(loaded)
    }
}

impl Passdb for PasswdFile {
    fn lookup(&self, user: &UserName) -> Result<Option<Entry>, Unavailable> {
        Ok(self.fresh()?.users.get(user).cloned())
    }

    fn users(&self) -> Result<Vec<UserName>, Unavailable> {
        let mut users: Vec<UserName> = self.fresh()?.users.keys().cloned().collect();
        users.sort_unstable();
        Ok(users)
    }

    fn serves_scram(&self, digest: ScramDigest) -> bool {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.as_ref().is_some_and(|loaded| match digest {
            ScramDigest::Sha256 => loaded.serves_sha256,
            ScramDigest::Sha1 => loaded.serves_sha1,
        })
    }
}

/// The same file with the same content, as far as can be told without reading it. The time we looked before reading
/// is what is kept, so a write during the reading is seen next time.
fn same(left: &Metadata, right: &Metadata) -> bool {
    (left.modified, left.length, left.inode) == (right.modified, right.length, right.inode)
}

fn warn_of(path: &Path, broken: &[Broken]) {
    for Broken { line, reason } in broken.iter().take(WARNINGS_MAX) {
        tracing::warn!("{}:{line}: {reason}", path.display());
    }
    if broken.len() > WARNINGS_MAX {
        tracing::warn!("{}: {} more lines like that", path.display(), broken.len() - WARNINGS_MAX);
    }
}

/// Of two lines for one user the first counts.
pub(super) fn parse(
    bytes: &[u8],
    default_scheme: Scheme,
    default_realm: Option<&str>,
) -> (HashMap<UserName, Entry>, Vec<Broken>) {
    let (mut users, mut broken) = (HashMap::new(), Vec::new());
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") || line.iter().all(|byte| byte.is_ascii_whitespace()) {
            continue;
        }
        let mut complain = |reason: String| broken.push(Broken { line: index + 1, reason });
        match std::str::from_utf8(line).map_err(|_| "not UTF-8; line skipped".to_owned()) {
            Err(reason) => complain(reason),
            Ok(line) => match parse_line(line, default_scheme, default_realm, &mut complain) {
                Err(reason) => complain(format!("{reason}; line skipped")),
                Ok(entry) if users.contains_key(&entry.user) => {
                    complain(format!("user {} stands here again; the first line counts", entry.user));
                }
                Ok(entry) => drop(users.insert(entry.user.clone(), entry)),
            },
        }
    }
    (users, broken)
}

fn parse_line(
    line: &str,
    default_scheme: Scheme,
    default_realm: Option<&str>,
    complain: &mut dyn FnMut(String),
) -> Result<Entry, String> {
    let mut fields = split(line).into_iter();
    let mut field = || fields.next().unwrap_or_default();
    let user = UserName::parse(&field(), default_realm).map_err(|error| error.to_string())?;
    let password = field();
    for name in ["uid", "gid"] {
        let id = field();
        if id.contains(|c: char| c.is_whitespace()) {
            return Err(format!("{id:?} is not a {name}"));
        }
    }
    let (_gecos, home, _shell) = (field(), field(), field());
    let extra = parse_extra(&field());
    let home = match home.as_str() {
        "" => None,
        text => Some(checked_home(text)?),
    };
    let allow_nets = extra
        .get("allow_nets")
        .map(|list| {
            Network::parse_list(list).ok_or_else(|| "allow_nets is not a list of networks".to_owned())
        })
        .transpose()?;
    let nologin = extra.get("nologin").is_some_and(|value| !is_no(value));
    let password = if extra.get("nopassword").is_some_and(|value| !is_no(value)) {
        Secret::Any
    } else {
        secret(&password, default_scheme, complain)
    };
    Ok(Entry { user, password, home, allow_nets, nologin, extra })
}

fn secret(text: &str, default_scheme: Scheme, complain: &mut dyn FnMut(String)) -> Secret {
    // What passwd(5) uses to lock an account.
    let locked = text.starts_with('*') || text.starts_with('!') || text == "x";
    if text.is_empty() || (locked && default_scheme != Scheme::Plain) {
        return Secret::Never;
    }
    match Stored::parse(text, default_scheme) {
        Ok(stored) => Secret::Stored(stored),
        Err(error) => {
            complain(format!("{error}; the user gets mail but cannot log in"));
            Secret::Never
        }
    }
}

/// Up to seven colons end a field; `\:` is a colon in one.
fn split(line: &str) -> Vec<String> {
    const FIELDS: usize = 8;
    let mut fields = vec![String::new()];
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let last = fields.len() == FIELDS;
        let escaped = c == '\\' && !last && rest.peek() == Some(&':');
        if c == ':' && !last {
            fields.push(String::new());
            continue;
        }
        if let Some(field) = fields.last_mut() {
            field.push(if escaped { ':' } else { c });
        }
        if escaped {
            rest.next();
        }
    }
    fields
}

/// `key=value` pairs between spaces; a key alone means yes.
fn parse_extra(text: &str) -> BTreeMap<String, String> {
    text.split([' ', '\t'])
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "yes")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn is_no(value: &str) -> bool {
    ["n", "no", "false", "0"].iter().any(|no| value.eq_ignore_ascii_case(no))
}

fn checked_home(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if !path.is_absolute() || climbs || text.chars().any(char::is_control) {
        return Err(format!("the home {text:?} is not an absolute path"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
