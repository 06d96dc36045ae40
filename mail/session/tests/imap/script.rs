//! Transcripts: what clients send, what must come back line by line, and what happens meanwhile.
//!
//! `C:` and `S:` are the first client, `C2:` and `S2:` the second. In an expected line `...` stands for any text. Before
//! a client speaks, and at the end, nothing that it was sent may be left unexpected. Other lines are events:
//!
//!     deliver MAILBOX SUBJECT      expunge MAILBOX UID       flag MAILBOX UID +FLAG|-FLAG
//!     create|delete MAILBOX        renumber MAILBOX          forget MAILBOX (what vanished)
//!     unobserved MAILBOX SUBJECT   wait SECONDS              stop | kick | hang up
//!     refuse REASON                gone|short UID            closed REASON

use std::time::Duration;

use account::door::{FlagEdit, Refused};
use model::{MailboxName, ModSeq, Uid, UidValidity};
use session::Input;

use crate::world::World;

/// Runs a transcript with clients that are logged in.
pub(crate) fn check(script: &str) {
    check_in(&mut World::new(), script);
}

pub(crate) fn check_in(world: &mut World, script: &str) {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match speaker(word) {
            Some(('C', client)) => {
                while world.clients.len() <= client {
                    world.login();
                }
                expect_nothing(world, client, line);
                world.send(client, format!("{rest}\r\n").as_bytes());
            }
            Some((_, client)) => expect_line(world, client, rest, line),
            None => event(world, word, rest),
        }
    }
    for client in 0..world.clients.len() {
        expect_nothing(world, client, "the end");
    }
}

fn speaker(word: &str) -> Option<(char, usize)> {
    let kind = word.chars().next().filter(|kind| "CS".contains(*kind))?;
    match word[1..].strip_suffix(':')? {
        "" => Some((kind, 0)),
        number => Some((kind, number.parse::<usize>().ok()? - 1)),
    }
}

fn expect_nothing(world: &World, client: usize, before: &str) {
    let left = String::from_utf8_lossy(&world.clients[client].received);
    assert!(left.is_empty(), "before `{before}` client {} was sent unexpectedly:\n{left}", client + 1);
}

fn expect_line(world: &mut World, client: usize, pattern: &str, line: &str) {
    let received = &mut world.clients[client].received;
    let Some(end) = received.windows(2).position(|pair| pair == b"\r\n") else {
        panic!("expected `{line}`, came {:?}", String::from_utf8_lossy(received));
    };
    let found = String::from_utf8_lossy(&received[..end]).into_owned();
    let after = String::from_utf8_lossy(&received[end + 2..]).into_owned();
    received.drain(..end + 2);
    assert!(fits(pattern, &found), "expected `{line}`\n    came `{found}`\n    then:\n{after}");
}

/// Whether the line fits: `...` stands for any text.
pub(crate) fn fits(pattern: &str, line: &str) -> bool {
    let mut pieces = pattern.split("...");
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for piece in middle {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

pub(crate) fn mail(subject: &str) -> Vec<u8> {
    format!(
        "From: Ada <ada@example.org>\r\nTo: grace@example.org\r\nSubject: {subject}\r\n\
         Date: Thu, 1 Jan 2026 10:00:00 +0000\r\nMessage-ID: <{subject}@example.org>\r\n\r\nHello {subject}\r\n"
    )
    .into_bytes()
}

fn event(world: &mut World, word: &str, rest: &str) {
    let words: Vec<&str> = rest.split(' ').collect();
    let uid = |text: &str| text.parse::<u32>().unwrap();
    match word {
        "deliver" => {
            world.deliver(words[0], &mail(words[1]));
        }
        "unobserved" => world.unobserved.push((MailboxName::new(words[0]).unwrap(), mail(words[1]))),
        "expunge" => world.expunge(words[0], uid(words[1])),
        "flag" => {
            let edit = if words[2].starts_with('+') { FlagEdit::Add } else { FlagEdit::Remove };
            world.edit_flags(words[0], uid(words[1]), edit, &[&words[2][1..]]);
        }
        "create" => {
            world.create(words[0]);
        }
        "delete" => {
            world.create("unrelated");
            world.boxes.remove(&MailboxName::new(words[0]).unwrap());
        }
        "renumber" => {
            world.create("unrelated");
            world.mailbox(words[0]).uid_validity = UidValidity::new(43).unwrap();
        }
        "forget" => {
            let mailbox = world.mailbox(words[0]);
            mailbox.forgotten_to = mailbox.highest_modseq;
            mailbox.vanished.retain(|(modseq, _)| *modseq > ModSeq(mailbox.forgotten_to));
        }
        "wait" => return world.advance(Duration::from_secs(words[0].parse().unwrap())),
        "stop" => return world.input(0, Input::Stopping),
        "kick" => return world.input(0, Input::Kicked("kicked by the operator")),
        "hang" => return world.input(0, Input::Received(b"")),
        "gone" => {
            world.gone.insert(Uid::new(uid(words[0])).unwrap());
            return;
        }
        "short" => {
            world.short.insert(Uid::new(uid(words[0])).unwrap());
            return;
        }
        "refuse" => {
            world.refuse = Some(match rest {
                "unknown" => Refused::Unknown,
                "quota" => Refused::OverQuota { used_bytes: 1, limit_bytes: 1, message_bytes: 1 },
                "deposed" => Refused::Deposed,
                "space" => Refused::NoSpace("full".to_owned()),
                other => panic!("no refusal {other}"),
            });
            return;
        }
        "closed" => {
            let why = format!("{:?}", world.clients[0].closed.as_ref());
            assert!(why.starts_with(&format!("Some({rest}")), "closed: {why}");
            return;
        }
        other => panic!("no event {other}"),
    }
    world.publish();
}
