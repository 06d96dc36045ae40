//! An IMAP client, enough of one to see everything that an account holds.

use std::net::SocketAddr;
use std::time::Duration;

use super::imap_value::{Fetched, Kind, Status, Untagged, Value, status, untagged};
use super::{Failure, Result, Wire, shown};

/// What a command brought.
#[derive(Debug)]
pub struct Reply {
    pub status: Status,
    pub untagged: Vec<Untagged>,
}

impl Reply {
    pub fn fetched(self) -> Vec<Fetched> {
        let each = self.untagged.into_iter();
        each.filter_map(|one| if let Untagged::Fetch(fetched) = one { Some(fetched) } else { None }).collect()
    }

    /// The words of a response code of this name, wherever it came.
    fn code(&self, name: &str) -> Option<Vec<&str>> {
        let mut told = self.untagged.iter().filter_map(|one| {
            if let Untagged::Status(status) = one { status.code_words(name) } else { None }
        });
        self.status.code_words(name).or_else(|| told.next_back())
    }

    fn code_number(&self, name: &str) -> Option<u64> {
        self.code(name)?.first()?.parse().ok()
    }

    /// The untagged responses of this name, without it.
    pub fn others(&self, name: &str) -> Vec<&[Value]> {
        let each = self.untagged.iter().filter_map(|one| {
            let Untagged::Other(values) = one else { return None };
            let (first, rest) = values.split_first()?;
            first.atom()?.eq_ignore_ascii_case(name).then_some(rest)
        });
        each.collect()
    }
}

/// Where a message is: UIDVALIDITY and UID (RFC 4315).
pub type Placed = (u32, u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    pub exists: u32,
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub modseq: Option<u64>,
}

#[derive(Debug)]
pub struct Imap {
    wire: Wire,
    tag: u32,
    frozen: bool,
}

/// With these words the server says that what follows may be behind, and with those that it is not any more.
const FROZEN: &str = "Read-only for now";
const THAWED: &str = "Read-only no more";

impl Imap {
    pub fn connect(address: SocketAddr, patience: Duration) -> Result<Self> {
        let mut imap = Self { wire: Wire::connect(address, patience)?, tag: 0, frozen: false };
        let line = imap.logical_line()?;
        match line.strip_prefix(b"* ").and_then(status).map(|status| status.kind) {
            Some(Kind::Ok | Kind::Preauth) => Ok(imap),
            Some(Kind::Bye) => Err(Failure::Lost(shown(&line))),
            Some(Kind::No | Kind::Bad) | None => Err(Failure::Broken(shown(&line))),
        }
    }

    pub fn login(address: SocketAddr, user: &str, password: &str, patience: Duration) -> Result<Self> {
        let mut imap = Self::connect(address, patience)?;
        imap.command(&format!("LOGIN {} {}", quoted(user), quoted(password)))?;
        Ok(imap)
    }

    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Whether the server has said that what it shows may be behind.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// An untagged response, and what it means for those behind it.
    fn untagged(&mut self, bytes: &[u8]) -> Result<Untagged> {
        let one = untagged(bytes)?;
        if let Untagged::Status(status) = &one {
            let said = |words: &str| status.kind == Kind::Ok && status.text.starts_with(words);
            self.frozen = said(FROZEN) || self.frozen && !said(THAWED);
        }
        Ok(one)
    }

    /// Sends one command and waits for its end. An answer other than OK is an error.
    pub fn command(&mut self, command: &str) -> Result<Reply> {
        let tag = self.send(command.as_bytes())?;
        self.answer(&tag)
    }

