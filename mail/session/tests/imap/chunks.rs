//! However bytes arrive, the conversation is the same; and pipelines are done in order.

use proptest::prelude::*;

use crate::world::World;

const PIPELINE: &[u8] =
    b"a SELECT INBOX\r\nb FETCH 1:* (FLAGS BODY[])\r\nc APPEND INBOX {12+}\r\nS: x\r\n\r\nbody\r\n\
d IDLE\r\nDONE\r\ne STORE 1 +FLAGS.SILENT (\\Deleted)\r\nf SEARCH TEXT {3+}\r\none\r\ng NOPE\r\nh EXPUNGE\r\n\
i STATUS INBOX (MESSAGES)\r\nj LOGOUT\r\n";

fn converse(pieces: &[&[u8]]) -> String {
    let mut world = World::new();
    world.deliver("INBOX", b"Subject: one\r\n\r\none\r\n");
    world.deliver("INBOX", b"Subject: two\r\n\r\ntwo\r\n");
    world.login();
    for piece in pieces {
        if world.clients[0].closed.is_none() {
            world.send(0, piece);
        }
    }
    String::from_utf8(std::mem::take(&mut world.clients[0].received)).unwrap()
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let all = converse(&[PIPELINE]);
    let tags: Vec<&str> = all
        .lines()
        .filter(|line| line.as_bytes().get(1) == Some(&b' ') && !line.starts_with(['*', '+']))
        .map(|line| &line[..1])
        .collect();
    assert_eq!(tags, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"], "{all}");
    assert!(all.contains("* STATUS \"INBOX\" (MESSAGES 2)\r\n"), "{all}");
}

#[test]
fn byte_by_byte_is_the_same_conversation() {
    let bytes: Vec<&[u8]> = PIPELINE.chunks(1).collect();
    assert_eq!(converse(&bytes), converse(&[PIPELINE]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_split_is_the_same_conversation(cuts in proptest::collection::btree_set(1..PIPELINE.len(), 0..12)) {
        let mut pieces = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([PIPELINE.len()]) {
            pieces.push(&PIPELINE[start..cut]);
            start = cut;
        }
        prop_assert_eq!(converse(&pieces), converse(&[PIPELINE]));
    }

    #[test]
    fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut world = World::new();
        world.deliver("INBOX", b"a: b\r\n\r\nx\r\n");
        world.login();
        world.send(0, b"a SELECT INBOX\r\n");
        world.send(0, &noise);
    }
}
