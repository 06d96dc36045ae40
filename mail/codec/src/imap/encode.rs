//! Responses to bytes.
//!
//! Invariants
//! - Every method writes whole lines, ended by CRLF, that follow RFC 3501 §9 whatever text it is given: what a quoted
//!   string cannot carry travels as a literal, and no text can break a line.
//! - Long lists of numbers are compacted to ranges.

use std::borrow::Cow;
use std::fmt::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use model::{Flag, MailboxName, ModSeq, Uid};

use super::command::{BadCommand, BadKind, IdField, Tag};
use super::mailbox::{NameEncoding, encode_name};
use super::response::{Code, ListAttribute, ListEntry, Namespace, SearchResult, Status, StatusValue};
use super::set::runs;

/// Longest string that is quoted; a longer one travels as a literal.
const QUOTED_BYTES_MAX: usize = 1000;

/// Writes responses at the end of a buffer.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut BytesMut,
    names: NameEncoding,
}

impl<'a> Encoder<'a> {
    pub fn new(out: &'a mut BytesMut, names: NameEncoding) -> Self {
        Self { out, names }
    }

    /// `tag OK [code] text`
    pub fn tagged(&mut self, tag: &Tag, status: Status, code: Option<&Code>, text: &str) {
        put(self.out, format_args!("{tag} "));
        self.status_text(status, code, text);
    }

    /// `* OK [code] text`; greetings and BYE too.
    pub fn untagged(&mut self, status: Status, code: Option<&Code>, text: &str) {
        put(self.out, "* ");
        self.status_text(status, code, text);
    }

    /// The answer to what is no command.
    pub fn bad(&mut self, bad: &BadCommand) {
        let (status, code) = match bad.kind {
            BadKind::Syntax => (Status::Bad, None),
            BadKind::TooBig => (Status::Bad, Some(Code::TooBig)),
            BadKind::MessageTooBig => (Status::No, Some(Code::TooBig)),
            BadKind::UseAttr => (Status::No, Some(Code::UseAttr)),
        };
        match &bad.tag {
            Some(tag) => self.tagged(tag, status, code.as_ref(), &bad.message),
            // Untagged NO is a warning, and would leave the client waiting.
            None => self.untagged(Status::Bad, code.as_ref(), &bad.message),
        }
    }

    /// `+ text`
    pub fn continuation(&mut self, text: &str) {
        put(self.out, "+ ");
        resp_text(self.out, text);
        crlf(self.out);
    }

    /// `+ base64`, a challenge of AUTHENTICATE. Empty is `+ ` (RFC 3501 §9 continue-req).
    pub fn challenge(&mut self, challenge: &[u8]) {
        put(self.out, "+ ");
        put(self.out, STANDARD.encode(challenge));
        crlf(self.out);
    }

    /// `* CAPABILITY IMAP4rev1 ...`
    pub fn capability<S: AsRef<str>>(&mut self, capabilities: &[S]) {
        self.words("* CAPABILITY", capabilities);
    }

    /// `* ENABLED ...`
    pub fn enabled<S: AsRef<str>>(&mut self, capabilities: &[S]) {
        self.words("* ENABLED", capabilities);
    }

    fn words<S: AsRef<str>>(&mut self, start: &str, words: &[S]) {
        put(self.out, start);
        for word in words {
            put(self.out, " ");
            put(self.out, word.as_ref());
        }
        crlf(self.out);
    }

    /// `* ID ...` (RFC 2971). `None` is NIL.
    pub fn id(&mut self, fields: Option<&[IdField]>) {
        put(self.out, "* ID ");
        match fields {
            None => put(self.out, "NIL"),
            Some(fields) => list(self.out, fields, |out, (name, value)| {
                string(out, name.as_bytes());
                put(out, " ");
                nstring(out, value.as_ref().map(String::as_bytes));
            }),
        }
        crlf(self.out);
    }

