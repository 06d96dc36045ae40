//! Commands of every kind, at random.

use codec::imap::command::{
    AppendCommand, AppendLiteral, Authenticate, Body, Command, FetchCommand, ListCommand, ListReturn,
    ListSelection, Login, QresyncParameters, SearchCommand, SearchReturn, Select, SelectParameters,
    StatusItem, StoreAction, StoreCommand, Tag,
};
use codec::imap::date::{Date, DateTime};
use codec::imap::set::Bound;
use codec::imap::{
    FetchItem, ListPattern, Partial, SearchKey, Section, SectionText, SequenceSet, WireMailbox,
};
use model::{Flag, Keyword, SpecialUse, SystemFlag, UidValidity};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

pub(crate) fn tag() -> impl Strategy<Value = Tag> {
    "[A-Za-z0-9.\\]-]{1,8}".prop_map(|text| Tag::new(text.as_bytes()).unwrap())
}

/// Octets without NUL, which no string can carry.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[ -~]{0,12}".prop_map(String::into_bytes),
        1 => vec(1u8..=255, 0..12),
    ]
}

fn mailbox() -> impl Strategy<Value = WireMailbox> {
    prop_oneof![Just(b"INBOX".to_vec()), octets()].prop_map(WireMailbox::new)
}

fn pattern() -> impl Strategy<Value = ListPattern> {
    prop_oneof!["[%*a-z/]{0,6}".prop_map(String::into_bytes), octets()].prop_map(ListPattern::new)
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..20, Just(u32::MAX), 1..u32::MAX]
}

fn set_of(bound: impl Strategy<Value = Bound> + Clone) -> impl Strategy<Value = SequenceSet> {
    vec((bound.clone(), bound), 1..5).prop_map(|ranges| SequenceSet::new(ranges).unwrap())
}

fn plain_bound() -> impl Strategy<Value = Bound> + Clone {
    number().prop_map(Bound::Number).boxed()
}

fn plain_set() -> impl Strategy<Value = SequenceSet> {
    set_of(plain_bound())
}

pub(crate) fn set() -> impl Strategy<Value = SequenceSet> {
    set_of(prop_oneof![4 => plain_bound(), 1 => Just(Bound::Star)].boxed())
}

fn keyword() -> impl Strategy<Value = Keyword> {
    "[$A-Za-z][A-Za-z0-9_]{0,9}".prop_map(|name| Keyword::new(&name).unwrap())
}

fn flag() -> impl Strategy<Value = Flag> {
    prop_oneof![select(SystemFlag::ALL.to_vec()).prop_map(Flag::System), keyword().prop_map(Flag::Keyword)]
}

fn flags() -> impl Strategy<Value = Vec<Flag>> {
    vec(flag(), 0..4)
}

fn date() -> impl Strategy<Value = Date> {
    (-719_162i64..=2_932_896).prop_map(Date::from_days)
}

fn date_time() -> impl Strategy<Value = DateTime> {
    (any::<i32>(), -1439i16..=1439).prop_map(|(unix_s, zone)| DateTime::new(i64::from(unix_s), zone))
}

fn modseq() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..1000, Just(i64::MAX as u64)]
}

fn simple_key() -> impl Strategy<Value = SearchKey> {
    select(vec![
        SearchKey::All,
        SearchKey::Answered,
        SearchKey::Deleted,
        SearchKey::Draft,
        SearchKey::Flagged,
        SearchKey::New,
        SearchKey::Old,
        SearchKey::Recent,
        SearchKey::Seen,
        SearchKey::Unanswered,
        SearchKey::Undeleted,
        SearchKey::Undraft,
        SearchKey::Unflagged,
        SearchKey::Unseen,
    ])
}

fn text_key() -> impl Strategy<Value = SearchKey> {
    prop_oneof![
        octets().prop_map(SearchKey::Bcc),
        octets().prop_map(SearchKey::Body),
        octets().prop_map(SearchKey::Cc),
        octets().prop_map(SearchKey::From),
        octets().prop_map(SearchKey::Subject),
        octets().prop_map(SearchKey::Text),
        octets().prop_map(SearchKey::To),
        (octets(), octets()).prop_map(|(name, value)| SearchKey::Header { name, value }),
    ]
}

fn date_key() -> impl Strategy<Value = SearchKey> {
    prop_oneof![
        date().prop_map(SearchKey::Before),
        date().prop_map(SearchKey::On),
        date().prop_map(SearchKey::SentBefore),
        date().prop_map(SearchKey::SentOn),
        date().prop_map(SearchKey::SentSince),
        date().prop_map(SearchKey::Since),
    ]
}

