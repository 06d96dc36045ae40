//! FIELDS of `roost fetch`, named as doveadm names them, and where each value comes from.

use std::sync::Arc;

use account::reader::{Described, Reader};
use account::{MailboxView, MessageView};
use bytes::BytesMut;
use codec::imap::FetchWriter;
use message::section::{self, Kind};
use model::MailboxName;
use session::pop3::UidlFormat;
use store::body::Body;

use super::exit::Failure;
use super::found::unreadable;
use super::when;

/// Octets read at a time.
pub(crate) const CHUNK: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    User,
    Mailbox,
    MailboxGuid,
    Seq,
    Uid,
    Guid,
    Flags,
    ModSeq,
    Headers,
    Header(String),
    Body,
    Section(Vec<u32>, Kind),
    Text,
    SizePhysical,
    SizeVirtual,
    Date(Moment, Written),
    Envelope,
    BodyShort,
    BodyStructure,
    Uidl,
    StorageId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Received,
    Sent,
    Saved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    ForEyes,
    UnixTime,
}

const KNOWN: &str = "user mailbox mailbox-guid seq uid guid flags modseq hdr hdr.NAME body body.SECTION text \
                     size.physical size.virtual date.received date.sent date.saved (and .unixtime of each) \
                     imap.envelope imap.body imap.bodystructure pop3.uidl storageid";

/// Reads FIELDS; names are kept as they were typed.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, Field)>, Failure> {
    let mut fields: Vec<(String, Field)> = Vec::new();
    for name in text.split([' ', ',']).filter(|name| !name.is_empty()) {
        let Some(field) = field(name) else {
            return Err(Failure::usage(format!("{name} is no field; known are {KNOWN}")));
        };
        if !fields.iter().any(|(_, known)| *known == field) {
            fields.push((name.to_owned(), field));
        }
    }
    if fields.is_empty() { Err(Failure::usage(format!("write the FIELDS: {KNOWN}"))) } else { Ok(fields) }
}

fn field(name: &str) -> Option<Field> {
    let lower = name.to_ascii_lowercase();
    if let Some(header) = lower.strip_prefix("hdr.") {
        let good = !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        return good.then(|| Field::Header(header.to_owned()));
    }
    if let Some(section) = lower.strip_prefix("body.") {
        return parse_section(section);
    }
    let (base, written) = match lower.strip_suffix(".unixtime") {
        Some(base) => (base, Written::UnixTime),
        None => (lower.as_str(), Written::ForEyes),
    };
    let moment = match base {
        "date.received" => Some(Moment::Received),
        "date.sent" => Some(Moment::Sent),
        "date.saved" => Some(Moment::Saved),
        _ => None,
    };
    if let Some(moment) = moment {
        return Some(Field::Date(moment, written));
    }
    Some(match lower.as_str() {
        "user" => Field::User,
        "mailbox" => Field::Mailbox,
        "mailbox-guid" => Field::MailboxGuid,
        "seq" => Field::Seq,
        "uid" => Field::Uid,
        "guid" => Field::Guid,
        "flags" => Field::Flags,
        "modseq" => Field::ModSeq,
        "hdr" => Field::Headers,
        "body" => Field::Body,
        "text" => Field::Text,
        "size.physical" => Field::SizePhysical,
        "size.virtual" => Field::SizeVirtual,
        "imap.envelope" => Field::Envelope,
        "imap.body" => Field::BodyShort,
        "imap.bodystructure" => Field::BodyStructure,
        "pop3.uidl" => Field::Uidl,
        "storageid" => Field::StorageId,
        _ => return None,
    })
}