    pub fn list(&mut self, entry: &ListEntry) {
        self.list_line("LIST", &entry.attributes, &entry.name);
        if entry.child_subscribed || entry.old_name.is_some() {
            put(self.out, " (");
            if entry.child_subscribed {
                put(self.out, "\"CHILDINFO\" (\"SUBSCRIBED\")");
            }
            if let Some(old_name) = &entry.old_name {
                put(self.out, if entry.child_subscribed { " \"OLDNAME\" (" } else { "\"OLDNAME\" (" });
                self.mailbox(old_name);
                put(self.out, ")");
            }
            put(self.out, ")");
        }
        crlf(self.out);
    }

    pub fn lsub(&mut self, attributes: &[ListAttribute], name: &MailboxName) {
        self.list_line("LSUB", attributes, name);
        crlf(self.out);
    }

    /// The answer to `LIST "" ""`: the separator and the root of the reference (RFC 3501 §6.3.8).
    pub fn list_root(&mut self, root: &str) {
        put(self.out, format_args!("* LIST (\\Noselect) \"{}\" ", model::name::SEPARATOR));
        string(self.out, encode_name(root, self.names).as_bytes());
        crlf(self.out);
    }

    fn list_line(&mut self, kind: &str, attributes: &[ListAttribute], name: &MailboxName) {
        put(self.out, format_args!("* {kind} "));
        list(self.out, attributes, |out, attribute| put(out, attribute.as_str()));
        put(self.out, format_args!(" \"{}\" ", model::name::SEPARATOR));
        self.mailbox(name);
    }

    /// `* STATUS mailbox (...)`
    pub fn status(&mut self, name: &MailboxName, values: &[StatusValue]) {
        put(self.out, "* STATUS ");
        self.mailbox(name);
        put(self.out, " ");
        list(self.out, values, |out, value| match value {
            StatusValue::Number(item, number) => put(out, format_args!("{} {number}", item.as_str())),
            StatusValue::MailboxId(id) => put(out, format_args!("MAILBOXID ({id})")),
        });
        crlf(self.out);
    }

    /// `* FLAGS (...)`: the flags that the mailbox knows.
    pub fn flags(&mut self, flags: &[Flag]) {
        put(self.out, "* FLAGS ");
        list(self.out, flags, |out, flag| put(out, flag.as_str()));
        crlf(self.out);
    }

    pub fn exists(&mut self, count: u32) {
        put(self.out, format_args!("* {count} EXISTS\r\n"));
    }

    pub fn recent(&mut self, count: u32) {
        put(self.out, format_args!("* {count} RECENT\r\n"));
    }

    pub fn expunge(&mut self, number: u32) {
        put(self.out, format_args!("* {number} EXPUNGE\r\n"));
    }

    /// `* VANISHED uids` and `* VANISHED (EARLIER) uids` (RFC 7162 §3.2.10). Nothing when there are none.
    pub fn vanished(&mut self, earlier: bool, uids: &[Uid]) {
        if uids.is_empty() {
            return;
        }
        put(self.out, if earlier { "* VANISHED (EARLIER) " } else { "* VANISHED " });
        number_set(self.out, uids.iter().map(|uid| uid.get()));
        crlf(self.out);
    }

    /// `* SEARCH ...`, with `modseq` when the search asked for it (RFC 7162 §3.1.5).
    pub fn search(&mut self, numbers: impl IntoIterator<Item = u32>, modseq: Option<ModSeq>) {
        put(self.out, "* SEARCH");
        for number in numbers {
            put(self.out, format_args!(" {number}"));
        }
        if let Some(modseq) = modseq {
            put(self.out, format_args!(" (MODSEQ {modseq})"));
        }
        crlf(self.out);
    }

    /// `* ESEARCH (TAG "a") UID ...` (RFC 4731).
    pub fn esearch(&mut self, tag: &Tag, uid: bool, result: &SearchResult) {
        put(self.out, "* ESEARCH (TAG ");
        string(self.out, tag.as_str().as_bytes());
        put(self.out, if uid { ") UID" } else { ")" });
        for (name, number) in [("MIN", result.min), ("MAX", result.max), ("COUNT", result.count)] {
            if let Some(number) = number {
                put(self.out, format_args!(" {name} {number}"));
            }
        }
        if let Some(all) = result.all.as_ref().filter(|all| !all.is_empty()) {
            put(self.out, " ALL ");
            number_set(self.out, all.iter().copied());
        }
        if let Some(modseq) = result.modseq {
            put(self.out, format_args!(" MODSEQ {modseq}"));
        }
        crlf(self.out);
    }

