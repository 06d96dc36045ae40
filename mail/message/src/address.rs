//! Address lists, as IMAP's ENVELOPE shows them (RFC 5322 §3.4, RFC 3501 §7.4.2).
//!
//! A group is three kinds of entry: its start (only `mailbox`, the group's name), its members, its end (nothing set).
//! Hence an ordinary address has a host always: one is made up when the mail has none, as Dovecot does, since
//! NIL there would open a group.

use serde::{Deserialize, Serialize};

use crate::token::Cursor;

/// One entry of an address list. Octets as in the header: not decoded, without quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub name: Option<Vec<u8>>,
    /// Source route, "at domain list".
    pub adl: Option<Vec<u8>>,
    pub mailbox: Option<Vec<u8>>,
    pub host: Option<Vec<u8>>,
}

const MISSING_MAILBOX: &[u8] = b"MISSING_MAILBOX";
const MISSING_HOST: &[u8] = b"MISSING_DOMAIN";
const BROKEN_HOST: &[u8] = b"SYNTAX_ERROR";

/// Reads an unfolded field value. Keeps at most `count_max` entries, group marks included.
pub fn addresses(value: &[u8], count_max: usize) -> Vec<Address> {
    let mut list = List { cursor: Cursor::new(value), entries: Vec::new(), count_max };
    list.read();
    list.entries
}

struct List<'a> {
    cursor: Cursor<'a>,
    entries: Vec<Address>,
    count_max: usize,
}

