use std::collections::BTreeMap;

use model::{ContentId, Keyword, SystemFlag, SystemFlags};
use nfs_compat::DiskFs;

use super::*;
use crate::spool::Spool;

const NOW_US: u64 = 1_795_319_790_000_000;
const NOW_S: i64 = 1_795_319_790;

struct Account {
    dir: tempfile::TempDir,
    fs: Arc<dyn Fs>,
    maildir: Maildir,
    spool: Spool,
}

fn id(number: u8) -> MailboxId {
    MailboxId::from_bytes([number; 16])
}

fn name(text: &str) -> MailboxName {
    MailboxName::new(text).unwrap()
}

fn account() -> Account {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(DiskFs::new());
    let home = dir.path().join("ada");
    fs.create_dir_all(&home).unwrap();
    let home = Home::recognise(&*fs, &home).unwrap();
    let maildir = Maildir::new(Arc::clone(&fs), &home);
    maildir
        .arrange(&[(id(1), MailboxName::inbox()), (id(2), name("Archive/2026"))], &|_| false, NOW_S)
        .unwrap();
    let spool = Spool::open(Arc::clone(&fs), dir.path(), 1, 7).unwrap();
    Account { dir, fs, maildir, spool }
}

impl Account {
    fn root(&self) -> PathBuf {
        self.dir.path().join("ada/Maildir")
    }

    fn names(&self, part: &str) -> Vec<String> {
        let entries = self.fs.read_dir(&self.root().join(part)).unwrap();
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Delivers as an owner does; returns the base.
    fn deliver(&self, mailbox: MailboxId, entry: u8, text: &[u8]) -> Arc<str> {
        let mut incoming = self.spool.begin();
        incoming.write(text).unwrap();
        let spooled = incoming.finish().unwrap();
        let entry = EntryId::from_bytes([entry; 16]);
        let base = self.maildir.base(entry, Epoch::new(1, 1), NOW_US, spooled.size, spooled.wire_size);
        self.maildir.stage(mailbox, &base, Source::Spooled(spooled.path()), NOW_S - 5).unwrap();
        self.maildir.sync_staged(&[mailbox]).unwrap();
        self.maildir.place(mailbox, &base, &[], fresh()).unwrap();
        base
    }

    fn put(&self, path: &str, text: &[u8]) {
        let file = self.fs.create(&self.root().join(path)).unwrap();
        file.write_at(text, 0).unwrap();
    }

    fn observe(&self, thorough: bool) -> Option<BTreeMap<String, ObservedFile>> {
        let observed = self.maildir.observe(id(1), NOW_US, thorough).unwrap()?;
        Some(observed.files.into_iter().map(|file| (file.base.to_string(), file)).collect())
    }

    fn text(&self, mailbox: MailboxId, base: &str) -> Vec<u8> {
        self.maildir.open(mailbox, base).unwrap().read_all(1 << 20).unwrap()
    }
}

fn fresh() -> Flags<'static> {
    Flags { system: SystemFlags::NONE, keywords: &[], fresh: true }
}

#[test]
fn a_delivery_is_in_new_only_after_it_was_placed() {
    let account = account();
    let base = account.deliver(id(1), 1, b"Subject: x\r\n\r\nhello\r\n");
    assert_eq!(account.names("new"), [&*base]);
    assert!(account.names("tmp").is_empty());
    assert_eq!(account.text(id(1), &base), b"Subject: x\r\n\r\nhello\r\n");
    // Placing again, as recovery does, finds it where it is.
    account.maildir.place(id(1), &base, &[], fresh()).unwrap();
    assert_eq!(account.names("new"), [&*base]);
}

#[test]
fn our_own_changes_need_no_look_and_others_do() {
    let account = account();
    assert!(account.observe(false).unwrap().is_empty());
    account.deliver(id(1), 1, b"a\r\n");
    assert!(account.observe(false).is_none());
    account.put("new/17.foreign.host", b"b\n");
    assert_eq!(account.observe(false).unwrap().len(), 2);
    assert!(account.observe(false).is_none());
    account.deliver(id(1), 2, b"c\r\n");
    assert_eq!(account.observe(true).unwrap().len(), 3, "a thorough look trusts no explanation");
}