    /// Personal, other users', shared (RFC 2342). Empty is NIL.
    pub fn namespace(&mut self, personal: &[Namespace], others: &[Namespace], shared: &[Namespace]) {
        put(self.out, "* NAMESPACE");
        for kind in [personal, others, shared] {
            put(self.out, " ");
            if kind.is_empty() {
                put(self.out, "NIL");
                continue;
            }
            put(self.out, "(");
            for namespace in kind {
                put(self.out, "(");
                string(self.out, encode_name(&namespace.prefix, self.names).as_bytes());
                put(self.out, " ");
                string(self.out, namespace.separator.to_string().as_bytes());
                put(self.out, ")");
            }
            put(self.out, ")");
        }
        crlf(self.out);
    }

    fn mailbox(&mut self, name: &MailboxName) {
        let name = encode_name(name.as_str(), self.names);
        match self.names {
            NameEncoding::ModifiedUtf7 => string(self.out, name.as_bytes()),
            // RFC 6855 §3: quoted strings carry UTF-8. A name has no control character.
            NameEncoding::Utf8 => quoted(self.out, name.as_bytes()),
        }
    }

    fn status_text(&mut self, status: Status, code: Option<&Code>, text: &str) {
        put(self.out, status.as_str());
        put(self.out, " ");
        if let Some(code) = code {
            put(self.out, "[");
            put_code(self.out, code);
            put(self.out, "] ");
        }
        resp_text(self.out, text);
        crlf(self.out);
    }
}

fn put_code(out: &mut BytesMut, code: &Code) {
    match code {
        Code::BadCharset(charsets) => {
            put(out, "BADCHARSET ");
            list(out, charsets, |out, charset| string(out, charset.as_bytes()));
        }
        Code::Capability(capabilities) => {
            put(out, "CAPABILITY");
            capabilities.iter().for_each(|capability| put(out, format_args!(" {capability}")));
        }
        Code::PermanentFlags { flags, star } => {
            put(out, "PERMANENTFLAGS ");
            let words = flags.iter().map(Flag::as_str).chain(star.then_some("\\*"));
            list(out, words, put);
        }
        Code::UidNext(uid) => put(out, format_args!("UIDNEXT {uid}")),
        Code::UidValidity(value) => put(out, format_args!("UIDVALIDITY {value}")),
        Code::Unseen(number) => put(out, format_args!("UNSEEN {number}")),
        Code::AppendUid { uid_validity, uid } => put(out, format_args!("APPENDUID {uid_validity} {uid}")),
        Code::CopyUid { uid_validity, source, copies } => {
            put(out, format_args!("COPYUID {uid_validity} "));
            number_set(out, source.iter().map(|uid| uid.get()));
            put(out, " ");
            number_set(out, copies.iter().map(|uid| uid.get()));
        }
        Code::HighestModSeq(modseq) => put(out, format_args!("HIGHESTMODSEQ {modseq}")),
        Code::Modified(numbers) => {
            put(out, "MODIFIED ");
            number_set(out, numbers.iter().copied());
        }
        Code::MailboxId(id) => put(out, format_args!("MAILBOXID ({id})")),
        Code::Alert => put(out, "ALERT"),
        Code::Parse => put(out, "PARSE"),
        Code::ReadOnly => put(out, "READ-ONLY"),
        Code::ReadWrite => put(out, "READ-WRITE"),
        Code::TryCreate => put(out, "TRYCREATE"),
        Code::UidNotSticky => put(out, "UIDNOTSTICKY"),
        Code::NoModSeq => put(out, "NOMODSEQ"),
        Code::Closed => put(out, "CLOSED"),
        Code::Unavailable => put(out, "UNAVAILABLE"),
        Code::AuthenticationFailed => put(out, "AUTHENTICATIONFAILED"),
        Code::AuthorizationFailed => put(out, "AUTHORIZATIONFAILED"),
        Code::Expired => put(out, "EXPIRED"),
        Code::PrivacyRequired => put(out, "PRIVACYREQUIRED"),
        Code::ContactAdmin => put(out, "CONTACTADMIN"),
        Code::NoPerm => put(out, "NOPERM"),
        Code::InUse => put(out, "INUSE"),
        Code::ExpungeIssued => put(out, "EXPUNGEISSUED"),
        Code::Corruption => put(out, "CORRUPTION"),
        Code::ServerBug => put(out, "SERVERBUG"),
        Code::ClientBug => put(out, "CLIENTBUG"),
        Code::Cannot => put(out, "CANNOT"),
        Code::Limit => put(out, "LIMIT"),
        Code::OverQuota => put(out, "OVERQUOTA"),
        Code::AlreadyExists => put(out, "ALREADYEXISTS"),
        Code::Nonexistent => put(out, "NONEXISTENT"),
        Code::TooBig => put(out, "TOOBIG"),
        Code::UseAttr => put(out, "USEATTR"),
    }
}