/// `1.2`, `1.2.mime`, `header`.
fn parse_section(text: &str) -> Option<Field> {
    let mut path = Vec::new();
    let mut kind = Kind::Whole;
    for part in text.split('.') {
        match part.parse::<u32>() {
            Ok(number) if number > 0 && kind == Kind::Whole && path.len() < 100 => path.push(number),
            Ok(_) => return None,
            Err(_) if kind != Kind::Whole => return None,
            Err(_) => {
                kind = match part {
                    "header" => Kind::Header,
                    "text" => Kind::Text,
                    "mime" => Kind::Mime,
                    _ => return None,
                }
            }
        }
    }
    Some(Field::Section(path, kind))
}

/// What a field is of one message.
pub(crate) enum Value {
    Text(String),
    Number(u64),
    List(Vec<String>),
    /// Wire octets of the message.
    Octets {
        offset: u64,
        length: u64,
    },
    /// The message has nothing of the kind.
    Missing,
}

/// One message whose fields are wanted.
pub(crate) struct Source<'a> {
    pub(crate) user: &'a str,
    pub(crate) name: &'a MailboxName,
    pub(crate) view: &'a MailboxView,
    pub(crate) message: &'a MessageView,
    pub(crate) reader: &'a Reader,
    pub(crate) uidl: &'a UidlFormat,
    pub(crate) described: Option<Arc<Described>>,
    pub(crate) body: Option<Body>,
}

