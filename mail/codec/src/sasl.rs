//! SASL: the messages of PLAIN (RFC 4616) and SCRAM (RFC 5802), and base64 on the line.
//!
//! Grammar only; what the messages mean is `auth`'s. All of it works on complete, bounded responses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Decodes what a client sent as a response. `=` is an empty initial response (RFC 4959 §3).
pub fn decode_response(line: &[u8]) -> Option<Vec<u8>> {
    if line == b"=" { Some(Vec::new()) } else { STANDARD.decode(line).ok() }
}

/// Encodes a challenge for the line.
pub fn encode_challenge(challenge: &[u8]) -> String {
    STANDARD.encode(challenge)
}

/// A PLAIN message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plain<'a> {
    pub authzid: &'a str,
    pub authcid: &'a str,
    pub password: &'a str,
}

/// `message = [authzid] UTF8NUL authcid UTF8NUL passwd` (RFC 4616 §2); the last two are not empty.
pub fn parse_plain(message: &[u8]) -> Option<Plain<'_>> {
    let text = std::str::from_utf8(message).ok()?;
    let mut parts = text.split('\0');
    let plain = Plain { authzid: parts.next()?, authcid: parts.next()?, password: parts.next()? };
    (parts.next().is_none() && !plain.authcid.is_empty() && !plain.password.is_empty()).then_some(plain)
}

/// What the client's GS2 header says of channel binding (RFC 5802 §7, `gs2-cbind-flag`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// `n`: the client does not support it.
    None,
    /// `y`: the client does, and thinks that the server does not.
    ServerLacksIt,
    /// `p=`: the client insists.
    Required,
}

/// `client-first-message = gs2-header client-first-message-bare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramClientFirst<'a> {
    pub channel_binding: ChannelBinding,
    pub authzid: Option<String>,
    pub user: String,
    pub nonce: &'a str,
    /// The header with both commas, as it must come back in the final message.
    pub gs2_header: &'a str,
    /// The rest, which is part of what both sides sign.
    pub bare: &'a str,
}

pub fn parse_scram_client_first(message: &[u8]) -> Option<ScramClientFirst<'_>> {
    let text = std::str::from_utf8(message).ok().filter(|text| !text.contains('\0'))?;
    let (flag, rest) = text.split_once(',')?;
    let (authzid, bare) = rest.split_once(',')?;
    let channel_binding = match flag {
        "n" => ChannelBinding::None,
        "y" => ChannelBinding::ServerLacksIt,
        _ => flag.strip_prefix("p=").filter(|name| !name.is_empty()).map(|_| ChannelBinding::Required)?,
    };
    let authzid = match authzid {
        "" => None,
        authzid => Some(parse_saslname(authzid.strip_prefix("a=")?)?),
    };
    // A message that begins with "m=", a mandatory extension, has no "n=" there and is refused, as it must be.
    let (user, rest) = bare.strip_prefix("n=")?.split_once(',')?;
    let nonce = rest.split(',').next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
    let gs2_header = text.get(..text.len().checked_sub(bare.len())?)?;
    Some(ScramClientFirst { channel_binding, authzid, user: parse_saslname(user)?, nonce, gs2_header, bare })
}

/// `client-final-message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramClientFinal<'a> {
    /// The GS2 header again, and channel binding data if there were any.
    pub channel_binding: Vec<u8>,
    pub nonce: &'a str,
    pub proof: Vec<u8>,
    /// All before `,p=`, which is part of what both sides sign.
    pub without_proof: &'a str,
}

pub fn parse_scram_client_final(message: &[u8]) -> Option<ScramClientFinal<'_>> {
    let text = std::str::from_utf8(message).ok()?;
    let (without_proof, proof) = text.rsplit_once(",p=")?;
    let mut attributes = without_proof.split(',');
    let channel_binding = STANDARD.decode(attributes.next()?.strip_prefix("c=")?).ok()?;
    let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| is_nonce(nonce))?;
    Some(ScramClientFinal { channel_binding, nonce, proof: STANDARD.decode(proof).ok()?, without_proof })
}

/// `server-first-message`; the nonce is the client's and the server's together.
pub fn scram_server_first(nonce: &str, salt: &[u8], iterations: u32) -> String {
    format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt))
}

/// `server-final-message`, when the proof was right.
pub fn scram_server_final(verifier: &[u8]) -> String {
    format!("v={}", STANDARD.encode(verifier))
}

