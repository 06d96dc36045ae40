//! Peers and machines that don't do their part: silent and slow clients, a full disk, a clock that steps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, MsFlags};

use super::damage::maildir;
use super::{Scene, VICTIM};
use crate::client::{Failure, Wire};
use crate::dice::Dice;
use crate::server::{Kind, Setup, open_files, resident_kib, unprivileged};
use crate::strangers::run;
use crate::wait;

const PATIENCE: Duration = Duration::from_secs(60);
/// With the journal, room for a few messages of 100 KiB.
const DISK: &str = "size=6m";

pub(super) fn half_open(scene: &mut Scene) -> anyhow::Result<()> {
    let ports = scene.server.ports();
    let mut open = Vec::new();
    for (address, half) in [(ports.imap, "a LOG"), (ports.pop3, "US"), (ports.lmtp, "LHL")] {
        for _ in 0..20 {
            let mut wire = Wire::connect(address, PATIENCE)?;
            wire.line()?;
            wire.send(half.as_bytes())?;
            open.push(wire);
        }
    }
    // Beside them others come in as ever, and deliver.
    scene.server.deliver(VICTIM, b"Subject: beside\r\n\r\nx\r\n")?;
    scene.nothing_is_lost()?;
    for wire in &mut open {
        wire.half_close()?;
        ensure!(wire.is_closed(), "a client hung up in the middle of a word, and the server stays");
    }
    // Hung up in the middle of a message: nothing is delivered.
    let mut imap = scene.server.imap(VICTIM)?;
    let before = imap.select("INBOX")?.exists;
    let mut lmtp = scene.server.lmtp()?;
    lmtp.command("MAIL FROM:<s@example.net>")?;
    lmtp.command(&format!("RCPT TO:<{}>", crate::server::user(VICTIM)))?;
    lmtp.command("DATA")?;
    lmtp.wire().send(b"Subject: half\r\n\r\nhalf a")?;
    lmtp.wire().half_close()?;
    ensure!(lmtp.wire().is_closed(), "LMTP stays after the client hung up");
    ensure!(imap.select("INBOX")?.exists == before, "half a message was delivered");
    Ok(())
}

pub(super) fn short_stall(setup: &mut Setup) -> anyhow::Result<Option<String>> {
    if setup.kind == Kind::Dovecot {
        return Ok(Some("Dovecot lets slow readers stay for half an hour".to_owned()));
    }
    setup.limits.push_str("output_stall = \"2s\"\n");
    Ok(None)
}

/// Asks for a lot and takes nothing: costs a bounded amount of memory, and then is disconnected.
pub(super) fn slow_reader(scene: &mut Scene) -> anyhow::Result<()> {
    const ROUNDS: usize = 200;
    const GROWN_KIB_MAX: u64 = 48 << 10;
    let pid = scene.server.pid().context("not started")?;
    let mut imap = scene.server.imap(VICTIM)?;
    let large = ["Subject: large\r\n\r\n", &"0123456789abcde\r\n".repeat(60_000)].concat();
    imap.append("INBOX", "", large.as_bytes())?;
    imap.select("INBOX")?;
    let before = resident_kib(pid)?;
    for _ in 0..ROUNDS {
        imap.send(b"UID FETCH 1:* (BODY[])")?;
    }
    // The server has not written more than it may while we took nothing; then it gives up.
    let mut most = 0;
    let closed = wait::until(PATIENCE, || {
        most = most.max(resident_kib(pid).unwrap_or(0).saturating_sub(before));
        // What we send to a closed socket is answered by a reset, and the next write fails.
        imap.send(b"NOOP").is_err().then_some(())
    });
    ensure!(most < GROWN_KIB_MAX, "a slow reader cost {most} KiB");
    let got = imap.wire().rest().len();
    let asked = large.len() * ROUNDS;
    ensure!(got < asked, "a reader that took nothing for long was sent everything");
    ensure!(closed.is_some(), "a slow reader is not disconnected");
    Ok(())
}

pub(super) fn small_disk(setup: &mut Setup) -> anyhow::Result<Option<String>> {
    let Some(owner) = unprivileged()? else {
        return Ok(Some("a small disk is mounted by root only".to_owned()));
    };
    let mut dice = Dice::new(u64::from(std::process::id()));
    let path = std::env::temp_dir().join(format!("jepsen-disk-{:x}", dice.throw()));
    fs::create_dir_all(&path)?;
    let mounted = nix::mount::mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(DISK));
    if let Err(error) = mounted {
        fs::remove_dir(&path)?;
        return Ok(Some(format!("no tmpfs can be mounted here: {error}")));
    }
    nix::unistd::chown(&path, Some(owner.uid), Some(owner.gid))?;
    setup.mail_root = Some(path);
    Ok(None)
}

/// Takes away what `small_disk` put there.
pub(super) fn clean_up(scene: &Scene) {
    if let Some(path) =
        scene.server.setup().mail_root.as_deref().filter(|path| path.starts_with(std::env::temp_dir()))
    {
        let _busy = nix::mount::umount2(path, MntFlags::MNT_DETACH);
        let _used = fs::remove_dir(path);
    }
}

