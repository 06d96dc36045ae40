//! Addresses in angle brackets (RFC 5321 §4.1.2 Path, RFC 6531 §3.3).
//!
//! The local part is kept unquoted: `"a b"@x` and `a\ b` name the same mailbox. Source routes are read and forgotten
//! (RFC 5321 §C). An address without domain is accepted: an LMTP client may know our users by bare names.

use std::fmt;

/// RFC 5321 §4.5.3.1 says 64 and 255; details after `+` make local parts longer than that.
const LOCAL_BYTES_MAX: usize = 255;
const DOMAIN_BYTES_MAX: usize = 255;

/// A mailbox as the sender's server names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    local: String,
    domain: Option<String>,
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed address")]
pub struct BadAddress;

impl Address {
    /// Unquoted, not empty, without control characters.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// A domain in the case it was given, or a literal with its brackets.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Reads `<...>` at the start of `text`. Returns the address, `None` for `<>`, and what follows.
    pub(super) fn parse_path(text: &str) -> Result<(Option<Self>, &str), BadAddress> {
        let mut rest = text.strip_prefix('<').ok_or(BadAddress)?;
        if let Some(after) = rest.strip_prefix('>') {
            return Ok((None, after));
        }
        if rest.starts_with('@') {
            rest = skip_route(rest)?;
        }
        let (local, mut rest) = local_part(rest)?;
        let mut domain = None;
        if let Some(after) = rest.strip_prefix('@') {
            let (name, after) = domain_part(after)?;
            (domain, rest) = (Some(name.to_owned()), after);
        }
        let rest = rest.strip_prefix('>').ok_or(BadAddress)?;
        Ok((Some(Self { local, domain }), rest))
    }
}

/// As an address is written: with quotes if it needs them.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let atoms = self.local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext));
        if atoms {
            f.write_str(&self.local)?;
        } else {
            f.write_str("\"")?;
            for character in self.local.chars() {
                if matches!(character, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
            f.write_str("\"")?;
        }
        self.domain.as_ref().map_or(Ok(()), |domain| write!(f, "@{domain}"))
    }
}

fn is_atext(character: char) -> bool {
    match character.is_ascii() {
        true => character.is_ascii_graphic() && !"()<>@,;:\\\".[]".contains(character),
        false => !character.is_control(),
    }
}

/// `@a,@b:` before the address.
fn skip_route(text: &str) -> Result<&str, BadAddress> {
    let mut rest = text;
    loop {
        let (_, after) = domain_part(rest.strip_prefix('@').ok_or(BadAddress)?)?;
        if let Some(address) = after.strip_prefix(':') {
            return Ok(address);
        }
        rest = after.strip_prefix(',').ok_or(BadAddress)?;
    }
}

fn local_part(text: &str) -> Result<(String, &str), BadAddress> {
    let (local, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted_string(quoted)?,
        None => {
            // Dots anywhere: some systems hand out names like `a..b` or `a.`.
            let end = text.find(|c: char| !is_atext(c) && c != '.').unwrap_or(text.len());
            let (local, rest) = text.split_at_checked(end).ok_or(BadAddress)?;
            (local.to_owned(), rest)
        }
    };
    if local.is_empty() || local.len() > LOCAL_BYTES_MAX {
        return Err(BadAddress);
    }
    Ok((local, rest))
}

/// The opening quote has been read.
fn quoted_string(text: &str) -> Result<(String, &str), BadAddress> {
    let mut local = String::new();
    let mut characters = text.chars();
    loop {
        let mut character = characters.next().ok_or(BadAddress)?;
        match character {
            '"' => return Ok((local, characters.as_str())),
            '\\' => character = characters.next().ok_or(BadAddress)?,
            _ => {}
        }
        if character.is_control() {
            return Err(BadAddress);
        }
        local.push(character);
    }
}

fn domain_part(text: &str) -> Result<(&str, &str), BadAddress> {
    let end = if text.starts_with('[') {
        let end = text.find(']').ok_or(BadAddress)? + 1;
        let literal = text.get(..end).ok_or(BadAddress)?;
        let inside = |c: char| c.is_ascii_graphic() && !"<>\\\"@".contains(c);
        if literal.len() <= 2 || !literal.chars().all(inside) {
            return Err(BadAddress);
        }
        end
    } else {
        // Underscores are in use, whatever host names may be made of.
        let named =
            |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || !c.is_ascii() && !c.is_control();
        let end = text.find(|c: char| !named(c)).unwrap_or(text.len());
        let name = text.get(..end).ok_or(BadAddress)?;
        if name.split('.').any(str::is_empty) {
            return Err(BadAddress);
        }
        end
    };
    if end > DOMAIN_BYTES_MAX {
        return Err(BadAddress);
    }
    text.split_at_checked(end).ok_or(BadAddress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(path: &str) -> String {
        match Address::parse_path(path) {
            Ok((None, rest)) => format!("null{rest}"),
            Ok((Some(address), rest)) => {
                format!("{} at {:?} = {address}{rest}", address.local(), address.domain())
            }
            Err(BadAddress) => "bad".to_owned(),
        }
    }

    #[test]
    fn paths_of_all_kinds_are_read() {
        assert_eq!(show("<> SIZE=1"), "null SIZE=1");
        assert_eq!(show("<a+b.c@Example.org>"), "a+b.c at Some(\"Example.org\") = a+b.c@Example.org");
        assert_eq!(show("<\"a b\\\"\"@x>"), "a b\" at Some(\"x\") = \"a b\\\"\"@x");
        assert_eq!(show("<\"ab\"@x>"), "ab at Some(\"x\") = ab@x");
        assert_eq!(show("<@one.example,@[1.2.3.4]:a@b>"), "a at Some(\"b\") = a@b");
        assert_eq!(show("<a@[IPv6:::1]>"), "a at Some(\"[IPv6:::1]\") = a@[IPv6:::1]");
        assert_eq!(show("<postmaster>"), "postmaster at None = postmaster");
        assert_eq!(
            show("<jürgen@müller.example>"),
            "jürgen at Some(\"müller.example\") = jürgen@müller.example"
        );
    }

    #[test]
    fn bad_paths_are_refused() {
        let long = format!("<{}@x>", "a".repeat(256));
        let deep = format!("<a@{}x>", "x.".repeat(200));
        for path in [
            "",
            "a@b",
            "<a@b",
            "<a@>",
            "<@b>",
            "<a b@c>",
            "<a@b..c>",
            "<a@b c>",
            "<\"a\u{7}\"@b>",
            "<\"a@b>",
            "<a@[]>",
            "<a@[x>",
            "<@a:>",
            "<a>b@c>x<",
            &long,
            &deep,
        ] {
            let shown = show(path);
            assert!(shown == "bad" || path == "<a>b@c>x<" && shown.ends_with("b@c>x<"), "{path}: {shown}");
        }
    }
}
