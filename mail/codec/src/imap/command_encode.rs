//! Commands to bytes: the client's side, for tests and for the fuzzer, where reading is the inverse of this.
//!
//! Literals are written non-synchronising, so that the result needs no answer in between.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use model::Flag;

use super::command::{
    AppendCommand, Authenticate, Body, Command, FetchCommand, ListCommand, ListReturn, ListSelection,
    SearchCommand, SearchReturn, Select, StatusItem, StoreAction, StoreCommand,
};
use super::encode::{crlf, list, put, quoted};
use super::fetch::FetchItem;
use super::mailbox::{ListPattern, WireMailbox};
use super::search::SearchKey;

/// Writes the command and its line's end. APPEND ends with the announcement of its message.
pub fn encode_command(command: &Command, out: &mut BytesMut) {
    put(out, format_args!("{} ", command.tag));
    body(out, &command.body);
    crlf(out);
}

fn body(out: &mut BytesMut, body: &Body) {
    match body {
        Body::Capability => put(out, "CAPABILITY"),
        Body::Noop => put(out, "NOOP"),
        Body::Logout => put(out, "LOGOUT"),
        Body::StartTls => put(out, "STARTTLS"),
        Body::Idle => put(out, "IDLE"),
        Body::Namespace => put(out, "NAMESPACE"),
        Body::Unselect => put(out, "UNSELECT"),
        Body::Close => put(out, "CLOSE"),
        Body::Check => put(out, "CHECK"),
        Body::Expunge => put(out, "EXPUNGE"),
        Body::UidExpunge(set) => put(out, format_args!("UID EXPUNGE {set}")),
        Body::Id(None) => put(out, "ID NIL"),
        Body::Id(Some(fields)) => {
            put(out, "ID ");
            list(out, fields, |out, (name, value)| {
                string(out, name.as_bytes());
                put(out, " ");
                match value {
                    Some(value) => string(out, value.as_bytes()),
                    None => put(out, "NIL"),
                }
            });
        }
        Body::Authenticate(command) => authenticate(out, command),
        Body::Login(login) => {
            put(out, "LOGIN ");
            string(out, &login.user);
            put(out, " ");
            string(out, &login.password);
        }
        Body::Enable(names) => put(out, format_args!("ENABLE {}", names.join(" "))),
        Body::Select(command) => select(out, "SELECT", command),
        Body::Examine(command) => select(out, "EXAMINE", command),
        Body::Create { mailbox: name, special_use } => {
            mailbox(out, "CREATE", name);
            if !special_use.is_empty() {
                put(out, " (USE ");
                list(out, special_use, |out, purpose| put(out, purpose.as_str()));
                put(out, ")");
            }
        }
        Body::Delete(name) => mailbox(out, "DELETE", name),
        Body::Rename { from, to } => {
            mailbox(out, "RENAME", from);
            mailbox(out, "", to);
        }
        Body::Subscribe(name) => mailbox(out, "SUBSCRIBE", name),
        Body::Unsubscribe(name) => mailbox(out, "UNSUBSCRIBE", name),
        Body::List(command) => list_command(out, command),
        Body::Lsub { reference, pattern } => {
            mailbox(out, "LSUB", reference);
            put(out, " ");
            string(out, pattern.as_bytes());
        }
        Body::Status { mailbox: name, items } => {
            mailbox(out, "STATUS", name);
            put(out, " ");
            status_items(out, items);
        }
        Body::Append(command) => append(out, command),
        Body::Search(command) => search(out, command),
        Body::Fetch(command) => fetch(out, command),
        Body::Store(command) => store(out, command),
        Body::Copy { uid, set, mailbox: name } => {
            put(out, format_args!("{}COPY {set}", prefix(*uid)));
            mailbox(out, "", name);
        }
        Body::Move { uid, set, mailbox: name } => {
            put(out, format_args!("{}MOVE {set}", prefix(*uid)));
            mailbox(out, "", name);
        }
    }
}

fn prefix(uid: bool) -> &'static str {
    if uid { "UID " } else { "" }
}

/// Quoted where that is possible, else a literal that the client does not wait with.
fn string(out: &mut BytesMut, bytes: &[u8]) {
    let printable = |byte: &u8| (0x20..0x7f).contains(byte);
    if bytes.iter().all(printable) {
        quoted(out, bytes);
    } else {
        put(out, format_args!("{{{}+}}\r\n", bytes.len()));
        out.extend_from_slice(bytes);
    }
}

/// A word, a space and a mailbox.
fn mailbox(out: &mut BytesMut, word: &str, name: &WireMailbox) {
    put(out, format_args!("{word} "));
    string(out, name.as_bytes());
}

fn authenticate(out: &mut BytesMut, command: &Authenticate) {
    put(out, format_args!("AUTHENTICATE {}", command.mechanism));
    match &command.initial {
        None => {}
        Some(initial) if initial.is_empty() => put(out, " ="),
        Some(initial) => put(out, format_args!(" {}", STANDARD.encode(initial))),
    }
}