    /// Sends a command without waiting; `answer` waits.
    pub fn send(&mut self, command: &[u8]) -> Result<String> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        let mut line = format!("{tag} ").into_bytes();
        line.extend_from_slice(command);
        line.extend_from_slice(b"\r\n");
        self.wire.send(&line)?;
        Ok(tag)
    }

    pub fn answer(&mut self, tag: &str) -> Result<Reply> {
        let mut seen = Vec::new();
        loop {
            let line = self.logical_line()?;
            if let Some(rest) = line.strip_prefix(b"* ") {
                seen.push(self.untagged(rest)?);
                continue;
            }
            let tagged = line.strip_prefix(tag.as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
            let Some(status) = tagged.and_then(status) else { return Err(Failure::Broken(shown(&line))) };
            return match status.kind {
                Kind::Ok => Ok(Reply { status, untagged: seen }),
                Kind::No | Kind::Bad => Err(Failure::Refused(shown(&line))),
                Kind::Bye | Kind::Preauth => Err(Failure::Broken(shown(&line))),
            };
        }
    }

    /// A line with its literals in it.
    fn logical_line(&mut self) -> Result<Vec<u8>> {
        let mut whole = self.wire.line()?;
        let mut announced = literal_at_end(&whole);
        while let Some(count) = announced {
            let literal = self.wire.exact(count)?;
            whole.extend_from_slice(b"\r\n");
            whole.extend_from_slice(&literal);
            let rest = self.wire.line()?;
            // Looked for in `rest` alone: a literal may itself end in `{9}`.
            announced = literal_at_end(&rest);
            whole.extend_from_slice(&rest);
        }
        Ok(whole)
    }

    /// Waits for `+`.
    pub fn continuation(&mut self, tag: &str) -> Result<()> {
        loop {
            let line = self.logical_line()?;
            if line.starts_with(b"+") {
                return Ok(());
            }
            if line.starts_with(tag.as_bytes()) {
                return Err(Failure::Refused(shown(&line)));
            }
            if !line.starts_with(b"* ") {
                return Err(Failure::Broken(shown(&line)));
            }
        }
    }

    /// Appends with a literal that waits for the server's word (RFC 3501 §6.3.11). Returns APPENDUID.
    pub fn append(&mut self, mailbox: &str, flags: &str, message: &[u8]) -> Result<Option<Placed>> {
        let command = format!("APPEND {} ({flags}) {{{}}}", quoted(mailbox), message.len());
        let tag = self.send(command.as_bytes())?;
        self.continuation(&tag)?;
        self.wire.send(message)?;
        self.wire.send(b"\r\n")?;
        let reply = self.answer(&tag)?;
        Ok(reply.status.code_words("APPENDUID").and_then(|words| placed(&words, 1)))
    }

    pub fn select(&mut self, mailbox: &str) -> Result<Selected> {
        let reply = self.command(&format!("SELECT {}", quoted(mailbox)))?;
        let mut exists = reply
            .untagged
            .iter()
            .filter_map(|one| if let Untagged::Exists(exists) = one { Some(*exists) } else { None });
        let exists = exists.next_back().ok_or_else(|| Failure::Broken("SELECT without EXISTS".to_owned()))?;
        let number = |name: &str| reply.code_number(name).and_then(|number| u32::try_from(number).ok());
        let missing = |name: &str| Failure::Broken(format!("SELECT without {name}"));
        Ok(Selected {
            exists,
            uidvalidity: number("UIDVALIDITY").ok_or_else(|| missing("UIDVALIDITY"))?,
            uidnext: number("UIDNEXT").ok_or_else(|| missing("UIDNEXT"))?,
            modseq: reply.code_number("HIGHESTMODSEQ"),
        })
    }

    /// FETCH by UID, one entry a message, in order of UIDs.
    pub fn uid_fetch(&mut self, set: &str, items: &str) -> Result<Vec<Fetched>> {
        let fetched = self.command(&format!("UID FETCH {set} {items}"))?.fetched();
        // Flag changes of other sessions come as FETCH too; of those about one message we want the fullest.
        let mut fullest: Vec<Fetched> = Vec::new();
        for one in fetched {
            match fullest.iter_mut().find(|have| have.uid() == one.uid()) {
                Some(have) if have.items.len() < one.items.len() => *have = one,
                Some(_) => {}
                None => fullest.push(one),
            }
        }
        fullest.sort_by_key(Fetched::uid);
        Ok(fullest)
    }

    /// UID of the copy in the other mailbox, when the server tells (RFC 6851).
    pub fn uid_move(&mut self, uid: u32, to: &str) -> Result<Option<Placed>> {
        let reply = self.command(&format!("UID MOVE {uid} {}", quoted(to)))?;
        Ok(reply.code("COPYUID").and_then(|words| placed(&words, 2)))
    }

    pub fn uid_search(&mut self, query: &str) -> Result<Vec<u32>> {
        let reply = self.command(&format!("UID SEARCH {query}"))?;
        let found = reply.others("SEARCH").into_iter().flatten();
        Ok(found.filter_map(|value| value.number()?.try_into().ok()).collect())
    }

    /// Names of all mailboxes, as they stand on the wire.
    pub fn list(&mut self) -> Result<Vec<String>> {
        let reply = self.command("LIST \"\" \"*\"")?;
        let named = reply.others("LIST").into_iter().filter(|values| {
            let attributes = values.first().and_then(Value::list).unwrap_or_default();
            !attributes.iter().filter_map(Value::atom).any(|one| one.eq_ignore_ascii_case("\\Noselect"))
        });
        Ok(named
            .filter_map(|values| Some(String::from_utf8_lossy(values.get(2)?.bytes()?).into_owned()))
            .collect())
    }

    /// Begins IDLE (RFC 2177); the tag is what `idle_end` wants back.
    pub fn idle(&mut self) -> Result<String> {
        let tag = self.send(b"IDLE")?;
        self.continuation(&tag)?;
        Ok(tag)
    }

    /// The next thing told during IDLE.
    pub fn idle_hear(&mut self) -> Result<Untagged> {
        let line = self.logical_line()?;
        let rest = line.strip_prefix(b"* ").ok_or_else(|| Failure::Broken(shown(&line)))?;
        self.untagged(rest)
    }

    pub fn idle_end(&mut self, tag: &str) -> Result<Reply> {
        self.wire.send(b"DONE\r\n")?;
        self.answer(tag)
    }

    pub fn logout(mut self) -> Result<()> {
        self.command("LOGOUT").map(drop)
    }
}

/// UIDVALIDITY is first among the words, the UID at `at`.
fn placed(words: &[&str], at: usize) -> Option<Placed> {
    Some((words.first()?.parse().ok()?, words.get(at)?.parse().ok()?))
}

/// A string that needs no literal.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn literal_at_end(line: &[u8]) -> Option<usize> {
    let inside = line.strip_suffix(b"}")?;
    let open = inside.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(inside.get(open + 1..)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_mark_holds_for_what_comes_behind_it_until_it_is_taken_away() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let said = "* OK ready\r\n* OK [ALERT] Buy more disks\r\nt1 OK done\r\n* OK [ALERT] Read-only for now: x\r\n\
                        t2 OK done\r\n* OK Still here\r\nt3 OK done\r\n* OK Read-only no more: x\r\nt4 OK done\r\n";
            stream.write_all(said.as_bytes()).expect("taken");
            stream
        });
        let mut client = Imap::connect(address, Duration::from_secs(10)).expect("a greeting");
        let marked = [1, 2, 3, 4].map(|_| {
            client.command("NOOP").expect("an answer");
            client.is_frozen()
        });
        assert_eq!(marked, [false, true, true, false]);
        drop(server.join());
    }
}