/// `saslname`: a comma is `=2C`, an equals sign `=3D`, and neither stands for itself.
fn parse_saslname(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('=') {
        name.push_str(before);
        let (c, after) = match (after.strip_prefix("2C"), after.strip_prefix("3D")) {
            (Some(after), _) => (',', after),
            (None, Some(after)) => ('=', after),
            (None, None) => return None,
        };
        name.push(c);
        rest = after;
    }
    name.push_str(rest);
    (!name.is_empty() && !text.contains([',', '\0'])).then_some(name)
}

/// `printable = %x21-2B / %x2D-7E`.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_has_three_parts_of_utf8() {
        let plain = parse_plain("\0ädä\0p w".as_bytes()).unwrap();
        assert_eq!((plain.authzid, plain.authcid, plain.password), ("", "ädä", "p w"));
        for message in [&b""[..], b"\0", b"\0\0", b"\0a\0", b"\0\0b", b"\0a\0b\0", b"a\0b", b"\0\xff\0b"] {
            assert!(parse_plain(message).is_none(), "{message:?}");
        }
    }

    #[test]
    fn a_scram_first_message_is_taken_apart() {
        let message = parse_scram_client_first(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL,x=ext").unwrap();
        assert_eq!(message.channel_binding, ChannelBinding::None);
        assert_eq!((message.user.as_str(), message.nonce), ("user", "fyko+d2lbbFgONRv9qkxdawL"));
        assert_eq!((message.gs2_header, message.bare), ("n,,", "n=user,r=fyko+d2lbbFgONRv9qkxdawL,x=ext"));
        let message = parse_scram_client_first(b"p=tls-exporter,a=b=2Cc,n==3D=3D,r=x").unwrap();
        assert_eq!(message.channel_binding, ChannelBinding::Required);
        assert_eq!((message.authzid.as_deref(), message.user.as_str()), (Some("b,c"), "=="));
        assert_eq!(message.gs2_header, "p=tls-exporter,a=b=2Cc,");
    }

    #[test]
    fn a_broken_scram_message_is_refused() {
        for message in [
            "",
            "n",
            "n,",
            "n,,",
            "x,,n=a,r=b",
            "p=,,n=a,r=b",
            "n,b,n=a,r=b",
            "n,,m=1,n=a,r=b",
            "n,,n=,r=b",
            "n,,n=a",
            "n,,n=a,r=",
            "n,,n=a=2c,r=b",
            "n,,n=a=,r=b",
            "n,,n=a,r=b c",
            "n,,n=a\0,r=b",
            "n,a=,n=a,r=b",
            "n,,r=b,n=a",
        ] {
            assert!(parse_scram_client_first(message.as_bytes()).is_none(), "{message:?}");
        }
        for message in
            ["", "c=biws", "c=biws,r=a", "c=biws,r=a,p=%", "c=%,r=a,p=AA==", "r=a,c=biws,p=AA==", ",p=AA=="]
        {
            assert!(parse_scram_client_final(message.as_bytes()).is_none(), "{message:?}");
        }
    }

    #[test]
    fn a_scram_final_message_gives_back_what_was_signed() {
        let message = parse_scram_client_final(b"c=biws,r=abc,x=y,p=AAEC").unwrap();
        assert_eq!((message.channel_binding.as_slice(), message.nonce), (&b"n,,"[..], "abc"));
        assert_eq!((message.proof.as_slice(), message.without_proof), (&[0, 1, 2][..], "c=biws,r=abc,x=y"));
        assert_eq!(scram_server_first("abcdef", b"salt", 4096), "r=abcdef,s=c2FsdA==,i=4096");
        assert_eq!(scram_server_final(b"\0\x01\x02"), "v=AAEC");
    }

    #[test]
    fn an_equals_sign_alone_is_an_empty_response() {
        assert_eq!(decode_response(b"="), Some(Vec::new()));
        assert_eq!(decode_response(b""), Some(Vec::new()));
        assert_eq!(decode_response(b"AGFkYQBwdw=="), Some(b"\0ada\0pw".to_vec()));
        for line in [&b"=="[..], b"*", b"AGFk YQ==", b"A", b"\xff"] {
            assert_eq!(decode_response(line), None, "{line:?}");
        }
        assert_eq!(encode_challenge(b"Username:"), "VXNlcm5hbWU6");
    }
}
