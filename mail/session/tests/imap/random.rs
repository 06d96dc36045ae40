//! A client that believes every untagged response it gets must see the mailbox as the server does.

use std::collections::BTreeSet;

use account::door::FlagEdit;
use proptest::prelude::*;

use crate::select::select;
use crate::world::World;

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Deliver,
    Expunge(usize),
    Flag(usize, bool),
    Command(Command),
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Noop,
    Fetch,
    UidFetch,
    Store(usize),
    Search,
    Idle,
    Expunge,
    Move(usize),
    SilentStore(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let command = prop_oneof![
        Just(Command::Noop),
        Just(Command::Fetch),
        Just(Command::UidFetch),
        (0..9usize).prop_map(Command::Store),
        Just(Command::Search),
        Just(Command::Idle),
        Just(Command::Expunge),
        (0..9usize).prop_map(Command::Move),
        (0..9usize).prop_map(Command::SilentStore),
    ];
    prop_oneof![
        2 => Just(Step::Deliver),
        2 => (0..9usize).prop_map(Step::Expunge),
        2 => (0..9usize, any::<bool>()).prop_map(|(at, on)| Step::Flag(at, on)),
        4 => command.prop_map(Step::Command),
    ]
}

/// The client's picture: for each message its UID, once known, and its flags.
#[derive(Default)]
struct Model {
    messages: Vec<(Option<u32>, BTreeSet<String>)>,
    recent: usize,
}

impl Model {
    fn hear(&mut self, line: &str, may_expunge: bool) {
        let Some(rest) = line.strip_prefix("* ") else { return };
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words.as_slice() {
            ["VANISHED", uids] => {
                assert!(may_expunge, "{line}");
                for uid in expand(uids) {
                    let before = self.messages.len();
                    self.messages.retain(|(known, _)| *known != Some(uid));
                    assert_eq!(self.messages.len() + 1, before, "{uid} was not known");
                }
            }
            [number, "EXPUNGE"] => {
                assert!(may_expunge, "{line}");
                self.messages.remove(number.parse::<usize>().unwrap() - 1);
            }
            [number, "EXISTS"] => {
                let count: usize = number.parse().unwrap();
                assert!(count >= self.messages.len(), "EXISTS shrinks");
                self.messages.resize_with(count, Default::default);
            }
            [number, "RECENT"] => self.recent = number.parse().unwrap(),
            [number, "FETCH", ..] => {
                let message = &mut self.messages[number.parse::<usize>().unwrap() - 1];
                if let Some(at) = words.iter().position(|word| word.trim_start_matches('(') == "UID") {
                    let uid = words[at + 1].trim_end_matches(')').parse().unwrap();
                    assert!(
                        message.0.is_none_or(|known| known == uid),
                        "another message under this number: {line}"
                    );
                    message.0 = Some(uid);
                }
                if let Some((_, flags)) = rest.split_once("FLAGS (") {
                    let flags = flags.split_once(')').unwrap().0.split_whitespace();
                    message.1 = flags.filter(|flag| *flag != "\\Recent").map(str::to_owned).collect();
                }
            }
            _ => {}
        }
    }
}

fn expand(set: &str) -> Vec<u32> {
    let range = |range: &str| {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()
    };
    set.split(',').flat_map(range).collect()
}

struct Run {
    world: World,
    model: Model,
}

impl Run {
    fn new(qresync: bool) -> Self {
        let mut world = World::new();
        world.create("Other");
        for _ in 0..4 {
            world.deliver("INBOX", b"a: b\r\n\r\nx\r\n");
        }
        world.login();
        if qresync {
            world.send(0, b"e ENABLE QRESYNC\r\n");
            world.clients[0].received.clear();
        }
        select(&mut world, "SELECT INBOX");
        let mut run = Self { world, model: Model::default() };
        run.model.messages.resize_with(4, Default::default);
        run.model.recent = 4;
        run.say("FETCH 1:* (UID FLAGS)", true);
        run
    }

    fn say(&mut self, command: &str, may_expunge: bool) {
        self.world.send(0, format!("t {command}\r\n").as_bytes());
        self.listen(may_expunge);
    }

