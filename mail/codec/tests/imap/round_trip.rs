//! Reading is the inverse of writing, however the bytes are split.

use bytes::BytesMut;
use codec::exercise;
use codec::imap::command_encode::encode_command;
use codec::imap::{Body, Command, Decision, Frame, Framer, Limits};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::{body, command};

fn written(command: &Command) -> BytesMut {
    let mut out = BytesMut::new();
    encode_command(command, &mut out);
    out
}

/// What comes of `bytes`, pushed in pieces of these sizes in turn. Messages of APPEND are refused.
fn commands(bytes: &[u8], sizes: &[usize]) -> Vec<Command> {
    let mut framer = Framer::new(Limits::AFTER_LOGIN);
    let mut commands = Vec::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        framer.push(piece);
        while let Some(frame) = framer.next_frame() {
            match frame {
                Frame::Command(Ok(command)) => commands.push(command),
                Frame::AppendStart(command) => {
                    commands.push(command);
                    framer.decide(Decision::Refuse);
                }
                other => panic!("{other:?}"),
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    commands
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_command_that_is_written_is_read_as_itself(command in command(body())) {
        prop_assert_eq!(commands(&written(&command), &[usize::MAX]), [command]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_pipeline_of_commands_reads_the_same_in_any_split(
        sent in vec(command(body()), 1..6),
        sizes in vec(1usize..40, 1..8),
    ) {
        let mut bytes = Vec::new();
        for command in &sent {
            bytes.extend_from_slice(&written(command));
            // A refused message that is already on its way must be followed by what ends the command.
            if let Body::Append(append) = &command.body && append.literal.non_sync {
                bytes.extend(std::iter::repeat_n(b'x', append.literal.size as usize));
                bytes.extend_from_slice(b"\r\n");
            }
        }
        prop_assert_eq!(commands(&bytes, &sizes), sent);
    }

    #[test]
    fn octets_of_any_kind_keep_every_promise(bytes in vec(any::<u8>(), 0..200)) {
        exercise::imap(&bytes);
    }

    #[test]
    fn text_that_is_almost_a_command_keeps_every_promise(
        text in "(a )?(LOGIN|SEARCH|FETCH 1|LIST|APPEND|UID|STORE 1|SELECT)( |\\(|\\)|\"|\\{[0-9]{1,2}\\+?\\}\r\n|BODY\\[|\\]|<1.2>|NOT|OR|[a-z0-9*:,]{1,3}|\r\n){0,20}",
    ) {
        exercise::imap(text.as_bytes());
    }
}
