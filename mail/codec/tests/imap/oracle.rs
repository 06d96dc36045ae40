//! Another implementation as judge, for the part of the grammar that it knows (RFC 3501).

use bytes::BytesMut;
use codec::imap::command_encode::encode_command;
use codec::imap::set::Bound;
use codec::imap::{Body, Command, SearchKey, SequenceSet};
use imap_codec::decode::Decoder;
use imap_codec::encode::Encoder;
use imap_codec::{CommandCodec, ResponseCodec};
use proptest::prelude::*;

use crate::arbitrary::{command, rfc3501_body};
use crate::read;

/// The judge reads a whole command and writes it in its own way.
fn rewritten(text: &[u8]) -> Option<Vec<u8>> {
    let (rest, command) = CommandCodec::default().decode(text).ok()?;
    rest.is_empty().then(|| CommandCodec::default().encode(&command).dump())
}

/// The judge understands what we send.
pub(crate) fn assert_response_is_understood(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match ResponseCodec::default().decode(rest) {
            Ok((after, _)) => rest = after,
            Err(error) => panic!("{error:?} at {}", rest.escape_ascii()),
        }
    }
}

/// The judge merges ranges and takes the greatest number for `*`: both mean the same to it.
fn merge(set: &mut SequenceSet) {
    let ranges = set.resolve(u32::MAX);
    let bounds =
        |range: std::ops::RangeInclusive<u32>| (Bound::Number(*range.start()), Bound::Number(*range.end()));
    *set = SequenceSet::new(ranges.into_iter().map(bounds).collect()).unwrap();
}

fn merge_in_key(key: &mut SearchKey) {
    match key {
        SearchKey::And(keys) | SearchKey::Or(keys) => keys.iter_mut().for_each(merge_in_key),
        SearchKey::Not(key) => merge_in_key(key),
        SearchKey::Sequence(set) | SearchKey::Uid(set) => merge(set),
        _ => {}
    }
}

fn with_merged_sets(mut command: Command) -> Command {
    match &mut command.body {
        Body::Fetch(fetch) => merge(&mut fetch.set),
        Body::Store(store) => merge(&mut store.set),
        Body::Copy { set, .. } => merge(set),
        Body::Search(search) => merge_in_key(&mut search.key),
        _ => {}
    }
    command
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_judge_reads_what_we_write_and_we_agree_on_its_meaning(command in command(rfc3501_body())) {
        let mut text = BytesMut::new();
        encode_command(&command, &mut text);
        let theirs = rewritten(&text);
        prop_assert!(theirs.is_some(), "refused: {}", text.escape_ascii());
        let theirs = String::from_utf8_lossy(&theirs.unwrap()).into_owned();
        // Octets that are not UTF-8 do not survive a String; the round trip covers them.
        prop_assume!(!theirs.contains('\u{fffd}'));
        let again = read(theirs.strip_suffix("\r\n").unwrap()).map(with_merged_sets);
        prop_assert_eq!(again, Ok(with_merged_sets(command)), "{}", theirs.escape_debug());
    }
}

#[test]
fn the_judge_refuses_what_we_refuse() {
    let read: Vec<_> = crate::commands::MALFORMED
        .iter()
        .filter(|row| rewritten(format!("{row}\r\n").as_bytes()).is_some())
        .collect();
    assert!(read.is_empty(), "{read:?}");
}