pub(super) fn full_disk(scene: &mut Scene) -> anyhow::Result<()> {
    let ballast = scene.server.mail_root().join("ballast");
    fs::write(&ballast, vec![b'x'; 1 << 20])?;
    let body = "0123456789abcde\r\n".repeat(6000);
    let mut delivered = Vec::new();
    let mut full = false;
    for number in 0..200 {
        let message = format!("Subject: filler {number}\r\n\r\n{body}");
        match scene.server.deliver(VICTIM, message.as_bytes()) {
            Ok(()) => delivered.push(number),
            Err(Failure::Refused(why)) => {
                ensure!(why.starts_with('4'), "a full disk is told as for ever: {why}");
                full = true;
                break;
            }
            Err(failure) => return Err(failure).context("a full disk is answered"),
        }
    }
    ensure!(full, "the disk never filled up");
    // Whatever still fits, until nothing does: then every kind of change, each answered yes or no.
    let filler = scene.server.mail_root().join("filler");
    let _full = fs::write(&filler, vec![b'y'; 8 << 20]);
    let mut imap = scene.server.imap(VICTIM)?;
    imap.select("INBOX")?;
    let commands = ["CREATE Full", "UID STORE 1 +FLAGS (\\Answered)", "UID COPY 1 INBOX", "SUBSCRIBE INBOX"];
    for command in commands {
        let answer = imap.command(command);
        ensure!(matches!(answer, Ok(_) | Err(Failure::Refused(_))), "{command}: {answer:?}");
    }
    let answer = imap.append("INBOX", "", body.as_bytes());
    ensure!(matches!(answer, Err(Failure::Refused(_))), "APPEND to a full disk: {answer:?}");
    scene.nothing_is_lost().context("reading while the disk is full")?;
    // Room again: all goes on without a restart.
    fs::remove_file(&filler)?;
    fs::remove_file(&ballast)?;
    let again = wait::until(PATIENCE, || scene.server.deliver(VICTIM, b"Subject: again\r\n\r\nx\r\n").ok());
    ensure!(again.is_some(), "there is room again, and nothing is taken");
    scene.server.kill();
    scene.server.restart().context("after a full disk")?;
    let mut imap = scene.server.imap(VICTIM)?;
    imap.select("INBOX")?;
    for number in delivered {
        let found = imap.uid_search(&format!("SUBJECT \"filler {number}\""))?;
        ensure!(!found.is_empty(), "acknowledged message {number} is lost");
    }
    Ok(())
}

fn set_mode(dir: &Path, mode: u32) -> anyhow::Result<()> {
    for part in ["", "new", "cur", "tmp"] {
        fs::set_permissions(dir.join(part), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

pub(super) fn unwritable_directory(scene: &mut Scene) -> anyhow::Result<()> {
    let dir = maildir(scene, VICTIM)?;
    set_mode(&dir, 0o500)?;
    let verdict = scene.server.deliver(VICTIM, b"Subject: closed\r\n\r\nx\r\n");
    let read = scene.nothing_is_lost();
    set_mode(&dir, 0o700)?;
    match verdict {
        Err(Failure::Refused(why)) => ensure!(why.starts_with('4'), "told as for ever: {why}"),
        Ok(()) | Err(Failure::Lost(_) | Failure::Broken(_)) => {
            ensure!(false, "a delivery into a closed directory: {verdict:?}");
        }
    }
    read.context("reading while the directory is closed")?;
    let again = wait::until(PATIENCE, || scene.server.deliver(VICTIM, b"Subject: open\r\n\r\nx\r\n").ok());
    ensure!(again.is_some(), "the directory is open again, and nothing is taken");
    Ok(())
}

fn clock_file(setup: &Setup) -> Option<PathBuf> {
    setup.wrapper.iter().find_map(|word| word.strip_prefix("FAKETIME_TIMESTAMP_FILE=")).map(PathBuf::from)
}

pub(super) fn own_clock(setup: &mut Setup) -> anyhow::Result<Option<String>> {
    let places =
        ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    let mut libraries = places.iter().map(|dir| Path::new(dir).join("libfaketimeMT.so.1"));
    let Some(library) = libraries.find(|path| path.exists()) else {
        return Ok(Some("no libfaketime here".to_owned()));
    };
    let file = tempfile::Builder::new().prefix("jepsen-clock-").tempfile()?;
    let (_, path) = file.keep()?;
    fs::write(&path, "+0\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    let wrapper = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", path.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        // Steps are of the wall clock: a monotonic clock does not step.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let works = run("env", &[&wrapper[1..], &["date".to_owned()]].concat(), PATIENCE)?.status.success();
    setup.wrapper = wrapper.to_vec();
    Ok((!works).then(|| "libfaketime does not work here".to_owned()))
}

pub(super) fn stepped_clock(scene: &mut Scene) -> anyhow::Result<()> {
    let clock = clock_file(scene.server.setup()).context("no clock")?;
    let mut imap = scene.server.imap(VICTIM)?;
    let mut uidnext = imap.select("INBOX")?.uidnext;
    for step in ["-1d", "+3650d", "+1d", "-30d", "+0"] {
        // In place: the server's user may read this file, and not another in its stead.
        fs::write(&clock, format!("{step}\n"))?;
        scene.server.deliver(VICTIM, format!("Subject: at {step}\r\n\r\nx\r\n").as_bytes())?;
        imap.append("INBOX", "\\Seen", format!("Subject: appended at {step}\r\n\r\nx\r\n").as_bytes())?;
        imap.command("NOOP")?;
        let fetched = imap.uid_fetch(&format!("{uidnext}:*"), "(UID INTERNALDATE)")?;
        ensure!(fetched.len() == 2, "{} new messages after a step of {step}", fetched.len());
        uidnext += 2;
        ensure!(fetched.last().and_then(|one| one.uid()) == Some(uidnext - 1), "UIDs after a step of {step}");
        scene.server.imap(VICTIM).context("login after a step")?.logout()?;
    }
    let pid = scene.server.pid().context("not started")?;
    ensure!(open_files(pid)? > 0);
    fs::remove_file(&clock)?;
    Ok(())
}
