//! POP3 status lines with response codes (RFC 1939 §3, RFC 2449 §8, RFC 3206).

use bytes::BytesMut;

/// Longest status line with its line end (RFC 2449 §4).
const LINE_BYTES_MAX: usize = 512;

/// Why the answer is `-ERR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Another session holds the maildrop (RFC 2449 §8.1.2).
    InUse,
    /// The client logs in too often (RFC 2449 §8.1.1).
    LoginDelay,
    /// Trouble of ours that will pass (RFC 3206 §4).
    SysTemp,
    /// Trouble of ours that somebody must mend (RFC 3206 §4).
    SysPerm,
    /// The credentials are wrong (RFC 3206 §4).
    Auth,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "IN-USE",
            Self::LoginDelay => "LOGIN-DELAY",
            Self::SysTemp => "SYS/TEMP",
            Self::SysPerm => "SYS/PERM",
            Self::Auth => "AUTH",
        }
    }
}

/// One status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    ok: bool,
    code: Option<Code>,
    text: String,
}

impl Status {
    pub fn ok(text: impl Into<String>) -> Self {
        Self { ok: true, code: None, text: text.into() }
    }

    pub fn err(code: Option<Code>, text: impl Into<String>) -> Self {
        Self { ok: false, code, text: text.into() }
    }

    /// Appends the line. Whatever the text holds, one line comes out, not longer than allowed.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.extend_from_slice(if self.ok { b"+OK" } else { b"-ERR" });
        if let Some(code) = self.code {
            out.extend_from_slice(format!(" [{}]", code.as_str()).as_bytes());
        }
        if !self.text.is_empty() {
            out.extend_from_slice(b" ");
        }
        for character in self.text.chars() {
            if out.len() - start + character.len_utf8() > LINE_BYTES_MAX - 2 {
                break;
            }
            let shown = if character.is_control() { ' ' } else { character };
            out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a challenge: `+ ` and base64 (RFC 5034 §4).
pub fn continuation(challenge: &[u8], out: &mut BytesMut) {
    out.extend_from_slice(b"+ ");
    out.extend_from_slice(crate::sasl::encode_challenge(challenge).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(status: &Status) -> Vec<u8> {
        let mut out = BytesMut::from("before");
        status.encode(&mut out);
        out["before".len()..].to_vec()
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(encoded(&Status::ok("")), b"+OK\r\n");
        assert_eq!(encoded(&Status::ok("2 320")), b"+OK 2 320\r\n");
        assert_eq!(encoded(&Status::err(Some(Code::InUse), "busy")), b"-ERR [IN-USE] busy\r\n");
        assert_eq!(encoded(&Status::err(None, "a\r\n+OK b")), b"-ERR a  +OK b\r\n");
        let long = encoded(&Status::err(Some(Code::SysTemp), "é".repeat(1000)));
        assert!(long.len() <= 512 && long.ends_with(b"\r\n") && std::str::from_utf8(&long).is_ok());
    }

    #[test]
    fn challenges_are_base64() {
        let mut out = BytesMut::new();
        continuation(b"hi", &mut out);
        continuation(b"", &mut out);
        assert_eq!(&out[..], b"+ aGk=\r\n+ \r\n");
    }
}
