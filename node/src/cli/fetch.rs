//! `roost fetch`
//!
//! Prints `field: value`, one a line; what has lines of its own begins on the line after `field:`. A form feed on a line
//! of its own stands between messages. Messages go out in pieces, however long they are.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;
use session::pop3::UidlFormat;

use super::about::{About, Shape};
use super::choose::{One, Place, Whom, choose, open};
use super::exit::{Exit, Failure};
use super::fields::{self, Field, Source, Value};
use super::found::{Found, search};
use super::output::{Blocking, Context};
use super::query::Typed;
use crate::time;

/// Print fields of messages
#[derive(Debug, Args)]
#[command(override_usage = "roost fetch [OPTIONS] <USER> <FIELDS> <QUERY>...\n       \
                            roost fetch [OPTIONS] -A <FIELDS> <QUERY>...")]
pub(crate) struct FetchArgs {
    #[command(flatten)]
    whom: Whom,
    /// How to print: a line for each field, or a line for each message
    #[arg(short = 'f', long, value_enum, default_value = "pager")]
    format: Layout,
    /// The user, fields such as 'uid flags hdr.subject text', then IMAP search keys and MAILBOX NAME
    #[arg(value_names = ["USER", "FIELDS", "QUERY"], num_args = 1.., required = true)]
    words: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layout {
    Pager,
    /// `field=value field=value`
    Flow,
    /// Names in the first line, values between tabs
    Tab,
    Json,
}

impl FetchArgs {
    pub(crate) fn about(&self) -> About<'_> {
        let shape = if self.format == Layout::Json { Shape::List } else { Shape::ListIfJson };
        About::Chosen { whom: &self.whom, words: &self.words, place: Place::First, shape }
    }
}

pub(crate) async fn run(context: &Context, args: &FetchArgs) -> Result<Exit, Failure> {
    let chosen = choose(context, &args.whom, &args.words, Place::First).await?;
    let Some((names, query)) = chosen.rest.split_first() else {
        return Err(Failure::usage("write the FIELDS, such as 'uid flags hdr.subject'"));
    };
    let mut wanted = fields::parse(names)?;
    if chosen.many && !wanted.iter().any(|(_, field)| *field == Field::User) {
        wanted.insert(0, ("user".into(), Field::User));
    }
    let typed = Typed::parse(query, time::unix_s())?;
    let layout = if context.json { Layout::Json } else { args.format };
    let uidl = Arc::new(UidlFormat::read(&context.running.config.quirks.pop3_uidl_format));
    let mut printer = Printer {
        out: context.out.blocking(),
        layout,
        fields: wanted,
        uidl,
        printed: u64::from(context.is_continued() && layout != Layout::Json),
    };
    let mut exit = Exit::Ok;
    let many = chosen.many;
    for record in chosen.users {
        let fetched = match open(context, record, many).await {
            Ok(one) => {
                let typed = typed.clone();
                let task = move || {
                    let fetched = fetch(&one, &typed, &mut printer);
                    (printer, fetched)
                };
                let (back, fetched) = tokio::task::spawn_blocking(task).await?;
                printer = back;
                fetched
            }
            Err(failure) => Err(failure),
        };
        match fetched {
            Ok(Exit::Ok) => {}
            Ok(other) => exit = other,
            Err(failure) if many => {
                context.out.warn(&failure).await?;
                exit = if exit == Exit::Ok { failure.exit } else { exit };
            }
            Err(failure) => return Err(failure),
        }
    }
    if layout == Layout::Json {
        context.out.print(if printer.printed == 0 { "[]\n" } else { "\n]\n" }).await?;
    }
    Ok(exit)
}

/// One user's messages. What cannot be read is told and passed over.
fn fetch(one: &One, typed: &Typed, printer: &mut Printer) -> Result<Exit, Failure> {
    let (snapshot, reader) = (one.snapshot()?, one.reader()?);
    let uidl = Arc::clone(&printer.uidl);
    let mut exit = Exit::Ok;
    for Found { name, view, messages } in search(&snapshot, &reader, typed)? {
        for message in &messages {
            let mut source = Source {
                user: one.name(),
                name: &name,
                view: &view,
                message,
                reader: &reader,
                uidl: &uidl,
                described: None,
                body: None,
            };
            let fields = printer.fields.clone();
            let values = fields.iter().map(|(_, field)| source.value(field)).collect::<Result<Vec<_>, _>>();
            match values {
                Ok(values) => printer.message(&mut source, &values)?,
                Err(failure) => {
                    printer.out.warn(&failure)?;
                    exit = failure.exit;
                }
            }
        }
    }
    Ok(exit)
}

