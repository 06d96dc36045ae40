//! LMTP commands (RFC 2033 §4, RFC 5321 §4.1, RFC 3030 §2).

use super::{Address, BadAddress, Reply};

/// Longest command line without its line end. RFC 5321 §4.5.3.1.4 asks for 512; extensions add to it.
pub const COMMAND_BYTES_MAX: usize = 4096;

/// What the client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Lhlo(String),
    Mail(Mail),
    Rcpt(Address),
    Data,
    /// So many octets follow, whatever they are (RFC 3030 §2).
    Bdat {
        size: u64,
        last: bool,
    },
    Rset,
    Noop,
    Quit,
    Vrfy,
    StartTls,
}

/// `MAIL FROM:<...>` with the parameters we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// `None` is the null path of bounces.
    pub from: Option<Address>,
    /// Octets the message will have, as far as the client knows (RFC 1870).
    pub size: Option<u64>,
    pub body: Option<Body>,
    /// RFC 6531.
    pub smtputf8: bool,
}

/// RFC 6152, RFC 3030.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    SevenBit,
    EightBitMime,
    BinaryMime,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Syntax {
    #[error("Unknown command")]
    Unknown,
    /// This is no SMTP (RFC 2033 §4.1).
    #[error("This is LMTP: say LHLO")]
    NotSmtp,
    #[error("Missing or malformed argument")]
    Arguments,
    #[error("Malformed sender address")]
    Sender,
    #[error("Malformed recipient address")]
    Recipient,
    #[error("Parameter not known")]
    Parameter,
    #[error("Not UTF-8")]
    NotUtf8,
}

impl Syntax {
    /// What the client is told.
    pub fn reply(self) -> Reply {
        let (code, enhanced) = match self {
            Self::Unknown | Self::NotSmtp => (500, "5.5.1"),
            Self::Arguments => (501, "5.5.4"),
            Self::Sender => (501, "5.1.7"),
            Self::Recipient => (501, "5.1.3"),
            Self::Parameter => (555, "5.5.4"),
            Self::NotUtf8 => (500, "5.5.2"),
        };
        Reply::new(code, Some(enhanced), self.to_string())
    }
}

impl Command {
    /// Reads a line without its line end.
    pub fn parse(line: &[u8]) -> Result<Self, Syntax> {
        let line = std::str::from_utf8(line).map_err(|_| Syntax::NotUtf8)?.trim_end_matches([' ', '\t']);
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start_matches(' ');
        match verb.to_ascii_uppercase().as_str() {
            "LHLO" => lhlo(rest),
            "HELO" | "EHLO" => Err(Syntax::NotSmtp),
            "MAIL" => mail(rest),
            "RCPT" => rcpt(rest),
            "BDAT" => bdat(rest),
            "DATA" => bare(Self::Data, rest),
            "RSET" => bare(Self::Rset, rest),
            "QUIT" => bare(Self::Quit, rest),
            "STARTTLS" => bare(Self::StartTls, rest),
            // RFC 5321 §4.1.1.9: the argument of NOOP is ignored.
            "NOOP" => Ok(Self::Noop),
            "VRFY" if !rest.is_empty() => Ok(Self::Vrfy),
            "VRFY" => Err(Syntax::Arguments),
            _ => Err(Syntax::Unknown),
        }
    }

    /// Writes the command as a client sends it, without line end.
    pub fn encode(&self) -> String {
        match self {
            Self::Lhlo(name) => format!("LHLO {name}"),
            Self::Mail(mail) => mail.encode(),
            Self::Rcpt(address) => format!("RCPT TO:<{address}>"),
            Self::Data => "DATA".to_owned(),
            Self::Bdat { size, last } => format!("BDAT {size}{}", if *last { " LAST" } else { "" }),
            Self::Rset => "RSET".to_owned(),
            Self::Noop => "NOOP".to_owned(),
            Self::Quit => "QUIT".to_owned(),
            Self::Vrfy => "VRFY x".to_owned(),
            Self::StartTls => "STARTTLS".to_owned(),
        }
    }
}

impl Mail {
    fn encode(&self) -> String {
        let from = self.from.as_ref().map(Address::to_string).unwrap_or_default();
        let size = self.size.map(|size| format!(" SIZE={size}")).unwrap_or_default();
        let body = match self.body {
            None => "",
            Some(Body::SevenBit) => " BODY=7BIT",
            Some(Body::EightBitMime) => " BODY=8BITMIME",
            Some(Body::BinaryMime) => " BODY=BINARYMIME",
        };
        let utf8 = if self.smtputf8 { " SMTPUTF8" } else { "" };
        format!("MAIL FROM:<{from}>{size}{body}{utf8}")
    }
}

fn bare(command: Command, rest: &str) -> Result<Command, Syntax> {
    if rest.is_empty() { Ok(command) } else { Err(Syntax::Arguments) }
}

fn lhlo(name: &str) -> Result<Command, Syntax> {
    let named = !name.is_empty() && name.len() <= 255 && !name.chars().any(|c| c.is_control() || c == ' ');
    if named { Ok(Command::Lhlo(name.to_owned())) } else { Err(Syntax::Arguments) }
}

/// Takes `FROM:` or `TO:`; white space after the colon is forgiven.
fn after_keyword<'t>(text: &'t str, keyword: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(keyword.len())?;
    start.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

