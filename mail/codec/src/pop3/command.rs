//! POP3 commands (RFC 1939 §3 to §7, RFC 2449 §5, RFC 5034 §4).

use super::Secret;

/// Longest line a client may send. RFC 2449 §4 asks for 255 octets; initial responses of SASL need more (RFC 5034 §4).
pub const COMMAND_BYTES_MAX: usize = 12_288;

/// What the client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    User(String),
    Pass(Secret),
    Stat,
    List(Option<u32>),
    Retr(u32),
    Dele(u32),
    Noop,
    Rset,
    Quit,
    Top {
        message: u32,
        lines: u64,
    },
    Uidl(Option<u32>),
    Capa,
    Stls,
    /// Without an argument it lists mechanisms in old clients' dialect.
    Auth(Option<Auth>),
}

/// `AUTH mechanism [initial-response]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// In upper case.
    pub mechanism: String,
    /// As sent, base64: [`sasl::decode_response`](crate::sasl::decode_response) reads it.
    pub initial: Option<Secret>,
}

/// Why a line is no command. The text of each is what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Syntax {
    #[error("Unknown command.")]
    Unknown,
    #[error("Missing or unexpected argument.")]
    Arguments,
    #[error("Not a message number.")]
    Number,
    #[error("Not UTF-8.")]
    NotUtf8,
}

impl Command {
    /// Reads a line without its line end.
    pub fn parse(line: &[u8]) -> Result<Self, Syntax> {
        let end = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
        let (verb, rest) = line.split_at_checked(end).unwrap_or((line, b""));
        let arguments = rest.strip_prefix(b" ");
        match verb.to_ascii_uppercase().as_slice() {
            // A password is everything after the one space (RFC 1939 §7).
            b"PASS" => arguments.map(|password| Self::Pass(Secret::from(password))).ok_or(Syntax::Arguments),
            b"USER" => user(arguments.unwrap_or_default()),
            b"STAT" => bare(Self::Stat, rest),
            b"NOOP" => bare(Self::Noop, rest),
            b"RSET" => bare(Self::Rset, rest),
            b"QUIT" => bare(Self::Quit, rest),
            b"CAPA" => bare(Self::Capa, rest),
            b"STLS" => bare(Self::Stls, rest),
            b"LIST" => optional_number(rest).map(Self::List),
            b"UIDL" => optional_number(rest).map(Self::Uidl),
            b"RETR" => number(rest.trim_ascii()).map(Self::Retr),
            b"DELE" => number(rest.trim_ascii()).map(Self::Dele),
            b"TOP" => top(rest),
            b"AUTH" => auth(rest),
            _ => Err(Syntax::Unknown),
        }
    }

    /// Writes the command as a client sends it, without line end.
    pub fn encode(&self) -> Vec<u8> {
        let numbered = |verb: &str, number: &Option<u32>| match number {
            Some(number) => format!("{verb} {number}"),
            None => verb.to_owned(),
        };
        let text = match self {
            Self::User(name) => format!("USER {name}"),
            Self::Pass(password) => return [b"PASS ", password.as_bytes()].concat(),
            Self::Stat => "STAT".to_owned(),
            Self::List(number) => numbered("LIST", number),
            Self::Retr(number) => format!("RETR {number}"),
            Self::Dele(number) => format!("DELE {number}"),
            Self::Noop => "NOOP".to_owned(),
            Self::Rset => "RSET".to_owned(),
            Self::Quit => "QUIT".to_owned(),
            Self::Top { message, lines } => format!("TOP {message} {lines}"),
            Self::Uidl(number) => numbered("UIDL", number),
            Self::Capa => "CAPA".to_owned(),
            Self::Stls => "STLS".to_owned(),
            Self::Auth(None) => "AUTH".to_owned(),
            Self::Auth(Some(Auth { mechanism, initial: None })) => format!("AUTH {mechanism}"),
            Self::Auth(Some(Auth { mechanism, initial: Some(initial) })) => {
                return [b"AUTH ", mechanism.as_bytes(), b" ", initial.as_bytes()].concat();
            }
        };
        text.into_bytes()
    }
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b' ' || byte == b'\t').filter(|word| !word.is_empty())
}

/// Commands without arguments. White space after them is forgiven.
fn bare(command: Command, rest: &[u8]) -> Result<Command, Syntax> {
    if rest.trim_ascii().is_empty() { Ok(command) } else { Err(Syntax::Arguments) }
}

fn user(name: &[u8]) -> Result<Command, Syntax> {
    let name = std::str::from_utf8(name.trim_ascii()).map_err(|_| Syntax::NotUtf8)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Syntax::Arguments);
    }
    Ok(Command::User(name.to_owned()))
}