pub(super) fn put(out: &mut BytesMut, text: impl fmt::Display) {
    // A BytesMut grows, so it never refuses.
    let _ = write!(out, "{text}");
}

pub(super) fn crlf(out: &mut BytesMut) {
    out.extend_from_slice(b"\r\n");
}

/// `(a b c)`
pub(super) fn list<I: IntoIterator>(
    out: &mut BytesMut,
    items: I,
    mut item: impl FnMut(&mut BytesMut, I::Item),
) {
    out.extend_from_slice(b"(");
    for (index, each) in items.into_iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b" ");
        }
        item(out, each);
    }
    out.extend_from_slice(b")");
}

/// `1:3,7`. Numbers in the given order; there is at least one.
pub(super) fn number_set(out: &mut BytesMut, numbers: impl IntoIterator<Item = u32>) {
    for (index, (first, last)) in runs(numbers).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        if first == last {
            put(out, format_args!("{comma}{first}"));
        } else {
            put(out, format_args!("{comma}{first}:{last}"));
        }
    }
}

/// Human-readable text: one line of printable ASCII, not empty, and never taken for a code.
fn resp_text(out: &mut BytesMut, text: &str) {
    if text.is_empty() || text.starts_with('[') {
        out.extend_from_slice(b".");
    }
    out.extend(
        text.chars().map(|character| if (' '..='~').contains(&character) { character as u8 } else { b'?' }),
    );
}

/// Quoted where that is possible, else a literal.
pub(super) fn string(out: &mut BytesMut, bytes: &[u8]) {
    let printable = |byte: &u8| (0x20..0x7f).contains(byte);
    if bytes.len() <= QUOTED_BYTES_MAX && bytes.iter().all(printable) {
        quoted(out, bytes);
    } else {
        put(out, format_args!("{{{}}}\r\n", bytes.len()));
        octets(out, bytes);
    }
}

pub(super) fn nstring(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => string(out, bytes),
        None => out.extend_from_slice(b"NIL"),
    }
}

pub(super) fn quoted(out: &mut BytesMut, bytes: &[u8]) {
    out.extend_from_slice(b"\"");
    for byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            out.extend_from_slice(b"\\");
        }
        out.extend_from_slice(&[*byte]);
    }
    out.extend_from_slice(b"\"");
}

/// The inside of a literal. It cannot carry NUL (RFC 3501 §4.3), and its length is announced already: NUL becomes
/// 0x80, as other servers write it.
pub(super) fn octets(out: &mut BytesMut, bytes: &[u8]) {
    let from = out.len();
    out.extend_from_slice(bytes);
    if memchr::memchr(0, bytes).is_some() {
        let written = out.get_mut(from..).unwrap_or_default();
        written.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 0x80);
    }
}

/// As it stands when it is an atom, else as a string.
pub(super) fn astring(text: &str) -> Cow<'_, str> {
    if !text.is_empty() && text.bytes().all(super::parse::is_astring_char) {
        return Cow::Borrowed(text);
    }
    let mut out = BytesMut::new();
    string(&mut out, text.as_bytes());
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}