struct Printer {
    out: Blocking,
    layout: Layout,
    fields: Vec<(String, Field)>,
    /// How POP3 calls messages here.
    uidl: Arc<UidlFormat>,
    printed: u64,
}

impl Printer {
    fn message(&mut self, source: &mut Source<'_>, values: &[Value]) -> Result<(), Failure> {
        match self.layout {
            Layout::Pager => self.pager(source, values)?,
            Layout::Flow => {
                let pairs = self.fields.iter().zip(values);
                let pairs =
                    pairs.map(|((name, _), value)| Ok(format!("{name}={}", one_line(source, value)?)));
                let line = pairs.collect::<Result<Vec<_>, Failure>>()?.join(" ");
                self.out.print(format!("{line}\n"))?;
            }
            Layout::Tab => {
                if self.printed == 0 {
                    let names: Vec<_> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
                    self.out.print(format!("{}\n", names.join("\t")))?;
                }
                let cells = values.iter().map(|value| one_line(source, value));
                self.out.print(format!("{}\n", cells.collect::<Result<Vec<_>, _>>()?.join("\t")))?;
            }
            Layout::Json => {
                let mut object = serde_json::Map::new();
                for ((name, _), value) in self.fields.iter().zip(values) {
                    let value = match value {
                        Value::Number(number) => json!(number),
                        Value::List(list) => json!(list),
                        Value::Text(text) => json!(text),
                        Value::Octets { .. } => json!(String::from_utf8_lossy(&all(source, value)?)),
                        Value::Missing => serde_json::Value::Null,
                    };
                    object.insert(name.clone(), value);
                }
                let before = if self.printed == 0 { "[" } else { "," };
                self.out.print(format!("{before}\n  {}", serde_json::Value::Object(object)))?;
            }
        }
        self.printed += 1;
        Ok(())
    }

    fn pager(&self, source: &mut Source<'_>, values: &[Value]) -> Result<(), Failure> {
        if self.printed > 0 {
            self.out.print("\u{c}\n")?;
        }
        for ((name, _), value) in self.fields.iter().zip(values) {
            if let Value::Octets { offset, length } = value {
                self.out.print(format!("{name}:\n"))?;
                self.octets(source, *offset, *length)?;
            } else {
                self.out.print(format!("{name}: {}\n", one_line(source, value)?))?;
            }
        }
        Ok(())
    }

    /// As they are, and a line end after them if they have none.
    fn octets(&self, source: &mut Source<'_>, mut offset: u64, mut left: u64) -> Result<(), Failure> {
        let mut last = b'\n';
        while left > 0 {
            let octets = source.read(offset, left)?;
            let Some(end) = octets.last() else { break };
            last = *end;
            offset += octets.len() as u64;
            left -= octets.len() as u64;
            self.out.print(octets)?;
        }
        if last != b'\n' {
            self.out.print("\n")?;
        }
        Ok(())
    }
}

/// For a layout that has one line for it: control characters are written as in JSON, but without quotes.
fn one_line(source: &mut Source<'_>, value: &Value) -> Result<String, Failure> {
    let text = match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::List(list) => list.join(" "),
        Value::Octets { .. } => String::from_utf8_lossy(&all(source, value)?).into_owned(),
        Value::Missing => String::new(),
    };
    let escape = |character: char| match character {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        character if character.is_control() => format!("\\u{:04x}", u32::from(character)),
        character => character.to_string(),
    };
    Ok(text.chars().map(escape).collect())
}

/// Only for layouts that cannot print in pieces.
fn all(source: &mut Source<'_>, value: &Value) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    if let Value::Octets { offset, length } = value {
        while (octets.len() as u64) < *length {
            let more = source.read(offset + octets.len() as u64, length - octets.len() as u64)?;
            if more.is_empty() {
                break;
            }
            octets.extend_from_slice(&more);
        }
    }
    Ok(octets)
}
