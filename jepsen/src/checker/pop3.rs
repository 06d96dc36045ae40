//! POP3's maildrop is one session's at a time; what was marked goes when QUIT is acknowledged, and stays gone; what was
//! marked by a session that never said QUIT stays (RFC 1939 §3, §6).
//!
//! A session certainly has the maildrop from when it was told so until it asked what it was last answered: after that
//! the server may have let it go.

use std::collections::{BTreeMap, BTreeSet};

use super::{Mark, Violation, mark};
use crate::history::{Entry, NEVER, Op, Outcome};

#[derive(Default)]
struct Session<'a> {
    opened: Option<(u64, u64, Mark)>,
    /// When the last question that was answered began.
    had_until_us: u64,
    marked: Vec<&'a str>,
    quit: Option<(Outcome, u64, Mark)>,
    last_told_us: u64,
}

/// What was in INBOX.
struct View<'a> {
    begun_us: u64,
    tokens: BTreeSet<&'a str>,
    mark: Mark,
}

#[derive(Default)]
struct Story<'a> {
    sessions: BTreeMap<u64, Session<'a>>,
    views: Vec<View<'a>>,
    /// Whose absence somebody else answers for: expunged, moved, or not certainly there.
    elsewhere: BTreeSet<&'a str>,
    added: BTreeSet<&'a str>,
}

pub fn check(account: usize, entries: &[&Entry]) -> Vec<Violation> {
    let mut story = Story::default();
    entries.iter().for_each(|entry| story.tell(entry));
    let mut wrong = story.together();
    wrong.extend(story.sessions.values().flat_map(|session| story.deletions(session)));
    wrong.into_iter().map(|(what, marks)| Violation { rule: "pop3", account, what, marks }).collect()
}

impl<'a> Story<'a> {
    fn tell(&mut self, entry: &&'a Entry) {
        let ok = entry.outcome == Outcome::Ok;
        match &entry.op {
            Op::MaildropOpened { session } if ok => {
                let session = self.sessions.entry(*session).or_default();
                session.opened = Some((entry.begun_us, entry.told_us, mark(entry)));
            }
            Op::MaildropAnswered { session } if ok => self.answered(*session, entry),
            Op::Marked { session, token } if ok => {
                self.answered(*session, entry);
                self.sessions.entry(*session).or_default().marked.push(token);
            }
            Op::Quit { session } => {
                if ok {
                    self.answered(*session, entry);
                }
                let session = self.sessions.entry(*session).or_default();
                session.quit = Some((entry.outcome, entry.told_us, mark(entry)));
            }
            Op::Read { mailboxes } if ok => {
                let inbox = mailboxes.iter().filter(|view| view.mailbox == "INBOX");
                let tokens = inbox.flat_map(|view| &view.messages).map(|seen| seen.token.as_str());
                self.view(entry, tokens.collect());
            }
            Op::Popped { messages } if ok => {
                self.view(entry, messages.iter().map(|(_, token)| token.as_str()).collect());
            }
            Op::Add { token, mailbox, .. } if ok && mailbox == "INBOX" => {
                self.added.insert(token);
            }
            Op::Move { token, .. } | Op::Expunge { token, .. } => {
                self.elsewhere.insert(token);
            }
            Op::MaildropOpened { .. } | Op::MaildropAnswered { .. } | Op::Marked { .. } => {}
            Op::Add { .. } | Op::Read { .. } | Op::Popped { .. } | Op::Glance { .. } => {}
            Op::Flag { .. } | Op::Met { .. } | Op::Raise { .. } | Op::Counters { .. } => {}
            Op::Kill | Op::Nemesis(_) => {}
        }
    }

    fn answered(&mut self, session: u64, entry: &Entry) {
        let session = self.sessions.entry(session).or_default();
        session.had_until_us = session.had_until_us.max(entry.begun_us);
        session.last_told_us = session.last_told_us.max(entry.told_us);
    }

    fn view(&mut self, entry: &Entry, tokens: BTreeSet<&'a str>) {
        self.views.push(View { begun_us: entry.begun_us, tokens, mark: mark(entry) });
    }