fn select(out: &mut BytesMut, word: &str, command: &Select) {
    mailbox(out, word, &command.mailbox);
    let parameters = &command.parameters;
    if !parameters.condstore && parameters.qresync.is_none() {
        return;
    }
    put(out, " (");
    if parameters.condstore {
        put(out, if parameters.qresync.is_some() { "CONDSTORE " } else { "CONDSTORE" });
    }
    if let Some(qresync) = &parameters.qresync {
        put(out, format_args!("QRESYNC ({} {}", qresync.uid_validity, qresync.modseq));
        if let Some(known) = &qresync.known_uids {
            put(out, format_args!(" {known}"));
        }
        if let Some((numbers, uids)) = &qresync.matches {
            put(out, format_args!(" ({numbers} {uids})"));
        }
        put(out, ")");
    }
    put(out, ")");
}

fn status_items(out: &mut BytesMut, items: &[StatusItem]) {
    list(out, items, |out, item| put(out, item.as_str()));
}

fn list_command(out: &mut BytesMut, command: &ListCommand) {
    put(out, "LIST ");
    let ListSelection { subscribed, remote, recursive_match, special_use } = command.selection;
    let options = [
        (subscribed, "SUBSCRIBED"),
        (remote, "REMOTE"),
        (recursive_match, "RECURSIVEMATCH"),
        (special_use, "SPECIAL-USE"),
    ];
    if command.extended {
        list(out, options.iter().filter(|(asked, _)| *asked), |out, (_, option)| put(out, option));
        put(out, " ");
    }
    string(out, command.reference.as_bytes());
    put(out, " ");
    let pattern = |out: &mut BytesMut, pattern: &ListPattern| string(out, pattern.as_bytes());
    match command.patterns.as_slice() {
        [only] => pattern(out, only),
        many => list(out, many, pattern),
    }
    if command.returns != ListReturn::default() {
        put(out, " RETURN ");
        list_returns(out, &command.returns);
    }
}

fn list_returns(out: &mut BytesMut, returns: &ListReturn) {
    let options = [
        (returns.subscribed, "SUBSCRIBED"),
        (returns.children, "CHILDREN"),
        (returns.special_use, "SPECIAL-USE"),
        (returns.status.is_some(), "STATUS"),
    ];
    list(out, options.iter().filter(|(asked, _)| *asked), |out, (_, option)| {
        put(out, option);
        if let (&"STATUS", Some(items)) = (option, &returns.status) {
            put(out, " ");
            status_items(out, items);
        }
    });
}

fn flags(out: &mut BytesMut, flags: &[Flag]) {
    list(out, flags, |out, flag| put(out, flag.as_str()));
}

fn append(out: &mut BytesMut, command: &AppendCommand) {
    mailbox(out, "APPEND", &command.mailbox);
    put(out, " ");
    if !command.flags.is_empty() {
        flags(out, &command.flags);
        put(out, " ");
    }
    if let Some(date) = command.date {
        put(out, format_args!("\"{date}\" "));
    }
    let plus = if command.literal.non_sync { "+" } else { "" };
    put(out, format_args!("{{{}{plus}}}", command.literal.size));
}

fn search(out: &mut BytesMut, command: &SearchCommand) {
    put(out, format_args!("{}SEARCH ", prefix(command.uid)));
    if let Some(SearchReturn { min, max, all, count }) = command.returns {
        put(out, "RETURN ");
        let options = [(min, "MIN"), (max, "MAX"), (all, "ALL"), (count, "COUNT")];
        list(out, options.iter().filter(|(asked, _)| *asked), |out, (_, option)| put(out, option));
        put(out, " ");
    }
    if let Some(charset) = &command.charset {
        put(out, "CHARSET ");
        string(out, charset.as_bytes());
        put(out, " ");
    }
    // The list of the whole command has no parentheses.
    let SearchKey::And(keys) = &command.key else { return key(out, &command.key) };
    for (index, each) in keys.iter().enumerate() {
        put(out, if index == 0 { "" } else { " " });
        key(out, each);
    }
}