fn other_key(extensions: bool) -> BoxedStrategy<SearchKey> {
    let base = prop_oneof![
        keyword().prop_map(SearchKey::Keyword),
        keyword().prop_map(SearchKey::Unkeyword),
        any::<u32>().prop_map(|size| SearchKey::Larger(u64::from(size))),
        any::<u32>().prop_map(|size| SearchKey::Smaller(u64::from(size))),
        set().prop_map(SearchKey::Sequence),
        set().prop_map(SearchKey::Uid),
    ];
    if !extensions {
        return base.boxed();
    }
    let more = prop_oneof![
        modseq().prop_map(SearchKey::ModSeq),
        number().prop_map(SearchKey::Older),
        number().prop_map(SearchKey::Younger),
        "[A-Za-z0-9_-]{1,20}".prop_map(SearchKey::EmailId),
        "[A-Za-z0-9_-]{1,20}".prop_map(SearchKey::ThreadId),
    ];
    prop_oneof![base, more].boxed()
}

fn search_key(extensions: bool) -> BoxedStrategy<SearchKey> {
    let leaf = prop_oneof![simple_key(), text_key(), date_key(), other_key(extensions)];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(SearchKey::And),
            vec(inner.clone(), 2..4).prop_map(SearchKey::Or),
            inner.prop_map(|key| SearchKey::Not(Box::new(key))),
        ]
    })
    .boxed()
}

fn section() -> impl Strategy<Value = Section> {
    let names = || vec("[A-Za-z-]{1,8}", 1..3);
    let text = prop_oneof![
        Just(SectionText::Whole),
        Just(SectionText::Header),
        Just(SectionText::Text),
        Just(SectionText::Mime),
        names().prop_map(SectionText::HeaderFields),
        names().prop_map(SectionText::HeaderFieldsNot),
    ];
    (vec(1u32..40, 0..4), text).prop_map(|(part, text)| {
        let text = if part.is_empty() && text == SectionText::Mime { SectionText::Whole } else { text };
        Section { part, text }
    })
}