#[test]
fn a_foreign_file_is_read_as_wire_octets() {
    let account = account();
    account.put("cur/18.foreign:2,S", b"a\nb\r\nc");
    let seen = account.observe(false).unwrap();
    assert!(seen["18.foreign"].flags.contains(SystemFlag::Seen));
    let examined = account.maildir.examine(id(1), "18.foreign").unwrap();
    assert_eq!((examined.size, examined.wire_size), (6, 7));
    assert_eq!(examined.content, ContentId::of(b"a\nb\r\nc"));
    let mut body = account.maildir.open(id(1), "18.foreign").unwrap();
    assert_eq!(body.read_wire(1, 4).unwrap(), b"\r\nb\r");
    assert_eq!(body.read_wire(5, 100).unwrap(), b"\nc");
    assert_eq!(body.read_wire(0, 3).unwrap(), b"a\r\n");
}

#[test]
fn flags_and_keywords_are_written_into_names_and_foreign_changes_are_told() {
    let account = account();
    let base = account.deliver(id(1), 1, b"a\r\n");
    let keywords = [Keyword::new("$Label1").unwrap()];
    let flags = Flags { system: SystemFlags::NONE.with(SystemFlag::Seen), keywords: &keywords, fresh: false };
    account.maildir.write_flags(id(1), &base, flags).unwrap();
    assert_eq!(account.names("cur"), [format!("{base}:2,Sa")]);
    assert!(account.names("new").is_empty());
    account.observe(true);
    let cur = account.root().join("cur");
    account.fs.rename(&cur.join(format!("{base}:2,Sa")), &cur.join(format!("{base}:2,FPS"))).unwrap();
    let seen = account.observe(false).unwrap();
    let file = &seen[&*base];
    assert!(file.flags.contains(SystemFlag::Flagged) && file.keywords.is_empty());
    assert_eq!(file.changed_from.as_ref().unwrap().1, keywords);
    account.maildir.write_flags(id(1), &base, flags).unwrap();
    assert_eq!(account.names("cur"), [format!("{base}:2,PSa")], "a letter that is not ours stays");
}

#[test]
fn a_reader_finds_a_message_that_moves_under_it() {
    let account = account();
    let base = account.deliver(id(1), 1, b"a\r\n");
    account
        .fs
        .rename(
            &account.root().join("new").join(&*base),
            &account.root().join("cur").join(format!("{base}:2,S")),
        )
        .unwrap();
    assert_eq!(account.text(id(1), &base), b"a\r\n");
    account.maildir.place(id(2), &base, &[id(1)], fresh()).unwrap();
    assert_eq!(account.text(id(2), &base), b"a\r\n");
    assert!(account.names("cur").is_empty());
}

#[test]
fn an_expunged_message_can_be_read_until_it_is_swept() {
    let account = account();
    let base = account.deliver(id(1), 1, b"a\r\n");
    account.maildir.retire(id(1), &base, NOW_S).unwrap();
    assert!(account.names("new").is_empty());
    assert_eq!(account.text(id(1), &base), b"a\r\n");
    assert_eq!(account.maildir.sweep(NOW_S, Epoch::new(1, 1), &|_| true).unwrap(), 0);
    assert_eq!(account.maildir.sweep(NOW_S + 61, Epoch::new(1, 1), &|_| false).unwrap(), 1);
    assert!(account.maildir.open(id(1), &base).unwrap_err_is_not_found());
}

trait NotFound {
    fn unwrap_err_is_not_found(&self) -> bool;
}

impl NotFound for Result<Body> {
    fn unwrap_err_is_not_found(&self) -> bool {
        matches!(self, Err(error) if error.is_not_found())
    }
}

#[test]
fn a_copy_is_a_link_and_a_sweep_spares_newer_owners() {
    let account = account();
    let base = account.deliver(id(1), 1, b"a\r\n");
    let copy = account.maildir.base(EntryId::from_bytes([2; 16]), Epoch::new(1, 2), NOW_US, 3, 3);
    account.maildir.stage(id(2), &copy, Source::Message { mailbox: id(1), base: &base }, NOW_S).unwrap();
    assert_eq!(
        account.maildir.sweep(NOW_S, Epoch::new(1, 1), &|_| false).unwrap(),
        0,
        "staged by a later epoch"
    );
    assert_eq!(account.maildir.sweep(NOW_S, Epoch::new(1, 2), &|_| true).unwrap(), 0, "it became a message");
    assert_eq!(account.maildir.sweep(NOW_S, Epoch::new(1, 2), &|_| false).unwrap(), 1);
}

