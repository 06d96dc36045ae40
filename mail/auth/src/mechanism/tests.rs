use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn b64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

fn verify(user: &str, password: &str) -> Step {
    Step::Verify { user: user.to_owned(), password: Password::new(password) }
}

fn challenge(text: &str) -> Step {
    Step::Challenge(text.as_bytes().to_vec())
}

#[test]
fn plain_takes_one_response_at_once_or_when_asked() {
    let (_, step) = Conversation::start(Mechanism::Plain, Some(b"\0ada\0pw"));
    assert_eq!(step, verify("ada", "pw"));
    let (mut conversation, step) = Conversation::start(Mechanism::Plain, None);
    assert_eq!(step, challenge(""));
    assert_eq!(conversation.respond(b"ada\0ada\0pw"), verify("ada", "pw"));
    assert_eq!(conversation.respond(b"\0ada\0pw"), Step::Failed(Failure::OutOfTurn));
}

#[test]
fn plain_does_not_let_one_user_act_for_another() {
    let (_, step) = Conversation::start(Mechanism::Plain, Some(b"boss\0ada\0pw"));
    assert_eq!(step, Step::Failed(Failure::ActingForOther));
}

#[test]
fn plain_refuses_what_is_not_three_parts_of_utf8() {
    for response in
        [&b""[..], b"ada", b"\0ada", b"\0\0pw", b"\0ada\0", b"\0a\0b\0c", b"\0\xff\0pw", &[b'a'; 9000]]
    {
        let (_, step) = Conversation::start(Mechanism::Plain, Some(response));
        assert_eq!(step, Step::Failed(Failure::Malformed), "{response:?}");
    }
}

#[test]
fn login_asks_for_the_user_and_then_for_the_password() {
    let (mut conversation, step) = Conversation::start(Mechanism::Login, None);
    assert_eq!(step, challenge("Username:"));
    assert_eq!(conversation.respond(b"ada"), challenge("Password:"));
    assert_eq!(conversation.respond(b"pw"), verify("ada", "pw"));
    let (mut conversation, step) = Conversation::start(Mechanism::Login, Some(b"ada"));
    assert_eq!(step, challenge("Password:"));
    assert_eq!(conversation.respond(b""), Step::Failed(Failure::Malformed));
}

/// The example of RFC 7677 §3, message for message.
fn rfc_7677(password: &str) -> (Conversation, Step) {
    let scram = Scram::new(ScramDigest::Sha256).with_nonce("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    let mut conversation = Conversation { state: State::Scram(Box::new(scram)) };
    let step = conversation.respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    assert_eq!(step, Step::NeedKeys { user: "user".to_owned(), digest: ScramDigest::Sha256 });
    let salt = b64("W22ZaJ0SNY7soEsUEjb6gQ==");
    let step = conversation.keys(ScramKeys::derive(ScramDigest::Sha256, password.as_bytes(), &salt, 4096));
    let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    assert_eq!(step, challenge(first));
    let step = conversation.respond(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    (conversation, step)
}

#[test]
fn scram_speaks_the_conversation_of_rfc_7677() {
    let (mut conversation, step) = rfc_7677("pencil");
    assert_eq!(step, challenge("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    assert_eq!(conversation.respond(b""), Step::Done { user: "user".to_owned() });
}

#[test]
fn scram_refuses_a_proof_made_with_another_password() {
    let (mut conversation, step) = rfc_7677("eraser");
    assert_eq!(step, Step::Failed(Failure::Proof));
    assert_eq!(conversation.respond(b""), Step::Failed(Failure::OutOfTurn));
}

/// (RFC 5802 §5) The example there.
#[test]
fn scram_sha_1_speaks_the_conversation_of_rfc_5802() {
    let scram = Scram::new(ScramDigest::Sha1).with_nonce("3rfcNHYJY1ZVvWVs7j");
    let mut conversation = Conversation { state: State::Scram(Box::new(scram)) };
    conversation.respond(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
    let salt = b64("QSXCR+Q6sek8bf92");
    conversation.keys(ScramKeys::derive(ScramDigest::Sha1, b"pencil", &salt, 4096));
    let step = conversation
        .respond(b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
    assert_eq!(step, challenge("v=rmF9pqV8S7suAoZWja4dJRkFsKQ="));
}

#[test]
fn scram_takes_no_channel_binding_and_no_other_identity() {
    let failure = |first: &[u8]| Conversation::start(Mechanism::ScramSha256, Some(first)).1;
    assert_eq!(failure(b"p=tls-unique,,n=ada,r=abc"), Step::Failed(Failure::ChannelBinding));
    assert_eq!(failure(b"n,a=boss,n=ada,r=abc"), Step::Failed(Failure::ActingForOther));
    assert!(matches!(failure(b"n,a=ada,n=ada,r=abc"), Step::NeedKeys { .. }));
    assert!(matches!(failure(b"y,,n=a=2Cb=3Dc,r=abc"), Step::NeedKeys { user, .. } if user == "a,b=c"));
}

#[test]
fn scram_survives_every_truncation_and_every_changed_byte() {
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    for end in 0..first.len() {
        let _ = Conversation::start(Mechanism::ScramSha256, Some(&first[..end]));
    }
    let last = b"c=biws,r=abcxyz,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let keys = ScramKeys::decoy(ScramDigest::Sha256, b"salt");
    for index in 0..last.len() {
        for byte in [0, b',', b'=', b'z', 0xff] {
            let mut changed = last.to_vec();
            changed[index] = byte;
            for response in [&changed[..], &changed[..index]] {
                let scram = Scram::new(ScramDigest::Sha256).with_nonce("xyz");
                let mut conversation = Conversation { state: State::Scram(Box::new(scram)) };
                conversation.respond(b"n,,n=user,r=abc");
                conversation.keys(keys.clone());
                assert!(matches!(conversation.respond(response), Step::Failed(_)));
            }
        }
    }
}

#[test]
fn a_password_does_not_print_itself() {
    assert!(!format!("{:?}", verify("ada", "hunter2")).contains("hunter2"));
}