    fn listen(&mut self, may_expunge: bool) {
        let received = String::from_utf8(std::mem::take(&mut self.world.clients[0].received)).unwrap();
        received.lines().for_each(|line| self.model.hear(line, may_expunge));
        assert_eq!(self.world.clients[0].closed, None);
        // Learn the UIDs of what is new, as clients do.
        if self.model.messages.iter().any(|(uid, _)| uid.is_none()) && !received.contains("idling") {
            self.say("FETCH 1:* (UID FLAGS)", false);
        }
    }

    fn step(&mut self, step: &Step) {
        let pick = |world: &mut World, at: usize| {
            let messages = &world.mailbox("INBOX").messages;
            messages.get(at % messages.len().max(1)).map(|message| message.uid.get())
        };
        match step {
            Step::Deliver => {
                self.world.deliver("INBOX", b"a: b\r\n\r\nx\r\n");
            }
            Step::Expunge(at) => {
                if let Some(uid) = pick(&mut self.world, *at) {
                    self.world.expunge("INBOX", uid);
                }
            }
            Step::Flag(at, on) => {
                let edit = if *on { FlagEdit::Add } else { FlagEdit::Remove };
                if let Some(uid) = pick(&mut self.world, *at) {
                    self.world.edit_flags("INBOX", uid, edit, &["\\Answered", "$Key"]);
                }
            }
            Step::Command(command) => return self.command(*command),
        }
        self.world.publish();
        assert!(self.world.clients[0].received.is_empty(), "nothing is told between commands");
    }

    fn command(&mut self, command: Command) {
        let known = self.model.messages.len();
        let number = |at: usize| (known > 0).then(|| at % known + 1);
        match command {
            Command::Noop => self.say("NOOP", true),
            Command::Fetch if known > 0 => self.say("FETCH 1:* (FLAGS)", false),
            Command::UidFetch => self.say("UID FETCH 1:* (FLAGS)", true),
            Command::Store(at) => {
                if let Some(number) = number(at) {
                    self.say(&format!("STORE {number} +FLAGS (\\Flagged)"), false);
                }
            }
            Command::SilentStore(at) => {
                if let Some(number) = number(at) {
                    // A client applies what it asked for by itself.
                    self.model.messages[number - 1].1.insert("\\Seen".to_owned());
                    self.say(&format!("STORE {number} +FLAGS.SILENT (\\Seen)"), false);
                }
            }
            Command::Search => self.say("SEARCH ALL", false),
            Command::Idle => {
                self.say("IDLE", true);
                self.world.deliver("INBOX", b"a: b\r\n\r\nx\r\n");
                self.world.publish();
                self.world.send(0, b"DONE\r\n");
                self.listen(true);
            }
            Command::Expunge => self.say("EXPUNGE", true),
            Command::Move(at) => {
                if let Some(number) = number(at) {
                    self.say(&format!("MOVE {number} Other"), true);
                }
            }
            Command::Fetch => {}
        }
    }

    /// After a command at which everything may be told, both sides see the same.
    fn compare(&mut self) {
        self.say("NOOP", true);
        self.say("NOOP", true);
        let truth: Vec<(Option<u32>, BTreeSet<String>)> = self
            .world
            .mailbox("INBOX")
            .messages
            .iter()
            .map(|message| {
                let keywords = message.keywords.as_deref().unwrap_or_default();
                let flags = message.flags.iter().map(|flag| flag.as_str().to_owned());
                (
                    Some(message.uid.get()),
                    flags.chain(keywords.iter().map(|word| word.as_str().to_owned())).collect(),
                )
            })
            .collect();
        assert_eq!(self.model.messages, truth);
        assert_eq!(self.model.recent, truth.len(), "one session alone has all as recent");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn client_and_server_agree_after_any_changes(
        steps in proptest::collection::vec(step(), 0..40),
        qresync in any::<bool>(),
    ) {
        let mut run = Run::new(qresync);
        for (index, step) in steps.iter().enumerate() {
            run.step(step);
            if index % 8 == 7 {
                run.compare();
            }
        }
        run.compare();
    }
}
