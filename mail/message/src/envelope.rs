//! The envelope of a message as IMAP defines it (RFC 3501 §7.4.2).

use serde::{Deserialize, Serialize};

use crate::header::Field;
use crate::{Address, Limits, addresses};

/// Field values unfolded, otherwise as they stand in the header. `None` is a field that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub date: Option<Vec<u8>>,
    pub subject: Option<Vec<u8>>,
    pub from: Vec<Address>,
    pub sender: Vec<Address>,
    pub reply_to: Vec<Address>,
    pub to: Vec<Address>,
    pub cc: Vec<Address>,
    pub bcc: Vec<Address>,
    pub in_reply_to: Option<Vec<u8>>,
    pub message_id: Option<Vec<u8>>,
}

impl Envelope {
    /// Takes note of one field, if the envelope has a place for it.
    pub(crate) fn note(&mut self, field: &Field<'_>, limits: &Limits) {
        let name = field.name.to_ascii_lowercase();
        // A field that occurs twice: lists are joined, so that no reader can be shown another sender than
        // the one that was checked; of texts the first counts.
        match name.as_slice() {
            b"date" => note_text(&mut self.date, field, limits),
            b"subject" => note_text(&mut self.subject, field, limits),
            b"in-reply-to" => note_text(&mut self.in_reply_to, field, limits),
            b"message-id" => note_text(&mut self.message_id, field, limits),
            b"from" => note_list(&mut self.from, field, limits),
            b"sender" => note_list(&mut self.sender, field, limits),
            b"reply-to" => note_list(&mut self.reply_to, field, limits),
            b"to" => note_list(&mut self.to, field, limits),
            b"cc" => note_list(&mut self.cc, field, limits),
            b"bcc" => note_list(&mut self.bcc, field, limits),
            _ => {}
        }
    }

    /// "If the Sender or Reply-To lines are absent or empty, the server sets the corresponding member of the envelope
    /// to be the same value as the from member" (RFC 3501 §7.4.2).
    pub(crate) fn complete(&mut self) {
        if self.sender.is_empty() {
            self.sender.clone_from(&self.from);
        }
        if self.reply_to.is_empty() {
            self.reply_to.clone_from(&self.from);
        }
    }
}

fn note_text(text: &mut Option<Vec<u8>>, field: &Field<'_>, limits: &Limits) {
    if text.is_none() {
        *text = Some(field.unfolded(limits.value_bytes_max));
    }
}

fn note_list(list: &mut Vec<Address>, field: &Field<'_>, limits: &Limits) {
    let room = limits.addresses_max.saturating_sub(list.len());
    if room > 0 {
        list.extend(addresses(&field.unfolded(limits.value_bytes_max), room));
    }
}