#[test]
fn mailboxes_follow_their_names_also_when_two_change_places() {
    let account = account();
    account.deliver(id(2), 1, b"a\r\n");
    let swap = [(id(1), MailboxName::inbox()), (id(2), name("B")), (id(3), name("C"))];
    account.maildir.arrange(&swap, &|_| true, NOW_S).unwrap();
    let swapped = [(id(1), MailboxName::inbox()), (id(2), name("C")), (id(3), name("B"))];
    account.maildir.arrange(&swapped, &|_| true, NOW_S).unwrap();
    let again = Maildir::new(
        Arc::clone(&account.fs),
        &Home::recognise(&*account.fs, &account.dir.path().join("ada")).unwrap(),
    );
    let found: Vec<_> = again
        .mailboxes()
        .unwrap()
        .into_iter()
        .map(|found| (found.name.to_string(), found.id.unwrap()))
        .collect();
    assert_eq!(found, [("B".into(), id(3)), ("C".into(), id(2)), ("INBOX".into(), id(1))]);
    assert_eq!(again.observe(id(2), NOW_US, false).unwrap().unwrap().files.len(), 1);
    again.arrange(&[(id(1), MailboxName::inbox())], &|_| true, NOW_S).unwrap();
    assert_eq!(again.mailboxes().unwrap().len(), 1);
}

#[test]
fn broken_and_doubled_names_are_mended_and_told() {
    let account = account();
    account.put("cur/:2,S", b"x\n");
    account.put("cur/19.a:2,", b"one\n");
    account.put("cur/19.a:2,S", b"two\n");
    account.put("cur/20.b:2,", b"same\n");
    account.fs.link(&account.root().join("cur/20.b:2,"), &account.root().join("cur/20.b:2,F")).unwrap();
    let observed = account.maildir.observe(id(1), NOW_US, false).unwrap().unwrap();
    assert_eq!(observed.healed.len(), 3, "{:?}", observed.healed);
    assert_eq!(observed.files.len(), 4);
}

#[test]
fn lists_written_are_lists_read() {
    let account = account();
    let lists = Lists {
        uid_validity: 1_795_319_792,
        uid_next: 9,
        uids: vec![(3, "a,S=1".into(), None), (7, "b".into(), Some("0001".into()))],
    };
    account.maildir.write_lists(id(1), &lists).unwrap();
    let read = account.maildir.former_lists(&MailboxName::inbox()).unwrap();
    assert_eq!((read.uid_validity, read.uid_next), (Some(1_795_319_792), Some(9)));
    assert_eq!((read.uids, read.guid), (lists.uids, Some([1; 16])));
    let names = [name("Archive/2026"), name("Entw\u{fc}rfe"), name("R&D")];
    account.maildir.write_subscriptions(&names).unwrap();
    assert_eq!(account.maildir.former_subscriptions().unwrap(), names);
}

#[test]
fn a_long_message_streams_through_the_spool() {
    let account = account();
    let mut incoming = account.spool.begin();
    let line = b"0123456789abcdef\r\n";
    for _ in 0..20_000 {
        incoming.write(line).unwrap();
    }
    let spooled = incoming.finish().unwrap();
    assert_eq!(spooled.size, 360_000);
    assert_eq!(spooled.wire_size, 360_000);
    let path = spooled.path().to_owned();
    assert_eq!(account.fs.metadata(&path).unwrap().length, 360_000);
    drop(spooled);
    assert!(!account.fs.exists(&path).unwrap());
}

#[test]
fn bytes_that_a_crash_left_in_another_mailbox_are_found_and_placed() {
    let account = account();
    let base = account.deliver(id(2), 1, b"Subject: x\r\n\r\n");
    // The journal says INBOX, and nothing of where the message has been in between.
    account.maildir.place(id(1), &base, &[id(1)], fresh()).unwrap();
    assert_eq!(account.names("new"), [base.to_string()]);
}

#[test]
fn bytes_moved_out_of_a_mailbox_that_is_gone_are_found_where_they_were_put() {
    let account = account();
    let base = account.deliver(id(2), 1, b"Subject: x\r\n\r\n");
    account.maildir.place(id(1), &base, &[id(2)], fresh()).unwrap();
    account.maildir.arrange(&[(id(1), MailboxName::inbox())], &|_| true, NOW_S).unwrap();
    // What was carried out before a crash is asked for again after it.
    account.maildir.place(id(1), &base, &[id(2)], fresh()).unwrap();
    assert_eq!(account.names("new"), [base.to_string()]);
}