fn digits<T: std::str::FromStr>(word: &[u8]) -> Result<T, Syntax> {
    // `parse` would take a plus sign.
    let text = std::str::from_utf8(word).map_err(|_| Syntax::Number)?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Syntax::Number);
    }
    text.parse().map_err(|_| Syntax::Number)
}

/// Messages are numbered from 1.
fn number(word: &[u8]) -> Result<u32, Syntax> {
    if word.is_empty() {
        return Err(Syntax::Arguments);
    }
    digits(word).and_then(|number| if number == 0 { Err(Syntax::Number) } else { Ok(number) })
}

fn optional_number(rest: &[u8]) -> Result<Option<u32>, Syntax> {
    let word = rest.trim_ascii();
    if word.is_empty() { Ok(None) } else { number(word).map(Some) }
}

fn top(rest: &[u8]) -> Result<Command, Syntax> {
    let mut words = words(rest);
    let message = number(words.next().ok_or(Syntax::Arguments)?)?;
    let lines = digits(words.next().ok_or(Syntax::Arguments)?)?;
    if words.next().is_some() {
        return Err(Syntax::Arguments);
    }
    Ok(Command::Top { message, lines })
}

fn auth(rest: &[u8]) -> Result<Command, Syntax> {
    let mut words = words(rest);
    let Some(mechanism) = words.next() else { return Ok(Command::Auth(None)) };
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_';
    if mechanism.len() > 20 || !mechanism.iter().all(named) {
        return Err(Syntax::Arguments);
    }
    let mechanism = String::from_utf8_lossy(mechanism).to_ascii_uppercase();
    let initial = words.next().map(Secret::from);
    if words.next().is_some() {
        return Err(Syntax::Arguments);
    }
    Ok(Command::Auth(Some(Auth { mechanism, initial })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Syntax> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn verbs_are_read_in_any_case() {
        assert_eq!(parse("stat"), Ok(Command::Stat));
        assert_eq!(parse("QUIT "), Ok(Command::Quit));
        assert_eq!(parse("List"), Ok(Command::List(None)));
        assert_eq!(parse("LIST 7"), Ok(Command::List(Some(7))));
        assert_eq!(parse("UIDL 4294967295"), Ok(Command::Uidl(Some(u32::MAX))));
        assert_eq!(parse("TOP 1 0"), Ok(Command::Top { message: 1, lines: 0 }));
        assert_eq!(parse("USER ada@example.org"), Ok(Command::User("ada@example.org".into())));
    }

    #[test]
    fn passwords_keep_their_spaces() {
        assert_eq!(parse("PASS  a b "), Ok(Command::Pass(Secret::from(&b" a b "[..]))));
        assert_eq!(parse("PASS "), Ok(Command::Pass(Secret::from(&b""[..]))));
        assert!(!format!("{:?}", parse("PASS geheim")).contains("geheim"));
    }

    #[test]
    fn auth_takes_a_mechanism_and_an_initial_response() {
        assert_eq!(parse("AUTH"), Ok(Command::Auth(None)));
        let auth = Auth { mechanism: "PLAIN".into(), initial: Some(Secret::from(&b"AGEAYg=="[..])) };
        assert_eq!(parse("auth plain AGEAYg=="), Ok(Command::Auth(Some(auth))));
        assert_eq!(parse("AUTH PL*IN"), Err(Syntax::Arguments));
        assert_eq!(parse("AUTH PLAIN a b"), Err(Syntax::Arguments));
    }

    #[test]
    fn bad_lines_say_what_is_bad() {
        assert_eq!(parse(""), Err(Syntax::Unknown));
        assert_eq!(parse("XYZZY"), Err(Syntax::Unknown));
        assert_eq!(parse("STAT 1"), Err(Syntax::Arguments));
        assert_eq!(parse("RETR"), Err(Syntax::Arguments));
        assert_eq!(parse("RETR 0"), Err(Syntax::Number));
        assert_eq!(parse("RETR +1"), Err(Syntax::Number));
        assert_eq!(parse("RETR 4294967296"), Err(Syntax::Number));
        assert_eq!(parse("TOP 1"), Err(Syntax::Arguments));
        assert_eq!(parse("TOP 1 -1"), Err(Syntax::Number));
        assert_eq!(Command::parse(b"USER \xff"), Err(Syntax::NotUtf8));
        assert_eq!(Command::parse(b"USER a\0b"), Err(Syntax::Arguments));
    }
}
