//! What a client was told of a mailbox, on its way to another node.
//!
//! A picture is the view that a session holds. The new owner has the same messages: what did not change since is taken
//! from there, so a picture says which UIDs there were, with which flags, and up to which mod-sequence; and it brings
//! along only the messages that were expunged before it was written, of which the client has not been told.
//!
//! Invariants
//! - The view that is read differs from the one that was written in nothing that the client can find out.
//! - A message that is unchanged since is the new owner's own; one that changed has the flags that the client knows and a
//!   mod-sequence that is not its present one, so that it is told.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use account::{MailboxView, MessageView};
use model::{
    ContentId, EntryId, Keyword, MailboxId, MessageId, ModSeq, SystemFlag, SystemFlags, Uid, UidValidity,
};

use crate::blob::{BlobRefused, Reader, Writer};

/// Messages of a picture that the account has no more. A client that was not told of so many is to look anew.
const GONE_MAX: usize = 100_000;

/// A mailbox as a client knows it.
pub(crate) struct Picture {
    pub(crate) view: Arc<MailboxView>,
    /// Messages that were expunged after the picture was written: nothing but their flags is known of them.
    pub(crate) unknown: usize,
}

/// A set of keywords, as messages share it.
type Keywords = Option<Arc<[Keyword]>>;

/// `latest`: the mailbox as it is, if it still is.
pub(crate) fn write(out: &mut Writer, held: &MailboxView, latest: Option<&MailboxView>) {
    out.array(held.id.as_bytes());
    out.number(held.uid_validity.get());
    out.number(held.uid_next.get());
    out.number(held.highest_modseq.0);
    write_uids(out, held);
    write_flags(out, held);
    let gone = |message: &&MessageView| latest.is_none_or(|latest| latest.rank_of(message.uid).is_err());
    let is_latest = latest.is_some_and(|latest| std::ptr::eq(latest, held));
    // A mailbox that is lost ends the session: nothing of it will be told.
    let gone: Vec<&MessageView> =
        if is_latest || latest.is_none() { Vec::new() } else { held.iter().filter(gone).collect() };
    out.count(gone.len());
    gone.into_iter().for_each(|message| write_message(out, message));
}

/// Runs of UIDs: how many are skipped, and how many follow one another.
fn write_uids(out: &mut Writer, held: &MailboxView) {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for uid in held.iter().map(|message| message.uid.get()) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == uid => *last = uid,
            Some(_) | None => runs.push((uid, uid)),
        }
    }
    write_runs(out, &runs);
}

/// Runs of numbers, first and last, ascending and apart.
pub(crate) fn write_runs(out: &mut Writer, runs: &[(u32, u32)]) {
    let mut next = 0;
    out.count(runs.len());
    for (first, last) in runs {
        out.number(first - next);
        out.number(last - first);
        next = *last;
    }
}

pub(crate) fn read_runs(from: &mut Reader<'_>) -> Result<Vec<(u32, u32)>, BlobRefused> {
    let mut next = 0u32;
    from.list(|from| {
        let (gap, more) = (from.number_32()?, from.number_32()?);
        let first = next.checked_add(gap).filter(|first| *first > next);
        let run = first.and_then(|first| Some((first, first.checked_add(more)?)));
        let run = run.ok_or(BlobRefused::Garbled("numbers that do not ascend"))?;
        next = run.1;
        Ok(run)
    })
}

/// Keywords, sets of them, and for each run of messages the flags and the set.
fn write_flags(out: &mut Writer, held: &MailboxView) {
    let mut words: BTreeMap<&Keyword, usize> = BTreeMap::new();
    let mut sets: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    let mut last: (Option<&[Keyword]>, usize) = (None, 0);
    let mut runs: Vec<(u64, u8, usize)> = Vec::new();
    for message in held.iter() {
        let keywords = message.keywords.as_deref();
        if last.0 != keywords {
            let number = |word| {
                let next = words.len();
                *words.entry(word).or_insert(next)
            };
            let set: Option<Vec<usize>> = keywords.map(|keywords| keywords.iter().map(number).collect());
            let next = sets.len();
            // 0 is "no keyword".
            last = (keywords, set.map_or(0, |set| 1 + *sets.entry(set).or_insert(next)));
        }
        let flags = bits(message.flags);
        match runs.last_mut() {
            Some((count, with, set)) if (*with, *set) == (flags, last.1) => *count += 1,
            Some(_) | None => runs.push((1, flags, last.1)),
        }
    }
    let mut words: Vec<(&Keyword, usize)> = words.into_iter().collect();
    words.sort_by_key(|(_, number)| *number);
    out.count(words.len());
    words.into_iter().for_each(|(word, _)| out.text(word.as_str()));
    let mut sets: Vec<(Vec<usize>, usize)> = sets.into_iter().collect();
    sets.sort_by_key(|(_, number)| *number);
    out.count(sets.len());
    for (set, _) in sets {
        out.count(set.len());
        set.into_iter().for_each(|word| out.count(word));
    }
    out.count(runs.len());
    for (count, flags, set) in runs {
        out.number(count);
        out.byte(flags);
        out.count(set);
    }
}