impl List<'_> {
    fn read(&mut self) {
        loop {
            self.cursor.skip_cfws();
            // Empty elements are allowed in old lists (RFC 5322 §4.4); a stray end of group is skipped too.
            while matches!(self.cursor.peek(), Some(b',' | b';')) {
                self.cursor.bump();
                self.cursor.skip_cfws();
            }
            if self.cursor.peek().is_none() || self.entries.len() >= self.count_max {
                return;
            }
            if !self.group() {
                self.mailbox();
            }
            self.cursor.skip_to(b",;");
        }
    }

    /// Reads a group if there is one here.
    fn group(&mut self) -> bool {
        let start = self.cursor.rest();
        let name = self.cursor.phrase();
        if name.is_empty() || !self.cursor.eat(b':') {
            self.cursor.reset(start);
            return false;
        }
        self.entries.push(Address { mailbox: Some(name), ..Address::default() });
        loop {
            self.cursor.skip_cfws();
            match self.cursor.peek() {
                None => break,
                Some(b';') => {
                    self.cursor.bump();
                    break;
                }
                Some(b',') => {
                    self.cursor.bump();
                    continue;
                }
                Some(_) => {}
            }
            if self.entries.len() >= self.count_max {
                break;
            }
            self.mailbox();
            self.cursor.skip_to(b",;");
        }
        // The end mark stands even beyond the limit: a group that opens must close.
        self.entries.push(Address::default());
        true
    }

    fn mailbox(&mut self) {
        let start = self.cursor.rest();
        let name = self.cursor.phrase();
        let mut address = Address::default();
        if self.cursor.eat(b'<') {
            address.name = (!name.is_empty()).then_some(name);
            if !self.angle(&mut address) {
                address.host = Some(BROKEN_HOST.to_vec());
            }
        } else {
            self.cursor.reset(start);
            self.bare(&mut address);
        }
        address.mailbox.get_or_insert_with(|| MISSING_MAILBOX.to_vec());
        address.host.get_or_insert_with(|| MISSING_HOST.to_vec());
        self.entries.push(address);
    }

    /// `[route ":"] local-part "@" domain ">"`, the opening bracket read. Returns whether it is well-formed.
    fn angle(&mut self, address: &mut Address) -> bool {
        self.cursor.skip_cfws();
        if self.cursor.peek() == Some(b'@') {
            address.adl = self.route();
            if !self.cursor.eat(b':') {
                return false;
            }
            self.cursor.skip_cfws();
        }
        address.mailbox = self.cursor.dotted_words();
        if self.cursor.eat(b'@') {
            self.cursor.skip_cfws();
            address.host = self.cursor.domain();
        }
        address.mailbox.is_some() && self.cursor.eat(b'>')
    }

    /// `@a,@b` before the colon.
    fn route(&mut self) -> Option<Vec<u8>> {
        let mut route = Vec::new();
        while self.cursor.eat(b'@') {
            if !route.is_empty() {
                route.push(b',');
            }
            route.push(b'@');
            self.cursor.skip_cfws();
            route.extend(self.cursor.domain().unwrap_or_default());
            while self.cursor.eat(b',') {
                self.cursor.skip_cfws();
            }
        }
        Some(route)
    }

    /// An address without brackets; a comment after it is its name (RFC 5322 §3.4, last paragraph). Words that form no
    /// address are a name: mail from `John Smith` shows who wrote it.
    fn bare(&mut self, address: &mut Address) {
        let start = self.cursor.rest();
        self.cursor.comment.clear();
        address.mailbox = self.cursor.dotted_words();
        if self.cursor.eat(b'@') {
            self.cursor.skip_cfws();
            address.host = self.cursor.domain();
        }
        self.cursor.skip_cfws();
        if address.host.is_none() && !matches!(self.cursor.peek(), None | Some(b',' | b';')) {
            self.cursor.reset(start);
            let name = self.cursor.phrase();
            *address = Address { name: (!name.is_empty()).then_some(name), ..Address::default() };
            return;
        }
        let comment = std::mem::take(&mut self.cursor.comment);
        address.name = (!comment.is_empty()).then_some(comment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(value: &str) -> String {
        let text = |field: &Option<Vec<u8>>| {
            field.as_ref().map_or("NIL".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        addresses(value.as_bytes(), 100)
            .iter()
            .map(|a| format!("({}|{}|{}|{})", text(&a.name), text(&a.adl), text(&a.mailbox), text(&a.host)))
            .collect()
    }

    #[test]
    fn ordinary_addresses_have_four_fields() {
        assert_eq!(show("Terry Gray <gray@cac.washington.edu>"), "(Terry Gray|NIL|gray|cac.washington.edu)");
        assert_eq!(show("imap@cac.washington.edu"), "(NIL|NIL|imap|cac.washington.edu)");
        assert_eq!(show("a@b, \"C, D\" <c@d>"), "(NIL|NIL|a|b)(C, D|NIL|c|d)");
        assert_eq!(show("gray@x (Terry Gray)"), "(Terry Gray|NIL|gray|x)");
        assert_eq!(show("<@a,@b:c@d>"), "(NIL|@a,@b|c|d)");
        assert_eq!(show("\"quoted @ local\"@x"), "(NIL|NIL|quoted @ local|x)");
        assert_eq!(show("a@[127.0.0.1]"), "(NIL|NIL|a|[127.0.0.1])");
        assert_eq!(show("a . b @ c . d"), "(NIL|NIL|a.b|c.d)");
        assert_eq!(show("=?utf-8?q?J=C3=BCrgen?= <j@x>"), "(=?utf-8?q?J=C3=BCrgen?=|NIL|j|x)");
        assert_eq!(show("J. R. Tolkien <j@x>"), "(J. R. Tolkien|NIL|j|x)");
    }

    #[test]
    fn groups_open_and_close() {
        assert_eq!(
            show("A Group: a@b, C <c@d>;, e@f"),
            "(NIL|NIL|A Group|NIL)(NIL|NIL|a|b)(C|NIL|c|d)(NIL|NIL|NIL|NIL)(NIL|NIL|e|f)"
        );
        assert_eq!(show("undisclosed-recipients:;"), "(NIL|NIL|undisclosed-recipients|NIL)(NIL|NIL|NIL|NIL)");
        assert_eq!(show("open: a@b"), "(NIL|NIL|open|NIL)(NIL|NIL|a|b)(NIL|NIL|NIL|NIL)");
    }

    #[test]
    fn broken_addresses_never_look_like_groups() {
        assert_eq!(show("root"), "(NIL|NIL|root|MISSING_DOMAIN)");
        assert_eq!(show("@x"), "(NIL|NIL|MISSING_MAILBOX|x)");
        assert_eq!(show("A <b@c, d@e"), "(A|NIL|b|SYNTAX_ERROR)(NIL|NIL|d|e)");
        assert_eq!(show("A <>"), "(A|NIL|MISSING_MAILBOX|SYNTAX_ERROR)");
        assert_eq!(show("two words"), "(two words|NIL|MISSING_MAILBOX|MISSING_DOMAIN)");
        assert_eq!(show("Ada b@c, d@e"), "(Ada b|NIL|MISSING_MAILBOX|MISSING_DOMAIN)(NIL|NIL|d|e)");
        assert_eq!(
            show("g: John Smith;, x"),
            "(NIL|NIL|g|NIL)(John Smith|NIL|MISSING_MAILBOX|MISSING_DOMAIN)(NIL|NIL|NIL|NIL)(NIL|NIL|x|MISSING_DOMAIN)"
        );
        assert_eq!(show("a@"), "(NIL|NIL|a|MISSING_DOMAIN)");
        assert_eq!(show(" , ,"), "");
        assert_eq!(show("a..b.@x"), "(NIL|NIL|a..b.|x)");
    }

    #[test]
    fn lists_are_cut_at_the_limit_and_groups_still_close() {
        let many = "g: ".to_owned() + &"a@b,".repeat(50);
        let list = addresses(many.as_bytes(), 10);
        assert_eq!(list.len(), 11);
        assert_eq!(list.last(), Some(&Address::default()));
        assert_eq!(addresses("a@b,".repeat(50).as_bytes(), 10).len(), 10);
    }
}
