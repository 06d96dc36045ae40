//! Records that no honest site would send: they change what they can, and nothing panics (R-OP1).

use proptest::prelude::*;

use super::sites::{Site, account, honest, shown, validity_of};
use crate::op::{Append, Claim, Header, Path};
use crate::state::{AccountState, Applied};
use crate::{
    ContentId, DeliveryKey, Dot, EntryId, Flag, MailboxId, MessageId, ModSeq, Op, Record, ReplicaId, SiteId,
    Stamp, SystemFlag, Uid, VersionVector,
};

fn dot() -> impl Strategy<Value = Dot> {
    (0..3_u8, 0..3_u32, 1..9_u64).prop_map(|(site, incarnation, seq)| {
        Dot::new(ReplicaId::new(SiteId::new(site).unwrap(), incarnation), seq).unwrap()
    })
}

fn dots() -> impl Strategy<Value = Vec<Dot>> {
    prop::collection::vec(dot(), 0..4)
}

fn mailbox() -> impl Strategy<Value = MailboxId> {
    (0..4_u8).prop_map(|n| match n {
        0 => MailboxId::derive(account(), None, "INBOX", 0),
        n => MailboxId::from_bytes([n; 16]),
    })
}

fn entry() -> impl Strategy<Value = EntryId> {
    (0..3_u8).prop_map(|n| EntryId::from_bytes([n; 16]))
}

fn path() -> impl Strategy<Value = Path> {
    let level = prop_oneof![
        "[aA]",
        "\\PC{0,3}",
        Just("..".into()),
        Just("a/b".into()),
        Just("iNBOX".into()),
        Just("x".repeat(199))
    ];
    (prop::option::of(mailbox()), level).prop_map(|(parent, level)| Path { parent, level })
}

fn claim() -> impl Strategy<Value = Claim> {
    (mailbox(), path(), prop::option::of(path()), dots(), dots(), 0..3_u8).prop_map(
        |(mailbox, path, left, observed, seen_deletes, slot)| Claim {
            mailbox,
            path,
            left,
            observed,
            seen_deletes,
            uid_validity: validity_of(slot),
            special_use: None,
        },
    )
}

fn append() -> impl Strategy<Value = Append> {
    (entry(), mailbox(), any::<u8>(), prop::option::of(0..2_u64)).prop_map(|(entry, mailbox, text, key)| {
        let header = Header {
            message: MessageId::from_bytes([text; 16]),
            content: ContentId::of(&[text % 2]),
            size: u64::MAX,
            wire_size: u64::from(text),
            internal_date: i64::MIN,
            save_date: i64::MAX,
            base: "".into(),
            delivery: key.map(DeliveryKey),
            uidl: None,
        };
        Append { entry, mailbox, header, flags: vec![Flag::System(SystemFlag::Seen)], uid: None }
    })
}

fn version() -> impl Strategy<Value = VersionVector> {
    dots().prop_map(|dots| {
        let mut version = VersionVector::default();
        dots.into_iter().for_each(|dot| _ = version.advance(dot, 0));
        version
    })
}

fn op() -> impl Strategy<Value = Op> {
    let uid = (0..3_u8, 1..=u32::MAX).prop_map(|(slot, uid)| (validity_of(slot), Uid::new(uid).unwrap()));
    prop_oneof![
        append().prop_map(Op::Append),
        (entry(), append()).prop_map(|(source, append)| Op::Copy { source, append }),
        (entry(), dots(), mailbox(), prop::option::of(uid.clone()))
            .prop_map(|(entry, observed, to, uid)| Op::Move { entry, observed, to, uid }),
        prop::collection::vec((entry(), dots()), 0..3).prop_map(|entries| Op::Expunge { entries }),
        prop::collection::vec(entry(), 0..3).prop_map(|entries| Op::Flags {
            entries,
            set: vec![Flag::System(SystemFlag::Draft)],
            clear: vec![Flag::System(SystemFlag::Draft)],
        }),
        prop::collection::vec((entry(), dot(), uid), 0..3).prop_map(|uids| Op::AssignUid { uids }),
        (mailbox(), prop::collection::vec((entry(), dot()), 0..3), any::<u32>())
            .prop_map(|(mailbox, tags, exposed_next)| Op::UidLate { mailbox, tags, exposed_next }),
        claim().prop_map(Op::MailboxCreate),
        claim().prop_map(Op::MailboxRename),
        claim().prop_map(Op::MailboxUndelete),
        (mailbox(), dots(), version(), path()).prop_map(|(mailbox, observed, context, gone)| {
            Op::MailboxDelete { mailbox, observed, context, gone }
        }),
        (mailbox(), dots()).prop_map(|(mailbox, observed)| Op::Acl {
            mailbox,
            identifier: "-".to_owned(),
            rights: Some("zz%".to_owned()),
            observed
        }),
        any::<u64>().prop_map(|stamp| Op::ScriptDelete {
            name: String::new(),
            observed: Some(Stamp::from_u64(stamp))
        }),
    ]
}

proptest! {
    #[test]
    fn no_record_makes_the_state_panic(ops in prop::collection::vec((op(), dot(), any::<u64>()), 0..40)) {
        let mut state = AccountState::new(account(), SiteId::new(0).unwrap());
        let mut done = 0;
        for (op, dot, stamp) in ops {
            let dot = state.version().next_dot(dot.rid()).unwrap();
            let record = Record { dot, stamp: Stamp::from_u64(stamp), modseq: ModSeq(0), op };
            done += u64::from(matches!(honest(&mut state, &record), Applied::Done(_)));
            let seen = shown(&state);
            let names: std::collections::BTreeSet<_> = seen.mailboxes.iter().map(|m| m.name.clone()).collect();
            prop_assert_eq!(names.len(), seen.mailboxes.len(), "two mailboxes have one name");
            for (entry, (place, _, _)) in &seen.entries {
                let reachable = seen.mailboxes.iter().any(|m| m.id == place.mailbox && m.selectable);
                prop_assert!(reachable, "{} is in a mailbox that is not shown", entry);
            }
        }
        prop_assert_eq!(state.version().iter().map(|(_, head)| head.seq).sum::<u64>(), done);
        let version = state.version().clone();
        let before = (shown(&state), state.digest());
        state.forget_removed(&version);
        prop_assert_eq!((shown(&state), state.digest()), before);
        let stored = bincode::serialize(&state).unwrap();
        let read: AccountState = bincode::deserialize(&stored).unwrap();
        prop_assert_eq!(read.digest(), state.digest());
    }
}

#[test]
fn a_record_out_of_turn_changes_nothing() {
    let mut site = Site::new(0, honest);
    let inbox = site.create_inbox();
    let mut late = site.clone();
    site.append(inbox, "one");
    site.append(inbox, "two");
    let before = late.state.digest();
    assert_eq!(late.take(&site.journal[2]), Applied::Gap);
    assert_eq!(late.take(&site.journal[0]), Applied::Known);
    assert_eq!(late.state.digest(), before);
    assert!(matches!(late.take(&site.journal[1]), Applied::Done(_)));
    assert!(matches!(late.take(&site.journal[2]), Applied::Done(_)));
    assert_eq!(late.state.digest(), site.state.digest());
}