fn bits(flags: SystemFlags) -> u8 {
    flags.iter().fold(0, |bits, flag| bits | flag as u8)
}

fn flags_of(bits: u8) -> SystemFlags {
    SystemFlag::ALL.into_iter().filter(|flag| bits & *flag as u8 != 0).collect()
}

fn write_message(out: &mut Writer, message: &MessageView) {
    out.number(message.uid.get());
    out.byte(bits(message.flags));
    let keywords = message.keywords.as_deref().unwrap_or_default();
    out.count(keywords.len());
    keywords.iter().for_each(|keyword| out.text(keyword.as_str()));
    out.number(message.modseq.0);
    out.signed(message.internal_date);
    out.signed(message.save_date);
    out.number(message.wire_size);
    out.number(message.size);
    out.array(message.entry.as_bytes());
    out.array(message.message.as_bytes());
    out.array(message.content.as_bytes());
    out.text(&message.base);
    out.text(message.uidl.as_deref().unwrap_or_default());
}

fn read_message(from: &mut Reader<'_>) -> Result<MessageView, BlobRefused> {
    let uid = read_uid(from)?;
    let flags = flags_of(from.byte()?);
    let keywords = from.list(read_keyword)?;
    let keywords = (!keywords.is_empty()).then(|| keywords.into());
    let modseq = ModSeq(from.number()?);
    let (internal_date, save_date) = (from.signed()?, from.signed()?);
    let (wire_size, size) = (from.number()?, from.number()?);
    let entry = EntryId::from_bytes(from.array()?);
    let message = MessageId::from_bytes(from.array()?);
    let content = ContentId::from_bytes(from.array()?);
    let base = from.text()?.into();
    let uidl = Some(from.text()?).filter(|uidl| !uidl.is_empty()).map(Arc::from);
    Ok(MessageView {
        uid,
        flags,
        keywords,
        modseq,
        internal_date,
        save_date,
        wire_size,
        size,
        entry,
        message,
        content,
        base,
        uidl,
    })
}

pub(crate) fn read_uid(from: &mut Reader<'_>) -> Result<Uid, BlobRefused> {
    Uid::new(from.number_32()?).ok_or(BlobRefused::Garbled("a UID that is none"))
}

pub(crate) fn read_keyword(from: &mut Reader<'_>) -> Result<Keyword, BlobRefused> {
    Keyword::new(from.text()?).ok_or(BlobRefused::Garbled("a keyword that is none"))
}

/// What a picture says, before it is laid over the mailbox as it is.
struct Told {
    id: MailboxId,
    uid_validity: UidValidity,
    uid_next: Uid,
    highest_modseq: ModSeq,
    uids: Vec<(u32, u32)>,
    sets: Vec<Keywords>,
    flags: Vec<(u64, u8, usize)>,
    gone: BTreeMap<Uid, MessageView>,
}

fn read_told(from: &mut Reader<'_>) -> Result<Told, BlobRefused> {
    let id = MailboxId::from_bytes(from.array()?);
    let uid_validity = UidValidity::new(from.number_32()?);
    let uid_validity = uid_validity.ok_or(BlobRefused::Garbled("a UIDVALIDITY that is none"))?;
    let (uid_next, highest_modseq) = (read_uid(from)?, ModSeq(from.number()?));
    let uids = read_runs(from)?;
    let words = from.list(read_keyword)?;
    let mut sets: Vec<Keywords> = vec![None];
    sets.extend(from.list(|from| {
        let set = from.list(|from| {
            let word = usize::try_from(from.number()?).ok().and_then(|word| words.get(word));
            word.cloned().ok_or(BlobRefused::Garbled("a keyword that was not named"))
        });
        Ok(Some(set?.into()))
    })?);
    let flags = from.list(|from| {
        let (count, flags) = (from.number()?, from.byte()?);
        let set = usize::try_from(from.number()?).ok().filter(|set| *set < sets.len());
        Ok((count, flags, set.ok_or(BlobRefused::Garbled("a set of keywords that was not named"))?))
    })?;
    let gone = from.list(read_message)?;
    let gone = gone.into_iter().map(|message| (message.uid, message)).collect();
    Ok(Told { id, uid_validity, uid_next, highest_modseq, uids, sets, flags, gone })
}