/// Splits ` NAME=value NAME` into its words.
fn parameters(rest: &str) -> Result<impl Iterator<Item = (String, &str)>, Syntax> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(Syntax::Arguments);
    }
    let words = rest.split(' ').filter(|word| !word.is_empty());
    Ok(words.map(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        (name.to_ascii_uppercase(), value)
    }))
}

fn mail(rest: &str) -> Result<Command, Syntax> {
    let path = after_keyword(rest, "FROM:").ok_or(Syntax::Arguments)?;
    let (from, rest) = Address::parse_path(path).map_err(|BadAddress| Syntax::Sender)?;
    let mut mail = Mail { from, size: None, body: None, smtputf8: false };
    for (name, value) in parameters(rest)? {
        match name.as_str() {
            "SIZE" => mail.size = Some(digits(value)?),
            "BODY" => mail.body = Some(body(value)?),
            "SMTPUTF8" if value.is_empty() => mail.smtputf8 = true,
            // What others vouch for, and how bounces look, is the MTA's; it need not be told that we forget it.
            "AUTH" | "RET" | "ENVID" => {}
            _ => return Err(Syntax::Parameter),
        }
    }
    Ok(Command::Mail(mail))
}

fn body(value: &str) -> Result<Body, Syntax> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(Body::SevenBit),
        "8BITMIME" => Ok(Body::EightBitMime),
        "BINARYMIME" => Ok(Body::BinaryMime),
        _ => Err(Syntax::Arguments),
    }
}

fn rcpt(rest: &str) -> Result<Command, Syntax> {
    let path = after_keyword(rest, "TO:").ok_or(Syntax::Arguments)?;
    let (to, rest) = Address::parse_path(path).map_err(|BadAddress| Syntax::Recipient)?;
    for (name, _) in parameters(rest)? {
        match name.as_str() {
            // Delivery reports are the MTA's (RFC 3461).
            "NOTIFY" | "ORCPT" => {}
            _ => return Err(Syntax::Parameter),
        }
    }
    to.map(Command::Rcpt).ok_or(Syntax::Recipient)
}

fn digits(text: &str) -> Result<u64, Syntax> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Syntax::Arguments);
    }
    text.parse().map_err(|_| Syntax::Arguments)
}

fn bdat(rest: &str) -> Result<Command, Syntax> {
    let (size, last) = match rest.split_once(' ') {
        Some((size, last)) if last.trim_start_matches(' ').eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return Err(Syntax::Arguments),
        None => (rest, false),
    };
    Ok(Command::Bdat { size: digits(size)?, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Syntax> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn commands_are_read_in_any_case() {
        assert_eq!(parse("lhlo mx.example.org"), Ok(Command::Lhlo("mx.example.org".into())));
        assert_eq!(parse("DATA"), Ok(Command::Data));
        assert_eq!(parse("data "), Ok(Command::Data));
        assert_eq!(parse("NOOP whatever"), Ok(Command::Noop));
        assert_eq!(parse("BDAT 1000"), Ok(Command::Bdat { size: 1000, last: false }));
        assert_eq!(parse("bdat 0 last"), Ok(Command::Bdat { size: 0, last: true }));
        assert_eq!(parse("StartTLS"), Ok(Command::StartTls));
    }

    #[test]
    fn senders_come_with_parameters() {
        let Ok(Command::Mail(mail)) = parse("MAIL FROM:<a@b> SIZE=12 body=8bitmime SMTPUTF8 RET=HDRS") else {
            panic!()
        };
        assert_eq!((mail.size, mail.body, mail.smtputf8), (Some(12), Some(Body::EightBitMime), true));
        let Ok(Command::Mail(mail)) = parse("mail from: <>") else { panic!() };
        assert_eq!(mail.from, None);
        assert_eq!(parse("MAIL FROM:<a@b>SIZE=1"), Err(Syntax::Arguments));
        assert_eq!(parse("MAIL FROM:<a@b> SIZE=x"), Err(Syntax::Arguments));
        assert_eq!(parse("MAIL FROM:<a@b> FUTURE=1"), Err(Syntax::Parameter));
        assert_eq!(parse("MAIL FROM:a@b"), Err(Syntax::Sender));
        assert_eq!(parse("MAIL"), Err(Syntax::Arguments));
    }

    #[test]
    fn recipients_are_never_null() {
        assert!(matches!(parse("RCPT TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a@b"), Ok(Command::Rcpt(_))));
        assert_eq!(parse("RCPT TO:<>"), Err(Syntax::Recipient));
        assert_eq!(parse("RCPT TO:<a@b> X=1"), Err(Syntax::Parameter));
    }

    #[test]
    fn bad_lines_have_replies() {
        assert_eq!(parse("EHLO x"), Err(Syntax::NotSmtp));
        assert_eq!(parse(""), Err(Syntax::Unknown));
        assert_eq!(parse("BDAT -1"), Err(Syntax::Arguments));
        assert_eq!(parse("BDAT 99999999999999999999"), Err(Syntax::Arguments));
        assert_eq!(parse("BDAT 1 FIRST"), Err(Syntax::Arguments));
        assert_eq!(parse("LHLO"), Err(Syntax::Arguments));
        assert_eq!(Command::parse(b"LHLO \xff"), Err(Syntax::NotUtf8));
        assert_eq!(Syntax::NotSmtp.reply().code, 500);
    }
}