fn fetch_items(extensions: bool) -> impl Strategy<Value = Vec<FetchItem>> {
    let partial = (any::<u32>(), number())
        .prop_map(|(offset, length)| Partial { offset: u64::from(offset), length: u64::from(length) });
    let octets = (any::<bool>(), section(), option::of(partial))
        .prop_map(|(peek, section, partial)| FetchItem::Section { peek, section, partial });
    let mut plain = vec![
        FetchItem::Uid,
        FetchItem::Flags,
        FetchItem::InternalDate,
        FetchItem::Rfc822Size,
        FetchItem::Envelope,
        FetchItem::Body,
        FetchItem::BodyStructure,
        FetchItem::Rfc822,
        FetchItem::Rfc822Header,
        FetchItem::Rfc822Text,
    ];
    if extensions {
        plain.extend([FetchItem::ModSeq, FetchItem::EmailId, FetchItem::ThreadId]);
    }
    let all = plain.len();
    (subsequence(plain, 0..=all), vec(octets, 1..3)).prop_map(|(mut items, octets)| {
        for item in octets {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        items
    })
}

fn status_items() -> impl Strategy<Value = Vec<StatusItem>> {
    subsequence(StatusItem::ALL.to_vec(), 1..=StatusItem::ALL.len())
}

fn select_command() -> impl Strategy<Value = Select> {
    let uid_validity = number().prop_map(|value| UidValidity::new(value).unwrap());
    let qresync = (uid_validity, modseq(), option::of(plain_set()), option::of((plain_set(), plain_set())))
        .prop_map(|(uid_validity, modseq, known_uids, matches)| QresyncParameters {
            uid_validity,
            modseq,
            known_uids,
            matches,
        });
    (mailbox(), any::<bool>(), option::of(qresync)).prop_map(|(mailbox, condstore, qresync)| Select {
        mailbox,
        parameters: SelectParameters { condstore, qresync },
    })
}

fn list_command() -> impl Strategy<Value = ListCommand> {
    let returns = (any::<[bool; 3]>(), option::of(status_items())).prop_map(
        |([subscribed, children, special_use], status)| ListReturn {
            subscribed,
            children,
            special_use,
            status,
        },
    );
    (mailbox(), vec(pattern(), 1..3), any::<[bool; 4]>(), returns, any::<bool>()).prop_map(
        |(reference, patterns, [subscribed, remote, recursive, special_use], returns, extended)| {
            let recursive_match = recursive && (subscribed || special_use);
            let selection = ListSelection { subscribed, remote, recursive_match, special_use };
            let extended = extended
                || patterns.len() > 1
                || selection != ListSelection::default()
                || returns != ListReturn::default();
            ListCommand { reference, patterns, selection, returns, extended }
        },
    )
}

fn append() -> impl Strategy<Value = AppendCommand> {
    (mailbox(), flags(), option::of(date_time()), 0..1_000_000u64, any::<bool>()).prop_map(
        |(mailbox, flags, date, size, non_sync)| AppendCommand {
            mailbox,
            flags,
            date,
            literal: AppendLiteral { size, non_sync },
        },
    )
}

fn search(extensions: bool) -> impl Strategy<Value = SearchCommand> {
    let returns = any::<[bool; 4]>().prop_filter_map("at least one", |[min, max, all, count]| {
        (min || max || all || count).then_some(SearchReturn { min, max, all, count })
    });
    let charset = option::of(select(vec!["UTF-8".to_owned(), "US-ASCII".to_owned()]));
    (any::<bool>(), option::of(returns), charset, search_key(extensions)).prop_map(
        move |(uid, returns, charset, key)| SearchCommand {
            uid,
            returns: returns.filter(|_| extensions),
            charset,
            key,
        },
    )
}

fn fetch(extensions: bool) -> impl Strategy<Value = FetchCommand> {
    (any::<bool>(), set(), fetch_items(extensions), option::of(modseq()), any::<bool>()).prop_map(
        move |(uid, set, items, changed_since, vanished)| {
            let changed_since = changed_since.filter(|_| extensions);
            let vanished = vanished && uid && changed_since.is_some();
            FetchCommand { uid, set, items, changed_since, vanished }
        },
    )
}

fn store(extensions: bool) -> impl Strategy<Value = StoreCommand> {
    let action = select(vec![StoreAction::Replace, StoreAction::Add, StoreAction::Remove]);
    (any::<bool>(), set(), option::of(modseq()), action, any::<bool>(), flags()).prop_map(
        move |(uid, set, unchanged_since, action, silent, flags)| StoreCommand {
            uid,
            set,
            unchanged_since: unchanged_since.filter(|_| extensions),
            action,
            silent,
            flags,
        },
    )
}

fn plain_body() -> impl Strategy<Value = Body> {
    select(vec![Body::Capability, Body::Noop, Body::Logout, Body::Close, Body::Check, Body::Expunge])
}

/// Bodies of RFC 3501, without what other RFCs add to them.
pub(crate) fn rfc3501_body() -> impl Strategy<Value = Body> {
    let named = prop_oneof![
        mailbox().prop_map(|mailbox| Body::Create { mailbox, special_use: Vec::new() }),
        mailbox().prop_map(Body::Delete),
        mailbox().prop_map(Body::Subscribe),
        mailbox().prop_map(Body::Unsubscribe),
        mailbox().prop_map(|mailbox| Body::Select(Select { mailbox, parameters: Default::default() })),
        mailbox().prop_map(|mailbox| Body::Examine(Select { mailbox, parameters: Default::default() })),
        (mailbox(), mailbox()).prop_map(|(from, to)| Body::Rename { from, to }),
        (mailbox(), pattern()).prop_map(|(reference, pattern)| Body::Lsub { reference, pattern }),
        (mailbox(), subsequence(StatusItem::ALL[..5].to_vec(), 1..=5))
            .prop_map(|(mailbox, items)| Body::Status { mailbox, items }),
        (mailbox(), pattern()).prop_map(|(reference, pattern)| {
            Body::List(ListCommand {
                reference,
                patterns: vec![pattern],
                selection: Default::default(),
                returns: Default::default(),
                extended: false,
            })
        }),
    ];
    prop_oneof![
        plain_body(),
        named,
        (octets(), octets()).prop_map(|(user, password)| Body::Login(Login { user, password })),
        search(false).prop_map(Body::Search),
        fetch(false).prop_map(Body::Fetch),
        store(false).prop_map(Body::Store),
        (any::<bool>(), set(), mailbox()).prop_map(|(uid, set, mailbox)| Body::Copy { uid, set, mailbox }),
    ]
}

/// Every body.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    let id_field = ("[ -~]{0,8}", option::of("[ -~\u{e9}]{0,8}"));
    prop_oneof![
        rfc3501_body(),
        select(vec![Body::StartTls, Body::Idle, Body::Namespace, Body::Unselect]),
        option::of(vec(id_field, 0..3)).prop_map(Body::Id),
        ("[A-Z0-9-]{1,12}", option::of(vec(any::<u8>(), 0..20)))
            .prop_map(|(mechanism, initial)| Body::Authenticate(Authenticate { mechanism, initial })),
        vec("[A-Z0-9=-]{1,12}", 1..3).prop_map(Body::Enable),
        select_command().prop_map(Body::Select),
        select_command().prop_map(Body::Examine),
        (mailbox(), subsequence(SpecialUse::ALL.to_vec(), 0..=7))
            .prop_map(|(mailbox, special_use)| Body::Create { mailbox, special_use }),
        list_command().prop_map(Body::List),
        (mailbox(), status_items()).prop_map(|(mailbox, items)| Body::Status { mailbox, items }),
        append().prop_map(Body::Append),
        set().prop_map(Body::UidExpunge),
        search(true).prop_map(Body::Search),
        fetch(true).prop_map(Body::Fetch),
        store(true).prop_map(Body::Store),
        (any::<bool>(), set(), mailbox()).prop_map(|(uid, set, mailbox)| Body::Move { uid, set, mailbox }),
    ]
}

pub(crate) fn command(body: impl Strategy<Value = Body>) -> impl Strategy<Value = Command> {
    (tag(), body).prop_map(|(tag, body)| Command { tag, body })
}