/// Reads a picture. `find` knows the mailbox of an id as it is now.
pub(crate) fn read(
    from: &mut Reader<'_>,
    find: impl FnOnce(MailboxId) -> Option<Arc<MailboxView>>,
) -> Result<Picture, BlobRefused> {
    let told = read_told(from)?;
    let latest = find(told.id).filter(|latest| latest.uid_validity == told.uid_validity);
    let Some(latest) = latest else {
        // Whoever selected it is told that it is gone, and of nothing in it.
        let empty = MailboxView::from_messages(told.id, told.uid_validity, Vec::new());
        return Ok(Picture { view: Arc::new(empty), unknown: 0 });
    };
    lay_over(told, &latest)
}

fn lay_over(mut told: Told, latest: &Arc<MailboxView>) -> Result<Picture, BlobRefused> {
    let mut present = latest.iter().peekable();
    let mut flags = std::mem::take(&mut told.flags).into_iter().peekable();
    let (mut messages, mut same) = (Vec::new(), true);
    let (mut gone, mut unknown) = (0, 0);
    for (first, last) in std::mem::take(&mut told.uids) {
        for number in first..=last {
            let uid = Uid::new(number).ok_or(BlobRefused::Garbled("a UID that is none"))?;
            let (bits, set) = next_flags(&mut flags)?;
            let known = Known { flags: flags_of(bits), keywords: told.sets.get(set).cloned().flatten() };
            match at(&mut present, uid) {
                Some(message) if message.modseq <= told.highest_modseq => messages.push(message.clone()),
                Some(message) => {
                    same = false;
                    messages.push(known.over(message, told.highest_modseq));
                }
                None => {
                    (same, gone) = (false, gone + 1);
                    if gone > GONE_MAX {
                        return Err(BlobRefused::Changed("too many messages were expunged meanwhile"));
                    }
                    let before = told.gone.remove(&uid);
                    unknown += usize::from(before.is_none());
                    messages.push(before.unwrap_or_else(|| known.alone(uid, told.highest_modseq)));
                }
            }
        }
    }
    if flags.next().is_some() {
        return Err(BlobRefused::Garbled("flags of no message"));
    }
    same &= messages.len() == latest.len() as usize;
    same &= (told.uid_next, told.highest_modseq) == (latest.uid_next, latest.highest_modseq);
    let view = if same {
        Arc::clone(latest)
    } else {
        Arc::new(latest.as_known(told.uid_next, told.highest_modseq, messages))
    };
    Ok(Picture { view, unknown })
}

/// The message of this UID, if there is one. Asked for ascending UIDs.
fn at<'a>(
    present: &mut Peekable<impl Iterator<Item = &'a MessageView>>,
    uid: Uid,
) -> Option<&'a MessageView> {
    while present.next_if(|message| message.uid < uid).is_some() {}
    present.next_if(|message| message.uid == uid)
}

/// Flags of the next message.
fn next_flags(
    runs: &mut Peekable<impl Iterator<Item = (u64, u8, usize)>>,
) -> Result<(u8, usize), BlobRefused> {
    while runs.next_if(|(count, _, _)| *count == 0).is_some() {}
    let (count, flags, set) = runs.peek_mut().ok_or(BlobRefused::Garbled("a message without flags"))?;
    *count -= 1;
    let next = (*flags, *set);
    runs.next_if(|(count, _, _)| *count == 0);
    Ok(next)
}

/// Flags that the client was told.
struct Known {
    flags: SystemFlags,
    keywords: Keywords,
}

impl Known {
    /// The message as the client knows it, which has changed since.
    fn over(self, message: &MessageView, modseq: ModSeq) -> MessageView {
        MessageView { flags: self.flags, keywords: self.keywords, modseq, ..message.clone() }
    }

    /// A message of which nothing else is known.
    fn alone(self, uid: Uid, modseq: ModSeq) -> MessageView {
        MessageView {
            uid,
            flags: self.flags,
            keywords: self.keywords,
            modseq,
            internal_date: 0,
            save_date: 0,
            wire_size: 0,
            size: 0,
            entry: EntryId::from_bytes([0; 16]),
            message: MessageId::from_bytes([0; 16]),
            content: ContentId::from_bytes([0; 32]),
            base: "".into(),
            uidl: None,
        }
    }
}
