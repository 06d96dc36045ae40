//! Files that were changed behind the server's back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::{Scene, VICTIM};
use crate::client::Failure;
use crate::corpus;
use crate::dice::Dice;
use crate::server::Kind;
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(60);

/// The Maildir of an account, wherever in its home it is.
pub(super) fn maildir(scene: &Scene, account: usize) -> anyhow::Result<PathBuf> {
    let home = scene.server.account_dir(account);
    let found = [home.join("Maildir"), home.clone()].into_iter().find(|dir| dir.join("cur").is_dir());
    found.with_context(|| format!("no Maildir in {}", home.display()))
}

/// The file of the victim's message number `number`.
fn message_file(scene: &Scene, number: u64) -> anyhow::Result<PathBuf> {
    let dir = maildir(scene, VICTIM)?;
    let wanted = corpus::message(5, number).bytes;
    let lf = crate::strangers::with_lf(&wanted);
    for part in ["cur", "new"] {
        for entry in fs::read_dir(dir.join(part))? {
            let path = entry?.path();
            let bytes = fs::read(&path)?;
            if bytes == wanted || bytes == lf {
                return Ok(path);
            }
        }
    }
    bail!("no file of message {number} in {}", dir.display())
}

/// The files below a directory that `wanted` picks.
fn files(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if wanted(&path.file_name().unwrap_or_default().to_string_lossy()) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Overwrites in place, so that owner and name stay.
fn garble(path: &Path, seed: u64) -> anyhow::Result<()> {
    let length = fs::metadata(path)?.len();
    let garbage = Dice::new(seed).bytes(usize::try_from(length)?.max(64));
    fs::write(path, garbage).with_context(|| path.display().to_string())
}

pub(super) fn message_removed(scene: &mut Scene) -> anyhow::Result<()> {
    let mut imap = scene.server.imap(VICTIM)?;
    imap.select("INBOX")?;
    let gone = *scene.uids.get(1).context("no second message")?;
    fs::remove_file(message_file(scene, 1)?)?;
    // Told that it is gone or that it can't be read, now or when the server has looked; never something else's bytes.
    let told = wait::until(PATIENCE, || match imap.uid_fetch(&gone.to_string(), "(UID BODY.PEEK[])") {
        Ok(fetched) if fetched.iter().all(|one| one.body().is_none_or(<[u8]>::is_empty)) => Some(Ok(())),
        Ok(_) => None,
        Err(Failure::Refused(_) | Failure::Lost(_)) => Some(Ok(())),
        Err(failure) => Some(Err(failure)),
    });
    told.context("a removed message is still shown")??;
    scene.all_but(&[gone])?;
    scene.server.deliver(VICTIM, b"Subject: next\r\n\r\nx\r\n")?;
    // It is not to come back, nor to take another's place.
    scene.uids.retain(|_| false);
    Ok(())
}

pub(super) fn message_garbled(scene: &mut Scene) -> anyhow::Result<()> {
    let hurt = *scene.uids.get(1).context("no second message")?;
    garble(&message_file(scene, 1)?, 1)?;
    for item in ["BODY.PEEK[]", "ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[TEXT]", "RFC822.SIZE"] {
        let mut imap = scene.server.imap(VICTIM)?;
        imap.select("INBOX")?;
        let answer = imap.uid_fetch(&hurt.to_string(), &format!("(UID {item})"));
        ensure!(matches!(answer, Ok(_) | Err(Failure::Refused(_) | Failure::Lost(_))), "{item}: {answer:?}");
    }
    scene.all_but(&[hurt])?;
    scene.uids.retain(|_| false);
    Ok(())
}

/// Kills the server, changes files of the victim's account, and starts it again.
fn while_down(scene: &mut Scene, change: impl FnOnce(&Scene) -> anyhow::Result<usize>) -> anyhow::Result<()> {
    scene.server.kill();
    let changed = change(scene)?;
    if changed == 0 {
        let here: Vec<PathBuf> = files(&scene.server.account_dir(VICTIM), &|_| true)?;
        bail!("there was nothing to garble among {here:?}");
    }
    scene.server.restart()?;
    scene.nothing_is_lost()?;
    scene.server.deliver(VICTIM, b"Subject: after\r\n\r\nx\r\n")?;
    let mut imap = scene.server.imap(VICTIM)?;
    let selected = imap.select("INBOX")?;
    let newest = scene.uids.iter().max().copied().unwrap_or(0);
    ensure!(selected.uidnext > newest + 1, "UIDNEXT {} after UID {newest}", selected.uidnext);
    Ok(())
}

fn own_files(scene: &Scene, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    match scene.server.kind() {
        Kind::Roost => files(&scene.server.account_dir(VICTIM).join(".roost"), wanted),
        Kind::Dovecot => files(&scene.server.account_dir(VICTIM), &|name| {
            name.starts_with("dovecot.index") && wanted(name)
        }),
    }
}

/// Everything that can be made anew from journal and files: checkpoints and caches.
pub(super) fn index_garbled(scene: &mut Scene) -> anyhow::Result<()> {
    // Checkpoints are written when an account closes, at the latest.
    scene.server.stop()?;
    scene.server.restart()?;
    scene.nothing_is_lost()?;
    scene.server.stop()?;
    while_down(scene, |scene| {
        let index = |name: &str| !is_journal(name);
        let found = own_files(scene, &index)?;
        for (path, seed) in found.iter().zip(0..) {
            garble(path, seed)?;
        }
        Ok(found.len())
    })
}

/// What a write that was torn by a crash leaves behind the last acknowledged record.
pub(super) fn journal_tail_garbled(scene: &mut Scene) -> anyhow::Result<()> {
    while_down(scene, |scene| {
        let found = own_files(scene, &is_journal)?;
        let newest = found.iter().max().into_iter();
        let mut changed = 0;
        for path in newest {
            let mut bytes = fs::read(path)?;
            bytes.extend_from_slice(&Dice::new(9).bytes(777));
            fs::write(path, bytes)?;
            changed += 1;
        }
        Ok(changed)
    })
}

pub(super) fn uidlist_garbled(scene: &mut Scene) -> anyhow::Result<()> {
    let is_list = |name: &str| name == "dovecot-uidlist";
    if files(&scene.server.account_dir(VICTIM), &is_list)?.is_empty() {
        // Ours keeps none until a mailbox is given back; one that somebody else leaves there must not confuse it.
        let path = maildir(scene, VICTIM)?.join("dovecot-uidlist");
        fs::write(&path, "3 V1 N1\n")?;
        scene.server.own(&path)?;
    }
    if scene.server.kind() == Kind::Dovecot {
        // It gives new UIDs then, and says so by a new UIDVALIDITY.
        scene.uids.clear();
    }
    while_down(scene, |scene| {
        let found = files(&scene.server.account_dir(VICTIM), &is_list)?;
        for path in &found {
            garble(path, 3)?;
        }
        Ok(found.len())
    })
}

fn is_journal(name: &str) -> bool {
    name.ends_with(".seg")
}