impl Source<'_> {
    pub(crate) fn value(&mut self, field: &Field) -> Result<Value, Failure> {
        let message = self.message;
        Ok(match field {
            Field::User => Value::Text(self.user.to_owned()),
            Field::Mailbox => Value::Text(self.name.as_str().to_owned()),
            Field::MailboxGuid => Value::Text(self.view.id.to_string()),
            Field::Seq => Value::Number(self.view.rank_of(message.uid).map_or(0, |rank| u64::from(rank) + 1)),
            Field::Uid => Value::Number(u64::from(message.uid.get())),
            Field::Guid => Value::Text(message.message.to_string()),
            Field::Flags => Value::List(flags(message)),
            Field::ModSeq => Value::Number(message.modseq.0),
            Field::SizePhysical => Value::Number(message.size),
            Field::SizeVirtual => Value::Number(message.wire_size),
            Field::Date(Moment::Sent, written) => self.sent(*written)?,
            Field::Date(Moment::Received, written) => date(message.internal_date, *written),
            Field::Date(Moment::Saved, written) => date(message.save_date, *written),
            Field::Uidl => Value::Text(self.uidl.uidl(self.view.uid_validity, message)),
            Field::StorageId => Value::Text(message.base.to_string()),
            Field::Text => Value::Octets { offset: 0, length: message.wire_size },
            Field::Headers => self.section(&[], Kind::Header)?,
            Field::Body => self.section(&[], Kind::Text)?,
            Field::Section(path, kind) => self.section(path, *kind)?,
            Field::Header(name) => self.header(name)?,
            Field::Envelope | Field::BodyShort | Field::BodyStructure => self.structure(field)?,
        })
    }

    fn describe(&mut self) -> Result<Arc<Described>, Failure> {
        if let Some(described) = &self.described {
            return Ok(Arc::clone(described));
        }
        let described = self.reader.describe(self.view.id, self.message);
        let described = described.map_err(|error| unreadable(self.name, self.message, error))?;
        self.described = Some(Arc::clone(&described));
        Ok(described)
    }

    /// Wire octets, at most a chunk; fewer only at the end.
    pub(crate) fn read(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, Failure> {
        if self.body.is_none() {
            let opened = self.reader.open(self.view.id, self.message);
            self.body = Some(opened.map_err(|error| unreadable(self.name, self.message, error))?);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(CHUNK);
        let Some(body) = &mut self.body else { return Ok(Vec::new()) };
        body.read_wire(offset, length).map_err(|error| unreadable(self.name, self.message, error.into()))
    }

    fn section(&mut self, path: &[u32], kind: Kind) -> Result<Value, Failure> {
        let described = self.describe()?;
        let span = section::span(&described.message, path, kind);
        Ok(span.map_or(Value::Missing, |span| Value::Octets { offset: span.offset, length: span.len }))
    }

    /// All fields of this name, unfolded, each on a line; MIME words as they stand there.
    fn header(&mut self, name: &str) -> Result<Value, Failure> {
        /// Of one value. What is longer is cut.
        const VALUE_BYTES_MAX: usize = 64 << 10;
        let described = self.describe()?;
        let read;
        let header = match &described.header {
            Some(header) => &header[..],
            None => {
                let span = described.message.root.header;
                let mut octets = Vec::new();
                while (octets.len() as u64) < span.len {
                    let more =
                        self.read(span.offset + octets.len() as u64, span.len - octets.len() as u64)?;
                    if more.is_empty() {
                        break;
                    }
                    octets.extend_from_slice(&more);
                }
                read = octets;
                &read
            }
        };
        let fields = message::header::fields(header).filter(|field| field.is(name.as_bytes()));
        let values: Vec<_> = fields.map(|field| field.unfolded(VALUE_BYTES_MAX)).collect();
        Ok(match values.as_slice() {
            [] => Value::Missing,
            values => Value::Text(String::from_utf8_lossy(&values.join(&b'\n')).into_owned()),
        })
    }

    fn sent(&mut self, written: Written) -> Result<Value, Failure> {
        let described = self.describe()?;
        let date = described.message.envelope.date.as_deref().and_then(message::date::parse);
        Ok(match (date, written) {
            (None, _) => Value::Missing,
            (Some(date), Written::UnixTime) => unix_time(date.unix),
            (Some(date), Written::ForEyes) => Value::Text(when::text_in_zone(date.unix, date.zone_minutes)),
        })
    }

    /// As a FETCH response has it, without its name.
    fn structure(&mut self, field: &Field) -> Result<Value, Failure> {
        let described = self.describe()?;
        let mut out = BytesMut::new();
        let mut writer = FetchWriter::begin(&mut out, 1);
        if *field == Field::Envelope {
            writer.envelope(&mut out, &described.message.envelope);
        } else if *field == Field::BodyShort {
            writer.body(&mut out, &described.message.root);
        } else {
            writer.body_structure(&mut out, &described.message.root);
        }
        writer.end(&mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        // `* 1 FETCH (ENVELOPE (...))`
        let inner = text.split_once('(').and_then(|(_, item)| item.split_once(' ')).map(|(_, value)| value);
        let inner = inner.and_then(|value| value.trim_end().strip_suffix(')'));
        Ok(inner.map_or(Value::Missing, |value| Value::Text(value.to_owned())))
    }
}

pub(crate) fn flags(message: &MessageView) -> Vec<String> {
    let system = message.flags.iter().map(|flag| flag.as_str().to_owned());
    let keywords = message.keywords.iter().flat_map(|keywords| keywords.iter());
    system.chain(keywords.map(|keyword| keyword.as_str().to_owned())).collect()
}

fn date(unix_s: i64, written: Written) -> Value {
    match written {
        Written::ForEyes => Value::Text(when::text(unix_s)),
        Written::UnixTime => unix_time(unix_s),
    }
}

/// JSON has numbers below zero too, but nobody's mail is from before 1970.
fn unix_time(unix_s: i64) -> Value {
    u64::try_from(unix_s).map_or_else(|_| Value::Text(unix_s.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_as_doveadm_names_them() {
        let names = "uid hdr.Subject body.1.2.mime body.header date.saved.unixtime UID text";
        let fields: Vec<_> = parse(names).unwrap().into_iter().map(|(_, field)| field).collect();
        let expected = [
            Field::Uid,
            Field::Header("subject".into()),
            Field::Section(vec![1, 2], Kind::Mime),
            Field::Section(vec![], Kind::Header),
            Field::Date(Moment::Saved, Written::UnixTime),
            Field::Text,
        ];
        assert_eq!(fields, expected);
        for bad in ["", "nonsense", "hdr.", "hdr.a:b", "body.0", "body.mime.1", "date.sent.x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