fn key(out: &mut BytesMut, search_key: &SearchKey) {
    let text = |out: &mut BytesMut, name: &str, value: &[u8]| {
        put(out, format_args!("{name} "));
        string(out, value);
    };
    match search_key {
        SearchKey::And(keys) => list(out, keys, key),
        SearchKey::Or(keys) => any_of(out, keys),
        SearchKey::Not(inner) => {
            put(out, "NOT ");
            key(out, inner);
        }
        SearchKey::Bcc(value) => text(out, "BCC", value),
        SearchKey::Body(value) => text(out, "BODY", value),
        SearchKey::Cc(value) => text(out, "CC", value),
        SearchKey::From(value) => text(out, "FROM", value),
        SearchKey::Subject(value) => text(out, "SUBJECT", value),
        SearchKey::Text(value) => text(out, "TEXT", value),
        SearchKey::To(value) => text(out, "TO", value),
        SearchKey::Header { name, value } => {
            text(out, "HEADER", name);
            text(out, "", value);
        }
        SearchKey::Before(date) => put(out, format_args!("BEFORE {date}")),
        SearchKey::On(date) => put(out, format_args!("ON {date}")),
        SearchKey::SentBefore(date) => put(out, format_args!("SENTBEFORE {date}")),
        SearchKey::SentOn(date) => put(out, format_args!("SENTON {date}")),
        SearchKey::SentSince(date) => put(out, format_args!("SENTSINCE {date}")),
        SearchKey::Since(date) => put(out, format_args!("SINCE {date}")),
        SearchKey::EmailId(id) => put(out, format_args!("EMAILID {id}")),
        SearchKey::ThreadId(id) => put(out, format_args!("THREADID {id}")),
        SearchKey::Keyword(keyword) => put(out, format_args!("KEYWORD {}", keyword.as_str())),
        SearchKey::Unkeyword(keyword) => put(out, format_args!("UNKEYWORD {}", keyword.as_str())),
        SearchKey::Larger(size) => put(out, format_args!("LARGER {size}")),
        SearchKey::Smaller(size) => put(out, format_args!("SMALLER {size}")),
        SearchKey::ModSeq(modseq) => put(out, format_args!("MODSEQ {modseq}")),
        SearchKey::Older(seconds) => put(out, format_args!("OLDER {seconds}")),
        SearchKey::Younger(seconds) => put(out, format_args!("YOUNGER {seconds}")),
        SearchKey::Sequence(set) => put(out, set),
        SearchKey::Uid(set) => put(out, format_args!("UID {set}")),
        SearchKey::All => put(out, "ALL"),
        SearchKey::Answered => put(out, "ANSWERED"),
        SearchKey::Deleted => put(out, "DELETED"),
        SearchKey::Draft => put(out, "DRAFT"),
        SearchKey::Flagged => put(out, "FLAGGED"),
        SearchKey::New => put(out, "NEW"),
        SearchKey::Old => put(out, "OLD"),
        SearchKey::Recent => put(out, "RECENT"),
        SearchKey::Seen => put(out, "SEEN"),
        SearchKey::Unanswered => put(out, "UNANSWERED"),
        SearchKey::Undeleted => put(out, "UNDELETED"),
        SearchKey::Undraft => put(out, "UNDRAFT"),
        SearchKey::Unflagged => put(out, "UNFLAGGED"),
        SearchKey::Unseen => put(out, "UNSEEN"),
    }
}

/// `OR a OR b c`. A chain within the last one keeps its parentheses, or it would be read as part of this one.
fn any_of(out: &mut BytesMut, keys: &[SearchKey]) {
    for (index, each) in keys.iter().enumerate() {
        let last = index + 1 == keys.len();
        put(out, if index == 0 { "" } else { " " });
        put(out, if last { "" } else { "OR " });
        if last && matches!(each, SearchKey::Or(_)) {
            list(out, [each], key);
        } else {
            key(out, each);
        }
    }
}

fn fetch(out: &mut BytesMut, command: &FetchCommand) {
    put(out, format_args!("{}FETCH {} ", prefix(command.uid), command.set));
    list(out, &command.items, fetch_item);
    if let Some(modseq) = command.changed_since {
        let vanished = if command.vanished { " VANISHED" } else { "" };
        put(out, format_args!(" (CHANGEDSINCE {modseq}{vanished})"));
    }
}

fn fetch_item(out: &mut BytesMut, item: &FetchItem) {
    match item {
        FetchItem::Section { peek, section, partial } => {
            let peek = if *peek { ".PEEK" } else { "" };
            put(out, format_args!("BODY{peek}[{section}]"));
            if let Some(partial) = partial {
                put(out, format_args!("<{}.{}>", partial.offset, partial.length));
            }
        }
        FetchItem::Uid => put(out, "UID"),
        FetchItem::Flags => put(out, "FLAGS"),
        FetchItem::InternalDate => put(out, "INTERNALDATE"),
        FetchItem::Rfc822Size => put(out, "RFC822.SIZE"),
        FetchItem::Envelope => put(out, "ENVELOPE"),
        FetchItem::Body => put(out, "BODY"),
        FetchItem::BodyStructure => put(out, "BODYSTRUCTURE"),
        FetchItem::ModSeq => put(out, "MODSEQ"),
        FetchItem::EmailId => put(out, "EMAILID"),
        FetchItem::ThreadId => put(out, "THREADID"),
        FetchItem::Rfc822 => put(out, "RFC822"),
        FetchItem::Rfc822Header => put(out, "RFC822.HEADER"),
        FetchItem::Rfc822Text => put(out, "RFC822.TEXT"),
    }
}

fn store(out: &mut BytesMut, command: &StoreCommand) {
    put(out, format_args!("{}STORE {} ", prefix(command.uid), command.set));
    if let Some(modseq) = command.unchanged_since {
        put(out, format_args!("(UNCHANGEDSINCE {modseq}) "));
    }
    put(
        out,
        match command.action {
            StoreAction::Replace => "FLAGS",
            StoreAction::Add => "+FLAGS",
            StoreAction::Remove => "-FLAGS",
        },
    );
    put(out, if command.silent { ".SILENT " } else { " " });
    flags(out, &command.flags);
}
