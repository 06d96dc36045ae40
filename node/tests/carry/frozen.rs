//! A site that has lost its majority: sessions that were there read on, are told, and change nothing (`locking.md` §8).

use std::time::{Duration, Instant};

use crate::site::{Site, send, site_with};
use crate::world::{ADA, BOB, Client, EVE, eventually, message};

const MARK: &str = "* OK [ALERT] Read-only for now";
const UNMARK: &str = "* OK Read-only no more";
/// Deliveries and logins wait for an owner before they are refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(40);

fn frozen_for(longest: Duration) -> Site {
    let site = site_with(|config| config.cluster.frozen_read_max = longest);
    for user in [ADA, EVE] {
        site.settle(user, 1);
        for subject in ["one", "two"] {
            let reply = site.deliver(1, user, &message(subject, 100));
            assert!(reply.starts_with("250 "), "{reply}");
        }
    }
    site
}

fn selected(site: &Site) -> Client {
    let mut client = site.node(1).imap(ADA);
    client.ask("a SELECT INBOX", "a OK ");
    client
}

fn idle(site: &Site) -> Client {
    let mut client = selected(site);
    client.ask("b IDLE", "+ ");
    client
}

fn pop3(site: &Site) -> Client {
    let mut client = site.node(1).pop3(EVE);
    client.hear("+OK Maildrop has 2 messages");
    client
}

/// Stops two nodes that can be started again. The second goes when the first is over and done with: while leaders change, a
/// lease can end although there is a majority, and then sessions end, too.
fn lose_the_majority(site: &mut Site) {
    site.stop(2);
    let left = || site.node(1).running().locking.status().lease_remaining;
    let mut least = left();
    eventually("a lease that is renewed again", || {
        let now = left();
        least = least.min(now);
        now > least
    });
    let took = site.stop(3);
    assert!(took < Duration::from_secs(4), "who leads hands that over while it can be reached: {took:?}");
}

/// Reads what there is, and is refused every change.
fn reads_on(client: &mut Client) {
    let message = client.ask("r1 FETCH 1 (FLAGS BODY[])", "r1 OK ");
    assert!(message.contains("Subject: one"), "{message}");
    client.ask("r2 SELECT INBOX", "r2 OK ");
    client.ask("r3 STATUS INBOX (MESSAGES UNSEEN)", "r3 OK ");
    assert!(client.ask("r4 UID SEARCH SUBJECT two", "r4 OK ").contains("SEARCH 2"));
    client.ask("r5 NOOP", "r5 OK ");
    for change in
        ["STORE 1 +FLAGS (\\Flagged)", "COPY 1 INBOX", "EXPUNGE", "CREATE Elsewhere", "SUBSCRIBE INBOX"]
    {
        client.ask(&format!("r6 {change}"), "r6 NO [UNAVAILABLE] Read-only for now");
    }
    client.send(b"r7 APPEND INBOX {5+}\r\nA: b\n\r\n");
    client.hear("r7 NO [UNAVAILABLE] Read-only for now");
    assert!(!client.ask("r8 FETCH 1 (FLAGS)", "r8 OK ").contains("\\Seen"), "nothing was changed");
}

#[test]
fn without_a_majority_sessions_read_on_and_are_told_until_the_time_is_up() {
    let mut site = frozen_for(Duration::from_secs(10));
    let (mut reader, mut idler, mut popper) = (selected(&site), idle(&site), pop3(&site));
    popper.ask("DELE 2", "+OK");
    site.kill(2);
    site.kill(3);
    let since = Instant::now();
    let lost = idler.hear(MARK);
    assert_eq!(lost.lines().count(), 1, "nothing comes before it: {lost}");
    let node = site.node(1);
    assert!(node.running().ready().is_err() && node.metric("roost_frozen_read_only 1"));
    let (mut newcomer, mut mta) = (node.client("imap"), node.client("lmtp"));
    for client in [&mut newcomer, &mut mta] {
        client.stream.set_read_timeout(Some(REFUSED_WITHIN)).unwrap();
    }
    let newcomer = std::thread::spawn(move || newcomer.ask(&format!("n LOGIN {ADA} secret"), "n "));
    let mta = std::thread::spawn(move || {
        mta.hear("220 ");
        mta.ask("LHLO mta", "250 ");
        send(&mut mta, BOB, &message("late", 100))
    });
    reader.hear(MARK);
    reads_on(&mut reader);
    idler.ask("DONE", "b OK ");
    assert!(popper.ask("RETR 1", "+OK ").contains("read-only for now"));
    popper.hear("Subject: one");
    popper.hear(".\r\n");
    popper.ask("DELE 1", "-ERR [SYS/TEMP] Read-only for now");
    popper.ask("QUIT", "-ERR [SYS/TEMP] Read-only for now, nothing was removed");
    for client in [&mut reader, &mut idler] {
        client.hear("* BYE [UNAVAILABLE] This node has lost touch with its site");
        assert!(client.rest().is_empty());
    }
    assert!(since.elapsed() >= Duration::from_secs(10), "{:?}", since.elapsed());
    let told = newcomer.join().unwrap();
    assert!(told.contains("n NO [UNAVAILABLE]"), "nobody is let in: {told}");
    let told = mta.join().unwrap();
    assert!(told.starts_with("451 "), "{told}");
}

#[test]
fn when_the_majority_comes_back_sessions_are_told_and_go_on() {
    let mut site = frozen_for(Duration::from_secs(60));
    let (mut reader, mut idler, mut popper) = (selected(&site), idle(&site), pop3(&site));
    lose_the_majority(&mut site);
    idler.hear(MARK);
    reader.hear(MARK);
    reads_on(&mut reader);
    popper.ask("NOOP", "+OK read-only for now");
    site.start(3);
    for client in [&mut reader, &mut idler] {
        client.hear(UNMARK);
    }
    eventually("a node that takes part again", || site.node(1).running().ready().is_ok());
    assert!(site.node(1).metric("roost_frozen_read_only 0"));
    reader.ask("w STORE 1 +FLAGS (\\Flagged)", "w OK ");
    let heard = idler.hear("* 1 FETCH (");
    assert!(heard.contains("\\Flagged"), "{heard}");
    let reply = site.deliver(3, ADA, &message("after", 100));
    assert!(reply.starts_with("250 "), "{reply}");
    idler.hear("* 3 EXISTS");
    idler.ask("DONE", "b OK ");
    popper.ask("DELE 1", "+OK");
    popper.ask("QUIT", "+OK");
    let mut after = site.node(3).pop3(EVE);
    after.hear("+OK Maildrop has 1 message");
}

#[test]
fn a_session_in_the_middle_of_a_command_when_the_majority_comes_back_is_ended_and_not_shown_what_is_old() {
    let mut site = frozen_for(Duration::from_secs(60));
    let mut half = selected(&site);
    lose_the_majority(&mut site);
    half.hear(MARK);
    // The message is refused when it has come whole.
    half.say("h APPEND INBOX {100}");
    half.hear("+ ");
    half.send(b"From: x\r\n");
    site.start(3);
    let rest = String::from_utf8(half.rest()).unwrap();
    assert!(rest.starts_with("* BYE [UNAVAILABLE]") && rest.lines().count() == 1, "{rest}");
}

#[test]
fn nothing_is_shown_after_the_lease_where_that_is_not_wanted() {
    let mut site = frozen_for(Duration::ZERO);
    let mut idler = idle(&site);
    site.kill(2);
    site.kill(3);
    idler.hear("* BYE [UNAVAILABLE] This node has lost touch with its site");
    assert!(idler.rest().is_empty());
}
