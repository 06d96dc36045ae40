//! mbsync (isync): two stores made equal, both ways; a second run moves nothing.

#![expect(
    clippy::disallowed_methods,
    reason = "strangers live outside the walls: own sockets, files and clock"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use jepsen::corpus::{self, Kind, Message};
use jepsen::server::{Server, Setup, password, user};
use jepsen::strangers::{run_ok, server_for, with_lf};

const PATIENCE: Duration = Duration::from_secs(240);
/// Of which one in sixteen stays at home.
const COUNT: u64 = 2150;

struct Local {
    root: PathBuf,
    config: PathBuf,
}

impl Local {
    fn new(server: &Server, name: &str) -> anyhow::Result<Self> {
        let root = server.dir().join(name);
        fs::create_dir_all(&root)?;
        let config = root.join("mbsyncrc");
        let text = format!(
            "IMAPAccount far\nHost 127.0.0.1\nPort {port}\nUser {user}\nPass {password}\nSSLType None\nAuthMechs LOGIN\n\n\
             IMAPStore far\nAccount far\n\nMaildirStore near\nPath {root}/\nInbox {root}/INBOX\nSubFolders Verbatim\n\n\
             Channel all\nFar :far:\nNear :near:\nPatterns INBOX Archive\nCreate Both\nExpunge Both\nSync All\nSyncState *\n",
            port = server.ports().imap.port(),
            user = user(0),
            password = password(0),
            root = root.display(),
        );
        fs::write(&config, text)?;
        Ok(Self { root, config })
    }

    fn sync(&self) -> anyhow::Result<()> {
        let config = self.config.display().to_string();
        run_ok("mbsync", &["-c", &config, "all"], PATIENCE).map(drop)
    }

    /// Files of a mailbox by UID, which mbsync keeps in the name.
    fn messages(&self, mailbox: &str) -> anyhow::Result<BTreeMap<u32, PathBuf>> {
        let mut found = BTreeMap::new();
        for part in ["new", "cur"] {
            for entry in fs::read_dir(self.root.join(mailbox).join(part))? {
                let path = entry?.path();
                let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
                let (_, rest) = name.split_once(",U=").with_context(|| format!("no UID in {name}"))?;
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                found.insert(digits.parse()?, path);
            }
        }
        Ok(found)
    }
}

fn messages(seed: u64, count: u64) -> Vec<Message> {
    // mbsync passes over what has no empty line after the header ("incomplete header").
    corpus::messages(seed, count).into_iter().filter(|message| message.kind != Kind::NoBody).collect()
}

/// mbsync marks what it carries.
fn without_mark(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"X-TUID: ")).flatten().copied().collect()
}

/// Everything that a run could have changed.
fn picture(server: &Server, local: &Local) -> anyhow::Result<(Vec<String>, Vec<PathBuf>)> {
    let mut imap = server.imap(0)?;
    let selected = imap.select("INBOX")?;
    let fetched = imap.uid_fetch("1:*", "(UID FLAGS MODSEQ)")?;
    let mut far: Vec<String> = fetched.iter().map(|one| format!("{one:?}")).collect();
    far.push(format!("{}", selected.uidnext));
    imap.logout()?;
    Ok((far, local.messages("INBOX")?.into_values().collect()))
}

#[test]
fn mbsync_pulls_every_message_as_it_is_and_moves_nothing_twice() -> anyhow::Result<()> {
    let test = "mbsync_pulls_every_message_as_it_is_and_moves_nothing_twice";
    let Some(server) = server_for(test, &["mbsync"], Setup::from_environment())? else { return Ok(()) };
    let messages = messages(11, COUNT);
    let mut imap = server.imap(0)?;
    let mut by_uid = BTreeMap::new();
    for message in &messages {
        let placed = imap.append("INBOX", "\\Seen", &message.bytes)?;
        by_uid.insert(placed.context("no APPENDUID")?.1, message);
    }
    let local = Local::new(&server, "near")?;
    local.sync()?;
    let near = local.messages("INBOX")?;
    assert_eq!(near.len(), messages.len());
    for (uid, path) in &near {
        let message = by_uid.get(uid).with_context(|| format!("UID {uid} is not on the server"))?;
        let same = without_mark(&fs::read(path)?) == with_lf(&message.bytes);
        assert!(same, "message {}, {:?}, has changed: {}", message.number, message.kind, path.display());
    }
    let before = picture(&server, &local)?;
    local.sync()?;
    assert_eq!(picture(&server, &local)?, before, "the second run moved something");
    Ok(())
}

#[test]
fn mbsync_pushes_messages_and_carries_flags_and_expunges_both_ways() -> anyhow::Result<()> {
    let test = "mbsync_pushes_messages_and_carries_flags_and_expunges_both_ways";
    let Some(server) = server_for(test, &["mbsync"], Setup::from_environment())? else { return Ok(()) };
    let local = Local::new(&server, "near")?;
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(local.root.join("INBOX").join(part))?;
    }
    let messages = messages(12, 200);
    for message in &messages {
        let path = local.root.join("INBOX/cur").join(format!("{:04}.local:2,S", message.number));
        fs::write(path, with_lf(&message.bytes))?;
    }
    local.sync()?;
    let mut imap = server.imap(0)?;
    imap.select("INBOX")?;
    let fetched = imap.uid_fetch("1:*", "(UID FLAGS BODY.PEEK[])")?;
    assert_eq!(fetched.len(), messages.len());
    let mut far: Vec<Vec<u8>> =
        fetched.iter().map(|one| without_mark(one.body().unwrap_or_default())).collect();
    let mut sent: Vec<Vec<u8>> = messages.iter().map(|message| message.bytes.clone()).collect();
    far.sort();
    sent.sort();
    assert!(far == sent, "what was pushed has changed");
    assert!(fetched.iter().all(|one| one.flags().is_some_and(|flags| flags.contains("\\Seen"))));

    // One flag and one deletion on each side, on messages of their own.
    let near = local.messages("INBOX")?;
    let uids: Vec<u32> = near.keys().copied().collect();
    let path = |uid: u32| -> &Path { near.get(&uid).map_or(Path::new(""), PathBuf::as_path) };
    let (ours, theirs, our_end, their_end) = (uids[0], uids[1], uids[2], uids[3]);
    let name = path(ours).display().to_string();
    fs::rename(path(ours), name.replace(":2,S", ":2,FS"))?;
    fs::remove_file(path(our_end))?;
    imap.command(&format!("UID STORE {theirs} +FLAGS (\\Answered)"))?;
    imap.command(&format!("UID STORE {their_end} +FLAGS (\\Deleted)"))?;
    imap.command(&format!("UID EXPUNGE {their_end}"))?;
    local.sync()?;

    imap.command("NOOP")?;
    let flagged = imap.uid_search("FLAGGED")?;
    assert_eq!(flagged, [ours]);
    let near = local.messages("INBOX")?;
    let answered = near.get(&theirs).context("answered message is gone")?.display().to_string();
    assert!(answered.ends_with(":2,RS"), "{answered}");
    let left: Vec<u32> = imap.uid_search("ALL")?;
    assert_eq!(left, near.keys().copied().collect::<Vec<_>>());
    assert!(!left.contains(&our_end) && !left.contains(&their_end));
    Ok(())
}
