//! The kinds of values: how each is written, and what is said when it is not.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use crate::nearest::nearest;

/// What one key can hold.
pub(crate) trait Value: Sized {
    /// Reads it; the error says what to write instead. Relative paths start at `base`.
    fn read(value: &DeValue<'_>, base: &Path) -> Result<Self, String>;
    /// As TOML, or `None` for what is not set.
    fn toml(&self) -> Option<String>;
}

fn wanted<T>(what: &str, value: &DeValue<'_>) -> Result<T, String> {
    Err(format!("this is a TOML {}; write {what}", value.type_str()))
}

fn text<'a>(what: &str, value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value.as_str().map_or_else(|| wanted(what, value), Ok)
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

impl Value for String {
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        text("a string in quotes", value).map(str::to_owned)
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Value for bool {
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        value.as_bool().map_or_else(|| wanted("true or false", value), Ok)
    }

    fn toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! integers {
    ($($kind:ty),*) => {$(
        impl Value for $kind {
            fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
                let what = concat!("a whole number that fits ", stringify!($kind));
                let Some(integer) = value.as_integer() else { return wanted(what, value) };
                Self::from_str_radix(integer.as_str(), integer.radix())
                    .map_err(|_| format!("{integer} is out of range; write a number from 0 to {}", Self::MAX))
            }

            fn toml(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
integers!(u8, u16, u32);

impl Value for PathBuf {
    fn read(value: &DeValue<'_>, base: &Path) -> Result<Self, String> {
        match text("a path in quotes", value)? {
            "" => Err("a path is not empty".to_owned()),
            path if path.contains('\0') => Err("a path has no NUL".to_owned()),
            path => Ok(base.join(path)),
        }
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl<V: Value> Value for Option<V> {
    fn read(value: &DeValue<'_>, base: &Path) -> Result<Self, String> {
        V::read(value, base).map(Some)
    }

    fn toml(&self) -> Option<String> {
        self.as_ref()?.toml()
    }
}

/// A list; one value alone is a list of one.
impl<V: Value> Value for Vec<V> {
    fn read(value: &DeValue<'_>, base: &Path) -> Result<Self, String> {
        match value.as_array() {
            Some(values) => values.iter().map(|value| V::read(value.get_ref(), base)).collect(),
            None => Ok(vec![V::read(value, base)?]),
        }
    }

    fn toml(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().filter_map(Value::toml).collect::<Vec<_>>().join(", ")))
    }
}

const DURATION: &str = "a duration with its unit, such as \"250ms\", \"30s\", \"10m\", \"2h\" or \"7d\"";
/// Longer than anything here means; keeps sums of times in range.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Value for Duration {
    fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
        let text = text(DURATION, value)?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = DURATION_UNITS.iter().find(|(name, _)| *name == unit.trim_start());
        let (Ok(number), Some((_, factor))) = (number.parse::<u64>(), unit) else {
            return Err(format!("{text:?} is not a duration; write {DURATION}"));
        };
        let duration =
            number.checked_mul(*factor).map(Self::from_millis).filter(|duration| *duration <= DURATION_MAX);
        duration.ok_or_else(|| format!("{text:?} is more than ten years"))
    }

    fn toml(&self) -> Option<String> {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        let fits = |(_, factor): &&(&str, u64)| millis > 0 && millis.is_multiple_of(*factor);
        let (unit, factor) = DURATION_UNITS.iter().rev().find(fits).unwrap_or(&("s", 1000));
        Some(quoted(&format!("{}{unit}", millis / factor)))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }
}

const SIZE: &str = "a size such as \"512K\", \"64M\" or \"1G\"";
const SIZE_UNITS: [(&str, u64); 5] =
    [("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];

impl Value for Size {
    fn read(value: &DeValue<'_>, base: &Path) -> Result<Self, String> {
        if value.is_integer() {
            return u32::read(value, base).map(|bytes| Self(bytes.into()));
        }
        let text = text(SIZE, value)?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (Ok(number), Some((_, factor))) = (number.parse::<u64>(), unit) else {
            return Err(format!("{text:?} is not a size; write {SIZE}"));
        };
        number.checked_mul(*factor).map(Self).ok_or_else(|| format!("{text:?} is more than there is"))
    }

    fn toml(&self) -> Option<String> {
        let fits = |(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        let (unit, factor) = SIZE_UNITS.iter().rev().find(fits).unwrap_or(&("", 1));
        Some(quoted(&format!("{}{unit}", self.0 / factor)))
    }
}

/// Where to listen, or whom to call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

const ENDPOINT: &str = "an address and port such as \"127.0.0.1:1143\" or \"[::]:143\", or \"unix:/path\"";

impl Value for Endpoint {
    fn read(value: &DeValue<'_>, base: &Path) -> Result<Self, String> {
        let text = text(ENDPOINT, value)?;
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() && !path.contains('\0') => Ok(Self::Unix(base.join(path))),
            Some(_) => Err(format!("{text:?} names no path; write {ENDPOINT}")),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("{text:?} is not an address; write {ENDPOINT}")),
        }
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

macro_rules! choices {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])? $variant:ident = $text:literal),* $(,)? }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $doc])? $variant),* }

        impl $name {
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl Value for $name {
            fn read(value: &DeValue<'_>, _: &Path) -> Result<Self, String> {
                const ALL: &[(&str, $name)] = &[$(($text, $name::$variant)),*];
                let all = [$(concat!("\"", $text, "\"")),*].join(", ");
                let text = text(&format!("one of {all}"), value)?;
                if let Some((_, choice)) = ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
                    return Ok(*choice);
                }
                Err(match nearest(&text.to_ascii_lowercase(), ALL.iter().map(|(name, _)| *name)) {
                    Some(name) => format!("unknown value {text:?}; did you mean {name:?}? Known are {all}"),
                    None => format!("unknown value {text:?}; write one of {all}"),
                })
            }

            fn toml(&self) -> Option<String> {
                Some(quoted(self.name()))
            }
        }
    };
}

choices! {
    /// How new accounts store messages.
    MailFormat { Maildir = "maildir", Mdbox = "mdbox", Sdbox = "sdbox" }
}
choices! {
    /// What an acknowledged change has survived.
    Durability {
        /// It is on stable storage.
        Fsync = "fsync",
        /// It may be lost with the machine, not with the process.
        Relaxed = "relaxed",
    }
}
choices! {
    /// The oldest TLS to speak.
    TlsVersion { V12 = "1.2", V13 = "1.3" }
}
choices! {
    /// Where passwords may cross the wire without TLS.
    Plaintext { Never = "never", Loopback = "loopback", Always = "always" }
}
choices! {
    /// SASL mechanisms.
    Mechanism {
        Plain = "PLAIN",
        Login = "LOGIN",
        ScramSha256 = "SCRAM-SHA-256",
        ScramSha1 = "SCRAM-SHA-1",
        OauthBearer = "OAUTHBEARER",
        Xoauth2 = "XOAUTH2",
        External = "EXTERNAL",
    }
}
choices! {
    /// Kinds of user databases.
    Driver {
        PasswdFile = "passwd-file",
        Static = "static",
        Sql = "sql",
        Ldap = "ldap",
        Pam = "pam",
        Oauth2 = "oauth2",
        Lua = "lua",
    }
}
choices! {
    /// What an acknowledgement waits for at another site.
    ReplicationMode {
        Async = "async",
        SemiPrefer = "semi-prefer",
        SemiRequire = "semi-require",
        Standby = "standby",
    }
}
choices! {
    /// How much to log.
    LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" }
}
choices! {
    /// The shape of log lines.
    LogFormat { Text = "text", Json = "json" }
}