    /// Two sessions that had it at the same time.
    fn together(&self) -> Vec<(String, Vec<Mark>)> {
        let mut opened: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|(id, session)| session.opened.map(|opened| (opened, session.had_until_us, *id)))
            .collect();
        opened.sort_unstable();
        let mut wrong = Vec::new();
        for ((_, told, first), until, id) in &opened {
            // Whoever was let in while this one certainly had it, or certainly had it at a moment when this one did.
            let meanwhile = opened.iter().filter(|((begun, other_told, _), other_until, other)| {
                let had_it = other_told >= told && other_until > other_told;
                other != id && other_told < until && (begun > told || had_it)
            });
            for ((_, _, second), _, other) in meanwhile {
                wrong.push((
                    format!("session {other} had the maildrop while session {id} had it"),
                    vec![*first, *second],
                ));
            }
        }
        wrong
    }

    fn deletions(&self, session: &Session<'a>) -> Vec<(String, Vec<Mark>)> {
        let mut wrong = Vec::new();
        let after = |us: u64| self.views.iter().filter(move |view| view.begun_us > us);
        match session.quit {
            Some((Outcome::Ok, told_us, quit)) => {
                for token in &session.marked {
                    if let Some(view) = after(told_us).find(|view| view.tokens.contains(token)) {
                        let what = format!("{token} was deleted by QUIT, and is there");
                        wrong.push((what, vec![quit, view.mark]));
                    }
                }
            }
            // -ERR and no answer: some of it is gone, or none.
            Some((Outcome::Fail | Outcome::Info, ..)) => {}
            None if session.last_told_us < NEVER => {
                let certain = |token: &&&str| {
                    self.added.contains(**token)
                        && !self.elsewhere.contains(**token)
                        && !self.quit_by_another(token)
                };
                for token in session.marked.iter().filter(certain) {
                    let gone = after(session.last_told_us).find(|view| !view.tokens.contains(token));
                    if let Some(view) = gone {
                        let what = format!("{token} was marked without QUIT, and is gone");
                        wrong.push((what, vec![view.mark]));
                    }
                }
            }
            None => {}
        }
        wrong
    }

    /// Whether a session that said QUIT had marked it.
    fn quit_by_another(&self, token: &str) -> bool {
        let mut quit = self.sessions.values().filter(|session| session.quit.is_some());
        quit.any(|session| session.marked.contains(&token))
    }
}

#[cfg(test)]
mod tests {
    use super::super::histories::{add, mailbox, read, refs, sequence};
    use super::*;

    fn opened(session: u64) -> (Outcome, Op) {
        (Outcome::Ok, Op::MaildropOpened { session })
    }

    fn answered(session: u64) -> (Outcome, Op) {
        (Outcome::Ok, Op::MaildropAnswered { session })
    }

    fn marked(session: u64) -> (Outcome, Op) {
        (Outcome::Ok, Op::Marked { session, token: "a".to_owned() })
    }

    fn quit(session: u64, outcome: Outcome) -> (Outcome, Op) {
        (outcome, Op::Quit { session })
    }

    fn sees(messages: &[(u32, &str)]) -> (Outcome, Op) {
        read(&[mailbox("INBOX", 9, messages)])
    }

    fn violations(steps: Vec<(Outcome, Op)>) -> Vec<String> {
        check(0, &refs(&sequence(steps))).into_iter().map(|violation| violation.what).collect()
    }

    fn added() -> (Outcome, Op) {
        (Outcome::Ok, add("a"))
    }

    #[test]
    fn good_histories_pass() {
        let none = Vec::<String>::new();
        let in_turn = vec![opened(1), answered(1), quit(1, Outcome::Ok), opened(2), answered(2)];
        assert_eq!(violations(in_turn), none);
        let lost = vec![opened(1), answered(1), opened(2), answered(2)];
        assert_eq!(violations(lost), none, "the first may have been let go after its last answer");
        let deleted = vec![added(), opened(1), marked(1), quit(1, Outcome::Ok), sees(&[])];
        assert_eq!(violations(deleted), none);
        for seen in [&[][..], &[(1, "a")]] {
            for outcome in [Outcome::Info, Outcome::Fail] {
                let unknown = vec![added(), opened(1), marked(1), quit(1, outcome), sees(seen)];
                assert_eq!(violations(unknown), none);
            }
        }
        assert_eq!(violations(vec![added(), opened(1), marked(1), sees(&[(1, "a")])]), none);
    }

    #[test]
    fn two_sessions_with_one_maildrop_are_caught() {
        let wrong = violations(vec![opened(1), opened(2), answered(1)]);
        assert_eq!(wrong, ["session 2 had the maildrop while session 1 had it"]);
    }

    #[test]
    fn a_refused_session_has_nothing() {
        let refused = (Outcome::Fail, Op::MaildropOpened { session: 2 });
        assert_eq!(violations(vec![opened(1), refused, answered(1)]), Vec::<String>::new());
    }

    #[test]
    fn a_deletion_that_is_undone_is_caught() {
        let back = vec![added(), opened(1), marked(1), quit(1, Outcome::Ok), sees(&[(1, "a")])];
        assert_eq!(violations(back), ["a was deleted by QUIT, and is there"]);
    }

    #[test]
    fn a_deletion_without_quit_is_caught() {
        let gone = vec![added(), opened(1), marked(1), sees(&[])];
        assert_eq!(violations(gone), ["a was marked without QUIT, and is gone"]);
    }
}
